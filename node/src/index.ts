export { type RunningNode, startNode } from './main.ts';
export type { AdvertisedAddress, ListenAddress, NodeOptions } from './options.ts';
export { StorageNode, type StorageNodeOptions } from './storage-node.ts';
