/** All bulk connections of a node: which peers may open one, what memory they share, and their end when the node stops. */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import type { BulkConnection } from '@collective/protocol/bulk/connection';
import { encodeControlFrame } from '@collective/protocol/bulk/frame';
import { toFailure } from '@collective/protocol/errors/grpc-status';
import { Failure } from '@collective/protocol/gen/common';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';
import type { AccessControl, BulkPeer } from './access-control.ts';
import { BulkSession } from './bulk-session.ts';
import { ByteBudget } from './byte-budget.ts';
import type { Forwarder } from './forwarder.ts';
import type { NodeMetrics } from './node-metrics.ts';
import { ReadBuffers } from './read-buffers.ts';

const MiB = 1024 * 1024;
/**
 * Puts of clients and of nodes have memory of their own: a client's put may wait for another node's memory, a forwarded one
 * waits only for this disk, so no circle of nodes can wait for each other.
 */
export const MEMORY_LIMITS = {
  clientPutBytes: 64 * MiB,
  nodePutBytes: 32 * MiB,
  readBytes: 64 * MiB,
  /** Of `readBytes`, for one connection: a peer that takes nothing holds no more. */
  readBytesPerConnection: 4 * MiB,
} as const;
/** In hand for the next puts (4 MiB each) and reads (1 MiB each). */
const CHUNKS_KEPT_MAX = 12;
const READS_KEPT_MAX = 16;

export type MemoryLimits = { readonly [Name in keyof typeof MEMORY_LIMITS]: number };

const ROLES: readonly string[] = ['client', 'user', 'node'];

export interface BulkServiceOptions {
  readonly store: ChunkStore;
  readonly access: AccessControl;
  readonly forwarder: Forwarder;
  readonly node: string;
  readonly metrics: NodeMetrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly memory?: MemoryLimits;
}

export class BulkService {
  readonly #options: BulkServiceOptions;
  readonly #memory: MemoryLimits;
  readonly #clientPuts: ByteBudget;
  readonly #nodePuts: ByteBudget;
  readonly #reads: ByteBudget;
  readonly #putBuffers = new ChunkBuffers(CHUNKS_KEPT_MAX);
  readonly #readBuffers = new ReadBuffers(READS_KEPT_MAX);
  readonly #sessions = new Set<BulkSession>();

  constructor(options: BulkServiceOptions) {
    this.#options = options;
    this.#memory = options.memory ?? MEMORY_LIMITS;
    const { bufferedBytes } = options.metrics;
    this.#clientPuts = new ByteBudget(this.#memory.clientPutBytes, (bytes) =>
      bufferedBytes.set({ from: 'clients' }, bytes),
    );
    this.#nodePuts = new ByteBudget(this.#memory.nodePutBytes, (bytes) => bufferedBytes.set({ from: 'nodes' }, bytes));
    this.#reads = new ByteBudget(this.#memory.readBytes);
  }

  /** Takes over a connection whose peer is of our own member. */
  accept(connection: BulkConnection, peer: BulkPeer): void {
    const { log, metrics } = this.#options;
    if (!ROLES.includes(peer.role)) {
      const error = new CollectiveError(
        'permission_denied',
        `Accept a bulk connection of ${peer.uri}: its role is ${peer.role}`,
      );
      log.warn({ peer: peer.uri }, 'bulk peer has no business here');
      connection.send([
        encodeControlFrame('FAILURE', 0, Failure.encode(toFailure(error, 'Accept a bulk connection')).finish()),
      ]);
      connection.close();
      return;
    }
    const session = new BulkSession({
      ...this.#options,
      connection,
      peer,
      putBudget: peer.role === 'node' ? this.#nodePuts : this.#clientPuts,
      putBuffers: this.#putBuffers,
      readBudget: this.#reads,
      readBuffers: this.#readBuffers,
      ownReadBudget: new ByteBudget(this.#memory.readBytesPerConnection),
      onClosed: () => {
        this.#sessions.delete(session);
        metrics.connections.set(this.#sessions.size);
      },
    });
    this.#sessions.add(session);
    metrics.connections.set(this.#sessions.size);
  }

  /** Streams under way may finish until the signal is aborted; then all connections are closed. */
  async drain(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#sessions].map((session) => session.drain(signal)));
  }
}
