/**
 * Sends chunks on to the other replicas that the client named (D6), over connections that are kept. The first node sends to all
 * others itself: a put that was forwarded is never forwarded again, so nodes that wait for each other's memory cannot
 * form a circle, and one bad replica does not cost the next one.
 *
 * A replica that cannot be reached is an outcome, not an error: the local put counts all the same.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { BulkConnector, BulkTarget } from '@collective/protocol/bulk/connection';
import { BulkExchange, type PutRequest } from '@collective/protocol/bulk/exchange';
import { toFailure } from '@collective/protocol/errors/grpc-status';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import type { ArrivingFrames } from './arriving-frames.ts';

/** To one node. A chunk keeps a connection to itself while its frames arrive. */
const CONNECTIONS_PER_NODE_MAX = 8;
/** A node that moves no byte for so long has failed; the client is answered without it. */
const PROGRESS_WITHIN_MS = 10_000;
/** After a failed connection the node is not tried again for so long. */
const RETRY_AFTER_MS = 1_000;

interface Pooled {
  readonly exchange: Promise<BulkExchange>;
  sending: number;
}

interface Peer {
  readonly pool: Pooled[];
  failedAtMs: number;
  lastError: CollectiveError | undefined;
}

export class Forwarder implements AsyncDisposable {
  readonly #connector: BulkConnector;
  readonly #clock: Clock;
  readonly #program: string;
  readonly #peers = new Map<string, Peer>();
  readonly #closing = new AbortController();
  #routes = new Map<string, BulkTarget>();

  constructor(options: { connector: BulkConnector; clock: Clock; program: string }) {
    this.#connector = options.connector;
    this.#clock = options.clock;
    this.#program = options.program;
  }

  /** What the coordinator says about the member's nodes. */
  setRoutes(routes: readonly BulkTarget[]): void {
    this.#routes = new Map(routes.map((route) => [route.name, route]));
  }

  /** Never throws: what went wrong is in the outcome. */
  async put(node: string, request: PutRequest, source: ArrivingFrames, signal: AbortSignal): Promise<ReplicaOutcome> {
    try {
      const exchange = await this.#enter(node, signal);
      try {
        const [outcome] = await (await exchange.exchange).put({ ...request, forwardTo: [] }, source, { signal });
        if (outcome === undefined)
          throw new CollectiveError(
            'frame_invalid',
            `Forward chunk ${request.chunk} to ${node}: it answered no outcome`,
          );
        return { ...outcome, node };
      } finally {
        exchange.sending--;
      }
    } catch (error) {
      return {
        node,
        disk: '',
        incarnation: 0,
        sequence: 0,
        stable: false,
        failure: toFailure(error, `Forward chunk ${request.chunk} to ${node}`),
      };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new CollectiveError('shutting_down', 'Forward chunks: the node is stopping'));
    const pooled = [...this.#peers.values()].flatMap((peer) => peer.pool);
    for (const result of await Promise.allSettled(pooled.map((entry) => entry.exchange)))
      if (result.status === 'fulfilled') result.value.close();
  }

  async #enter(node: string, signal: AbortSignal): Promise<Pooled> {
    const peer = this.#peerOf(node);
    const idle = peer.pool.find((entry) => entry.sending === 0);
    const entry =
      idle ?? (peer.pool.length < CONNECTIONS_PER_NODE_MAX ? this.#connect(node, peer) : leastBusy(peer.pool));
    entry.sending++;
    try {
      await abortable(entry.exchange, signal);
      return entry;
    } catch (error) {
      entry.sending--;
      throw error;
    }
  }

  #peerOf(node: string): Peer {
    const peer = this.#peers.get(node) ?? { pool: [], failedAtMs: Number.NEGATIVE_INFINITY, lastError: undefined };
    this.#peers.set(node, peer);
    return peer;
  }

  #connect(node: string, peer: Peer): Pooled {
    if (this.#clock.bootMs() - peer.failedAtMs < RETRY_AFTER_MS && peer.lastError !== undefined) throw peer.lastError;
    const target = this.#routes.get(node);
    if (target === undefined)
      throw new CollectiveError('unavailable', `Forward to node ${node}: the coordinator has not told where it is`);
    const entry: Pooled = { exchange: this.#open(target), sending: 0 };
    peer.pool.push(entry);
    const forget = (): void => {
      const at = peer.pool.indexOf(entry);
      if (at >= 0) peer.pool.splice(at, 1);
    };
    entry.exchange.then(
      async (exchange) => {
        await exchange.closed;
        forget();
      },
      (error: unknown) => {
        forget();
        peer.failedAtMs = this.#clock.bootMs();
        peer.lastError =
          error instanceof CollectiveError
            ? error
            : new CollectiveError('unavailable', `Connect to node ${node}`, { cause: error });
      },
    );
    return entry;
  }

  async #open(target: BulkTarget): Promise<BulkExchange> {
    const { signal } = this.#closing;
    const connection = await this.#connector.connect(target, signal);
    return await BulkExchange.open(
      connection,
      { clock: this.#clock, program: this.#program, progressWithinMs: PROGRESS_WITHIN_MS },
      signal,
    );
  }
}

function leastBusy(pool: readonly Pooled[]): Pooled {
  return pool.reduce((best, entry) => (entry.sending < best.sending ? entry : best));
}

async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
