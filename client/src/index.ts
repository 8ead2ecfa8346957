/** The door of the SDK: what a program outside this repository may import. */
export type * from './api.ts';
export { type ContextLocation, contextLocation } from './context/context-location.ts';
export { type ContextSettings, ContextStore, type ResolvedContext } from './context/context-store.ts';
