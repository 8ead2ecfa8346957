/**
 * Connections of a node to the other nodes of its member, kept open and shared: few a peer, the idle one first. A peer that
 * could not be reached is left alone for a moment, so that many chunks do not each wait for it.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { BulkConnector, BulkTarget } from '@collective/protocol/bulk/connection';
import { BulkExchange } from '@collective/protocol/bulk/exchange';

/** A node that moves no byte for so long has failed. */
const PROGRESS_WITHIN_MS = 10_000;
/** After a failed connection the node is not tried again for so long. */
const RETRY_AFTER_MS = 1_000;

interface Pooled {
  readonly exchange: Promise<BulkExchange>;
  /** When it is connected. */
  opened: BulkExchange | undefined;
  users: number;
}

interface Peer {
  readonly pool: Pooled[];
  failedAtMs: number;
  lastError: CollectiveError | undefined;
}

export interface PeerConnectionOptions {
  readonly connector: BulkConnector;
  readonly clock: Clock;
  /** Name and version, for the other side's log. */
  readonly program: string;
  readonly connectionsPerNodeMax: number;
}

export class PeerConnections implements AsyncDisposable {
  readonly #options: PeerConnectionOptions;
  readonly #peers = new Map<string, Peer>();
  readonly #closing = new AbortController();
  #routes = new Map<string, BulkTarget>();

  constructor(options: PeerConnectionOptions) {
    this.#options = options;
  }

  /** What the coordinator says about the member's nodes. */
  setRoutes(routes: readonly BulkTarget[]): void {
    this.#routes = new Map(routes.map((route) => [route.name, route]));
  }

  /** Throws `unavailable` when the node cannot be reached, what `act` throws, or the signal's reason. */
  async use<T>(node: string, signal: AbortSignal, act: (exchange: BulkExchange) => Promise<T>): Promise<T> {
    const entry = await this.#enter(node, signal);
    try {
      return await act(await entry.exchange);
    } finally {
      entry.users--;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new CollectiveError('shutting_down', 'Talk to other nodes: the node is stopping'));
    const pooled = [...this.#peers.values()].flatMap((peer) => peer.pool);
    for (const result of await Promise.allSettled(pooled.map((entry) => entry.exchange)))
      if (result.status === 'fulfilled') result.value.close();
  }

  async #enter(node: string, signal: AbortSignal): Promise<Pooled> {
    const peer = this.#peerOf(node);
    // One that is to be given up (T6) serves what is under way, and takes nothing more.
    const usable = peer.pool.filter(({ opened }) => opened?.isOpen ?? true);
    const idle = usable.find((entry) => entry.users === 0);
    const entry =
      idle ?? (usable.length < this.#options.connectionsPerNodeMax ? this.#connect(node, peer) : leastBusy(usable));
    entry.users++;
    try {
      await abortable(entry.exchange, signal);
      return entry;
    } catch (error) {
      entry.users--;
      throw error;
    }
  }

  #peerOf(node: string): Peer {
    const peer = this.#peers.get(node) ?? { pool: [], failedAtMs: Number.NEGATIVE_INFINITY, lastError: undefined };
    this.#peers.set(node, peer);
    return peer;
  }

  #connect(node: string, peer: Peer): Pooled {
    if (this.#options.clock.bootMs() - peer.failedAtMs < RETRY_AFTER_MS && peer.lastError !== undefined)
      throw peer.lastError;
    const target = this.#routes.get(node);
    if (target === undefined)
      throw new CollectiveError('unavailable', `Connect to node ${node}: the coordinator has not told where it is`);
    const entry: Pooled = { exchange: this.#open(target), opened: undefined, users: 0 };
    peer.pool.push(entry);
    const forget = (): void => {
      const at = peer.pool.indexOf(entry);
      if (at >= 0) peer.pool.splice(at, 1);
    };
    entry.exchange.then(
      async (exchange) => {
        entry.opened = exchange;
        await exchange.closed;
        forget();
      },
      (error: unknown) => {
        forget();
        peer.failedAtMs = this.#options.clock.bootMs();
        peer.lastError =
          error instanceof CollectiveError
            ? error
            : new CollectiveError('unavailable', `Connect to node ${node}`, { cause: error });
      },
    );
    return entry;
  }

  async #open(target: BulkTarget): Promise<BulkExchange> {
    const { connector, clock, program } = this.#options;
    const { signal } = this.#closing;
    const connection = await connector.connect(target, signal);
    return await BulkExchange.open(connection, { clock, program, progressWithinMs: PROGRESS_WITHIN_MS }, signal);
  }
}

function leastBusy(pool: readonly Pooled[]): Pooled {
  return pool.reduce((best, entry) => (entry.users < best.users ? entry : best));
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
