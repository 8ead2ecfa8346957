/**
 * Connections to the nodes: few per node, reused, closed when idle. Also what is known of the nodes' health: the
 * coordinator's routes and, sooner, our own failures, so that a node that just failed is asked last for a while.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { BulkConnector } from '@collective/protocol/bulk/connection';
import { BulkExchange } from '@collective/protocol/bulk/exchange';
import { type NodeRoute, NodeState } from '@collective/protocol/gen/common';
import { abortable } from '../abortable.ts';

/** A second connection lets the next chunk leave while the first waits for its disk. */
const CONNECTIONS_PER_NODE_MAX = 2;
/** Streams on a connection before another is opened. */
const STREAMS_BEFORE_NEXT = 4;
const IDLE_CLOSE_MS = 60_000;
const LOOK_EVERY_MS = 10_000;
const AVOID_FIRST_MS = 500;
const AVOID_MAX_MS = 10_000;

interface NodeEntry {
  route: NodeRoute | undefined;
  exchanges: BulkExchange[];
  opening: Promise<BulkExchange> | undefined;
  failures: number;
  avoidUntilMs: number;
}

export class BulkPool implements Disposable {
  readonly #clock: Clock;
  readonly #connector: BulkConnector;
  readonly #program: string;
  readonly #nodes = new Map<string, NodeEntry>();
  readonly #stop = new AbortController();
  #timer: Timer | undefined;

  constructor(options: { clock: Clock; connector: BulkConnector; program: string }) {
    this.#clock = options.clock;
    this.#connector = options.connector;
    this.#program = options.program;
  }

  /** The coordinator's view, as a whole. */
  setRoutes(routes: readonly NodeRoute[]): void {
    if (routes.length === 0) return;
    const named = new Set(routes.map((route) => route.name));
    for (const [name, entry] of this.#nodes) if (!named.has(name)) entry.route = undefined;
    for (const route of routes) {
      const entry = this.#entry(route.name);
      const moved = entry.route?.host !== route.host || entry.route.port !== route.port;
      // What waits for a node that the coordinator has given up need not wait for its own deadline.
      const wentAway = route.state === NodeState.AWAY && entry.route?.state !== NodeState.AWAY;
      if (entry.route !== undefined && (moved || wentAway)) this.#forget(entry);
      entry.route = route;
    }
  }

  /** Nodes that take new chunks, by the coordinator's word. */
  ready(): string[] {
    return [...this.#nodes].filter(([, { route }]) => route?.state === NodeState.READY).map(([name]) => name);
  }

  /** Takes no new chunks, by an administrator's word, and serves what it has. */
  isClosed(node: string): boolean {
    return this.#nodes.get(node)?.route?.state === NodeState.CLOSED;
  }

  someAway(): boolean {
    return [...this.#nodes.values()].some(({ route }) => route?.state === NodeState.AWAY);
  }

  /** Failed here a moment ago, or away by the coordinator's word. */
  isAvoided(node: string): boolean {
    const entry = this.#nodes.get(node);
    if (entry === undefined) return false;
    return entry.route?.state === NodeState.AWAY || this.#clock.bootMs() < entry.avoidUntilMs;
  }

  /** Its label, by the coordinator's word; empty for none. */
  zone(node: string): string {
    return this.#nodes.get(node)?.route?.zone ?? '';
  }

  /** Streams under way to the node: the less, the sooner it answers. */
  load(node: string): number {
    return this.#nodes.get(node)?.exchanges.reduce((sum, { activeStreams }) => sum + activeStreams, 0) ?? 0;
  }

  succeeded(node: string): void {
    const entry = this.#entry(node);
    entry.failures = 0;
    entry.avoidUntilMs = 0;
  }

  failed(node: string): void {
    const entry = this.#entry(node);
    entry.avoidUntilMs = this.#clock.bootMs() + Math.min(AVOID_FIRST_MS * 2 ** entry.failures, AVOID_MAX_MS);
    entry.failures++;
  }

  /** A connection to the node, open and greeted. Throws `unavailable` and its like, or the signal's reason. */
  async exchange(node: string, signal: AbortSignal): Promise<BulkExchange> {
    signal.throwIfAborted();
    this.#stop.signal.throwIfAborted();
    const entry = this.#entry(node);
    entry.exchanges = entry.exchanges.filter((exchange) => exchange.isOpen);
    const best = entry.exchanges.reduce<BulkExchange | undefined>(
      (least, exchange) => (least === undefined || exchange.activeStreams < least.activeStreams ? exchange : least),
      undefined,
    );
    const isBusy = best !== undefined && best.activeStreams >= STREAMS_BEFORE_NEXT;
    const mayOpen = entry.exchanges.length < CONNECTIONS_PER_NODE_MAX;
    if (best !== undefined && !(isBusy && mayOpen && entry.opening === undefined)) return best;
    entry.opening ??= this.#open(node, entry).finally(() => {
      entry.opening = undefined;
    });
    if (best !== undefined) {
      // The one at hand serves meanwhile; if the second cannot be had, its users will tell.
      entry.opening.catch(() => undefined);
      return best;
    }
    return await abortable(entry.opening, signal);
  }

  [Symbol.dispose](): void {
    this.#stop.abort(new CollectiveError('interrupted', 'Use the connections of a session that was closed'));
    this.#timer?.cancel();
    for (const entry of this.#nodes.values()) this.#forget(entry);
  }

  async #open(node: string, entry: NodeEntry): Promise<BulkExchange> {
    const { route } = entry;
    if (route === undefined)
      throw new CollectiveError('unavailable', `Reach node ${node}: the coordinator names no address of it for us`);
    const target = { name: node, host: route.host, port: route.port };
    const connection = await this.#connector.connect(target, this.#stop.signal);
    const options = { clock: this.#clock, program: this.#program };
    const exchange = await BulkExchange.open(connection, options, this.#stop.signal);
    entry.exchanges.push(exchange);
    this.#look();
    return exchange;
  }

  #look(): void {
    this.#timer ??= this.#clock.setTimer(
      LOOK_EVERY_MS,
      () => {
        this.#timer = undefined;
        const nowMs = this.#clock.bootMs();
        let left = 0;
        for (const entry of this.#nodes.values()) {
          for (const exchange of entry.exchanges) {
            if (exchange.idleSinceMs !== undefined && nowMs - exchange.idleSinceMs > IDLE_CLOSE_MS) exchange.close();
          }
          entry.exchanges = entry.exchanges.filter((exchange) => exchange.isOpen);
          left += entry.exchanges.length;
        }
        if (left > 0) this.#look();
      },
      { background: true },
    );
  }

  #forget(entry: NodeEntry): void {
    for (const exchange of entry.exchanges) exchange.close();
    entry.exchanges = [];
  }

  #entry(node: string): NodeEntry {
    let entry = this.#nodes.get(node);
    if (entry === undefined) {
      entry = { route: undefined, exchanges: [], opening: undefined, failures: 0, avoidUntilMs: 0 };
      this.#nodes.set(node, entry);
    }
    return entry;
  }
}
