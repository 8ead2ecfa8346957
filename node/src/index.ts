export { type RunningNode, startNode } from './main.ts';
export type { AdvertisedAddress, ListenAddress, NodeOptions } from './options.ts';
