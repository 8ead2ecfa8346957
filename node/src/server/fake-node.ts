/** For tests only: a node on a fake disk and clock, reached over memory connections. */

import { FakeDisk, type FakeDiskOptions } from '@collective/base/disk/fake-disk';
import { CollectiveError } from '@collective/base/errors';
import type { FakeClock } from '@collective/base/fake-clock';
import { silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import type { BulkConnection, BulkConnector, BulkTarget } from '@collective/protocol/bulk/connection';
import { BulkExchange } from '@collective/protocol/bulk/exchange';
import { type MemoryPair, memoryConnectionPair } from '@collective/protocol/bulk/memory-connection';
import { FileChunkStore } from '../chunk-store/file-chunk-store.ts';
import { AccessControl, type BulkPeer } from './access-control.ts';
import { BulkService, type MemoryLimits } from './bulk-service.ts';
import { Forwarder } from './forwarder.ts';
import { NodeMetrics } from './node-metrics.ts';
import { PeerConnections } from './peer-connections.ts';
import type { ScratchCoordinator } from './scratch-node.ts';

export interface FakeNode {
  readonly name: string;
  readonly store: FileChunkStore;
  readonly service: BulkService;
  readonly metrics: NodeMetrics;
  readonly peers: PeerConnections;
  /** Connections of other nodes and clients to this one. */
  readonly pairs: MemoryPair[];
}

export class FakeMember {
  readonly clock: FakeClock;
  readonly coordinator: ScratchCoordinator;
  readonly #memory: MemoryLimits | undefined;
  readonly nodes = new Map<string, FakeNode>();

  constructor(clock: FakeClock, coordinator: ScratchCoordinator, memory?: MemoryLimits) {
    this.#memory = memory;
    this.clock = clock;
    this.coordinator = coordinator;
  }

  async addNode(name: string, diskOptions: Omit<FakeDiskOptions, 'clock'> = {}): Promise<FakeNode> {
    const { clock } = this;
    const disk = new FakeDisk({ ...diskOptions, clock });
    const store = await clock.finish(
      FileChunkStore.open({ disk, clock, random: new SeededRandom(1), capacityBytes: 8 * 2 ** 30 }),
    );
    const access = await clock.finish(AccessControl.open(disk, clock));
    await clock.finish(access.welcome(this.coordinator.welcome(name)));
    const peer: BulkPeer = { uri: `spiffe://alice.home/node/${name}`, role: 'node', name };
    const connector: BulkConnector = { connect: async (target) => this.dial(target.name, peer) };
    const peers = new PeerConnections({ connector, clock, program: name, connectionsPerNodeMax: 8 });
    const forwarder = new Forwarder(peers);
    const metrics = new NodeMetrics();
    const service = new BulkService({
      store,
      access,
      forwarder,
      node: name,
      metrics,
      clock,
      log: silentLog,
      ...(this.#memory === undefined ? {} : { memory: this.#memory }),
    });
    const node: FakeNode = { name, store, service, metrics, peers, pairs: [] };
    this.nodes.set(name, node);
    const routes: BulkTarget[] = [...this.nodes.keys()].map((known) => ({ name: known, host: known, port: 1 }));
    for (const known of this.nodes.values()) known.peers.setRoutes(routes);
    return node;
  }

  /** The dialling end of a new connection to a node. */
  dial(name: string, peer: BulkPeer): BulkConnection {
    const node = this.nodes.get(name);
    if (node === undefined) throw new CollectiveError('unavailable', `Connect to node ${name}: nobody listens`);
    const pair = memoryConnectionPair({ clock: this.clock, connectorName: peer.uri, acceptorName: name });
    node.pairs.push(pair);
    node.service.accept(pair.acceptor, peer);
    return pair.connector;
  }

  async exchange(name: string, peer: BulkPeer): Promise<BulkExchange> {
    const opening = BulkExchange.open(
      this.dial(name, peer),
      { clock: this.clock, program: 'test', progressWithinMs: 60_000 },
      new AbortController().signal,
    );
    return await this.clock.finish(opening);
  }
}
