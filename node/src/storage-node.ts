/**
 * A storage node without sockets and files: everything that it does, on ports. `main.ts` gives it the real world, the
 * simulator a fake one. The store is open and verified before anything can be put or read.
 */
import type { Clock } from '@collective/base/clock';
import type { Disk } from '@collective/base/disk';
import type { CollectiveError } from '@collective/base/errors';
import { chunkIdToBytes } from '@collective/base/ids';
import { WIRE_VERSION } from '@collective/base/limits';
import { type Log, silentLog } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import type { BulkConnection, BulkConnector } from '@collective/protocol/bulk/connection';
import type { TrustBundle } from '@collective/protocol/gen/common';
import type { NodeReport } from '@collective/protocol/gen/node';
import type { ChunkStore } from './chunk-store/chunk-store.ts';
import { FileChunkStore } from './chunk-store/file-chunk-store.ts';
import { FirstReading } from './scrub/first-reading.ts';
import { Scrubber } from './scrub/scrubber.ts';
import { AccessControl, type BulkPeer } from './server/access-control.ts';
import { BlockFolder } from './server/block-folder.ts';
import { BulkService } from './server/bulk-service.ts';
import { ChunkFetcher, FETCH_CONNECTIONS_MAX } from './server/chunk-fetcher.ts';
import { CoordinatorLink, type NodeLink } from './server/coordinator-link.ts';
import { FORWARD_CONNECTIONS_MAX, Forwarder } from './server/forwarder.ts';
import { NodeMetrics } from './server/node-metrics.ts';
import { OrderTaker } from './server/order-taker.ts';
import { PeerConnections } from './server/peer-connections.ts';

export interface StorageNodeOptions {
  readonly name: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
  readonly capacityBytes: number;
  readonly reserveBytes?: number;
  readonly segmentBytes?: number;
  readonly version: string;
  /** Only the simulator puts something between a node and its chunk store. */
  adaptStore?(store: ChunkStore): ChunkStore;
  /** To other nodes. */
  readonly connector: BulkConnector;
  /** To the coordinator; throws when it cannot be reached. */
  connectCoordinator(signal: AbortSignal): Promise<NodeLink>;
  /** What the coordinator says of the member's roots (T6). */
  takeTrust?(told: TrustBundle): void;
  /** What a report says about the outside of the node; asked each time. */
  surroundings(): Pick<NodeReport, 'zone' | 'addresses' | 'bundleHash' | 'certificateExpires'>;
}

export class StorageNode implements AsyncDisposable {
  readonly store: ChunkStore;
  readonly metrics: NodeMetrics;
  readonly #options: StorageNodeOptions;
  readonly #access: AccessControl;
  readonly #scrubber: Scrubber;
  readonly #service: BulkService;
  readonly #coordinator: CoordinatorLink;
  readonly #leaving = new AbortController();
  readonly #parts: AsyncDisposableStack;
  #link: Promise<void> = Promise.resolve();

  /** Throws what opening the store throws. */
  static async open(options: StorageNodeOptions): Promise<StorageNode> {
    const { disk, clock, random, log = silentLog, capacityBytes, reserveBytes, segmentBytes } = options;
    await using parts = new AsyncDisposableStack();
    const opened = parts.use(
      await FileChunkStore.open({
        disk,
        clock,
        random,
        log,
        capacityBytes,
        ...(reserveBytes === undefined ? {} : { reserveBytes }),
        ...(segmentBytes === undefined ? {} : { segmentBytes }),
      }),
    );
    const store = options.adaptStore?.(opened) ?? opened;
    const source = opened.segmentVerifier;
    const damagedFound = (): number => opened.stats().damagedFound;
    const scrubber = parts.use(await Scrubber.open({ source, damagedFound, disk, clock, log }));
    const firstReading = parts.use(await FirstReading.open({ source, disk, clock, log }));
    const access = await AccessControl.open(disk, clock);
    return new StorageNode(options, log, { store, scrubber, firstReading, access }, parts.move());
  }

  private constructor(
    options: StorageNodeOptions,
    log: Log,
    opened: {
      readonly store: ChunkStore;
      readonly scrubber: Scrubber;
      readonly firstReading: FirstReading;
      readonly access: AccessControl;
    },
    parts: AsyncDisposableStack,
  ) {
    const { name, connector, clock, random, version } = options;
    const { store, scrubber, firstReading, access } = opened;
    this.#options = options;
    this.#access = access;
    this.#parts = parts;
    this.store = store;
    this.#scrubber = scrubber;
    this.metrics = new NodeMetrics();
    this.metrics.watchStore(store);
    this.metrics.watchScrub(scrubber, firstReading);
    const program = `node ${name} ${version}`;
    const peers = parts.use(
      new PeerConnections({ connector, clock, program, connectionsPerNodeMax: FORWARD_CONNECTIONS_MAX }),
    );
    // Of their own: what is copied in the background must not hold up what a client sends.
    const backgroundPeers = parts.use(
      new PeerConnections({ connector, clock, program, connectionsPerNodeMax: FETCH_CONNECTIONS_MAX }),
    );
    const forwarder = new Forwarder(peers);
    this.#service = new BulkService({ store, access, forwarder, node: name, metrics: this.metrics, clock, log });
    const connect = (signal: AbortSignal): Promise<NodeLink> => options.connectCoordinator(signal);
    this.#coordinator = new CoordinatorLink({
      connect,
      report: () => this.#report(),
      store,
      access,
      setRoutes: (routes) => {
        peers.setRoutes(routes);
        backgroundPeers.setRoutes(routes);
      },
      orders: new OrderTaker({
        clock,
        store,
        fetcher: new ChunkFetcher({ store, peers: backgroundPeers }),
        folder: new BlockFolder(store, backgroundPeers),
        node: name,
        log,
        scrubNow: () => scrubber.beginNow(),
      }),
      setScrubPeriod: (seconds) => {
        scrubber.setPeriod(seconds);
        firstReading.setPeriod(seconds);
      },
      ...(options.takeTrust === undefined ? {} : { takeTrust: options.takeTrust }),
      clock,
      random,
      log,
    });
  }

  get registered(): boolean {
    return this.#coordinator.registered;
  }

  /** Aborted with the reason when the node cannot go on: dispose it and end the process. */
  get failed(): AbortSignal {
    return this.store.failed;
  }

  get failure(): CollectiveError | undefined {
    return this.failed.aborted ? (this.failed.reason as CollectiveError) : undefined;
  }

  /** Registers with the coordinator and keeps in touch until the end. */
  join(): void {
    this.#link = this.#coordinator.run(this.#leaving.signal);
  }

  /** Takes over a bulk connection; its peer was checked to be of our member. */
  accept(connection: BulkConnection, peer: BulkPeer): void {
    this.#service.accept(connection, peer);
  }

  /** No new streams; those under way end within the time, then all connections are closed. */
  async drain(withinMs: number): Promise<void> {
    const deadline = new AbortController();
    const timer = this.#options.clock.setTimer(withinMs, () => deadline.abort());
    try {
      await this.#service.drain(deadline.signal);
    } finally {
      timer.cancel();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leaving.abort();
    await this.#link;
    await this.#parts.disposeAsync();
  }

  #report(): NodeReport {
    const { store } = this;
    const stats = store.stats();
    return {
      ...this.#options.surroundings(),
      disk: store.disk,
      incarnation: store.incarnation,
      capacityBytes: stats.capacityBytes,
      usedBytes: stats.usedBytes,
      freeBytes: stats.freeBytes,
      full: stats.full,
      stableSequence: store.stableSequence,
      chunkCount: stats.chunkCount,
      inventoryDigest: stats.inventoryDigest,
      version: this.#options.version,
      wireVersion: WIRE_VERSION,
      highestEpoch: this.#access.highestEpoch,
      time: this.#options.clock.now(),
      damaged: store.damaged.map(chunkIdToBytes),
      scrub: this.#scrubber.report(),
      deadBytes: stats.deadBytes,
    };
  }
}
