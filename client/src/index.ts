/** The door of the SDK: what a program outside this repository may import. */
export type * from './api.ts';
