/**
 * The network between simulated processes: links for messages and bulk connections for bytes. Each stands for a TCP connection:
 * what it carries may be late, may stop for a while, or the connection breaks; within it nothing is lost or reordered. Messages
 * get lost when connections break and doubled when their senders send again.
 *
 * Nothing reaches a process that is dead or paused, and a dead one says nothing more. Who talks to a dead process notices soon after a SIGKILL (the kernel answers
 * with a reset) and late after a power loss (nobody answers).
 */
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { FakeClock, ProcessClock } from '@collective/base/fake-clock';
import { type Random, randomBelow, randomUnit } from '@collective/base/random';
import type { BulkConnection } from '@collective/protocol/bulk/connection';
import { type Direction, memoryConnectionPair } from '@collective/protocol/bulk/memory-connection';
import type { Link } from '@collective/protocol/link/link';
import { memoryLinkPair } from '@collective/protocol/link/memory-link';
import type { Trace } from './trace.ts';

/** A process as long as it lives. */
export interface Endpoint {
  readonly name: string;
  /** URI of its certificate. */
  readonly uri: string;
  readonly clock: ProcessClock;
}

/** How the messages of a link are written and read, so that both sides never share an object. */
export interface MessageCodec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

export interface LinkKind<Up, Down> {
  readonly name: string;
  readonly up: MessageCodec<Up>;
  readonly down: MessageCodec<Down>;
}

type Acceptor = (link: Link<unknown, unknown>, peer: Endpoint) => void;
type BulkAcceptor = (connection: BulkConnection, peer: Endpoint) => void;

const CONNECT_GIVEN_UP_MS = 5_000;
const SILENT_PEER_NOTICED_MS = 15_000;

interface Wire {
  readonly ends: readonly [Endpoint, Endpoint];
  readonly heldFor: Set<string>;
  hold(): void;
  release(): void;
  /** The end notices that the connection broke. */
  break(end: 0 | 1): void;
  over: boolean;
}

export class Network {
  readonly #clock: FakeClock;
  readonly #random: Random;
  readonly #trace: Trace;
  readonly #listeners = new Map<string, { endpoint: Endpoint; accept: Acceptor }>();
  readonly #bulkListeners = new Map<string, { endpoint: Endpoint; accept: BulkAcceptor }>();
  readonly #partitions = new Set<string>();
  /** Ends of broken connections that do not know it yet. */
  readonly #unnoticed = new Set<() => void>();
  #wires: Wire[] = [];

  constructor(options: { clock: FakeClock; random: Random; trace: Trace }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#trace = options.trace;
  }

  listen<Up, Down>(
    endpoint: Endpoint,
    kind: LinkKind<Up, Down>,
    accept: (link: Link<Down, Up>, peer: Endpoint) => void,
  ): void {
    this.#listeners.set(`${endpoint.name}/${kind.name}`, { endpoint, accept: accept as unknown as Acceptor });
  }

  listenBulk(endpoint: Endpoint, accept: BulkAcceptor): void {
    this.#bulkListeners.set(endpoint.name, { endpoint, accept });
  }

  async open<Up, Down>(
    from: Endpoint,
    to: string,
    kind: LinkKind<Up, Down>,
    signal: AbortSignal,
  ): Promise<Link<Up, Down>> {
    const listener = await this.#reach(from, to, this.#listeners, `${to}/${kind.name}`, signal);
    const pair = memoryLinkPair<Up, Down>({
      clock: this.#clock,
      name: `the link to ${to}`,
      onMessage: () => this.#delayMs(),
      copy: (side, message) => this.#copied(kind, side === 'left', message, from.name, to),
    });
    this.#wires.push({
      ends: [from, listener.endpoint],
      heldFor: new Set(),
      hold: () => pair.hold(),
      release: () => pair.release(),
      break: (end) => pair.cut(end === 0 ? 'left' : 'right'),
      over: false,
    });
    listener.accept(mortalLink(pair.right, listener.endpoint) as Link<unknown, unknown>, from);
    return mortalLink(pair.left, from);
  }

  async connectBulk(from: Endpoint, to: string, signal: AbortSignal): Promise<BulkConnection> {
    const listener = await this.#reach(from, to, this.#bulkListeners, to, signal);
    const lanes = { 'to-acceptor': new Lane(this.#clock), 'to-connector': new Lane(this.#clock) };
    const pair = memoryConnectionPair({
      clock: this.#clock,
      connectorName: from.name,
      acceptorName: to,
      network: {
        transmit: (direction: Direction, bytes: Buffer, deliver: () => void) => {
          this.#trace.mark(`${from.name} ${direction} ${to} ${bytes.length}`);
          lanes[direction].post(this.#delayMs() + bytes.length / 200_000, deliver);
        },
      },
    });
    const all = Object.values(lanes);
    this.#wires.push({
      ends: [from, listener.endpoint],
      heldFor: new Set(),
      hold: () => {
        for (const lane of all) lane.hold();
      },
      release: () => {
        for (const lane of all) lane.release();
      },
      break: (end) => {
        const error = new CollectiveError(
          'unavailable',
          `Exchange bulk frames between ${from.name} and ${to}: the connection broke`,
        );
        (end === 0 ? pair.connector : pair.acceptor).destroy(error);
      },
      over: false,
    });
    listener.accept(mortalConnection(pair.acceptor, listener.endpoint), from);
    return mortalConnection(pair.connector, from);
  }

  // ---- faults ----

  /** Nothing passes between the two for a while; what was sent arrives at the end of it. */
  partition(a: string, b: string, forMs: number): void {
    const key = partitionKey(a, b);
    this.#partitions.add(key);
    for (const wire of this.#wiresBetween(a, b)) this.#hold(wire, key);
    this.#clock.setTimer(forMs, () => {
      this.#partitions.delete(key);
      for (const wire of this.#wiresBetween(a, b)) this.#release(wire, key);
    });
  }

  /** All connections between the two break; both ends notice, one perhaps later. What was on its way is lost. */
  cut(a: string, b: string): void {
    for (const wire of this.#wiresBetween(a, b)) {
      this.#hold(wire, 'cut');
      wire.over = true;
      for (const end of [0, 1] as const) this.#breakLater(wire, end, randomUnit(this.#random) * 50);
    }
    this.#sweep();
  }

  pause(endpoint: Endpoint, forMs: number): void {
    endpoint.clock.pause(forMs);
    const key = `pause ${endpoint.name}`;
    for (const wire of this.#wires) if (wire.ends.includes(endpoint)) this.#hold(wire, key);
    this.#clock.setTimer(forMs, () => {
      if (endpoint.clock.paused) return;
      for (const wire of this.#wires) if (wire.ends.includes(endpoint)) this.#release(wire, key);
    });
  }

  /** The process is dead: it hears and says nothing more, but what it had sent still arrives. Its peers notice by and by. */
  died(endpoint: Endpoint, how: 'killed' | 'powerless'): void {
    for (const [key, listener] of this.#listeners) if (listener.endpoint === endpoint) this.#listeners.delete(key);
    for (const [key, listener] of this.#bulkListeners)
      if (listener.endpoint === endpoint) this.#bulkListeners.delete(key);
    for (const wire of this.#wires) {
      const at = wire.ends.indexOf(endpoint);
      if (at < 0) continue;
      wire.over = true;
      this.#breakLater(
        wire,
        at === 0 ? 1 : 0,
        how === 'killed' ? 1 + randomUnit(this.#random) * 20 : randomUnit(this.#random) * SILENT_PEER_NOTICED_MS,
      );
    }
    this.#sweep();
  }

  /** Everybody notices now which connections lead to a dead process. */
  noticeTheDead(): void {
    for (const notice of [...this.#unnoticed]) notice();
  }

  #breakLater(wire: Wire, end: 0 | 1, afterMs: number): void {
    const notice = (): void => {
      if (this.#unnoticed.delete(notice) && !wire.ends[end].clock.ended) wire.break(end);
    };
    this.#unnoticed.add(notice);
    this.#clock.setTimer(afterMs, notice);
  }

  #hold(wire: Wire, why: string): void {
    if (wire.heldFor.size === 0) wire.hold();
    wire.heldFor.add(why);
  }

  #release(wire: Wire, why: string): void {
    if (wire.heldFor.delete(why) && wire.heldFor.size === 0) wire.release();
  }

  #wiresBetween(a: string, b: string): Wire[] {
    return this.#wires.filter(
      ({ ends: [from, to] }) => (from.name === a && to.name === b) || (from.name === b && to.name === a),
    );
  }

  #sweep(): void {
    this.#wires = this.#wires.filter((wire) => !wire.over);
  }

  async #reach<L extends { endpoint: Endpoint }>(
    from: Endpoint,
    to: string,
    listeners: ReadonlyMap<string, L>,
    key: string,
    signal: AbortSignal,
  ): Promise<L> {
    await sleep(from.clock, this.#delayMs() * 2, signal);
    const askedAtMs = this.#clock.elapsedMs;
    while (this.#partitions.has(partitionKey(from.name, to)) || listeners.get(key)?.endpoint.clock.paused === true) {
      if (this.#clock.elapsedMs - askedAtMs > CONNECT_GIVEN_UP_MS)
        throw new CollectiveError('unavailable', `Connect ${from.name} to ${to}: no answer`);
      await sleep(from.clock, 100, signal);
    }
    const listener = listeners.get(key);
    if (listener === undefined)
      throw new CollectiveError('unavailable', `Connect ${from.name} to ${to}: connection refused`);
    return listener;
  }

  #copied<Up, Down>(kind: LinkKind<Up, Down>, isUp: boolean, message: unknown, from: string, to: string): unknown {
    const through = <T>(codec: MessageCodec<T>): T => {
      const bytes = codec.encode(message as T).finish();
      this.#trace.mark(`${from}${isUp ? '>' : '<'}${to} ${bytes.length}`);
      return codec.decode(bytes);
    };
    return isUp ? through(kind.up) : through(kind.down);
  }

  #delayMs(): number {
    const random = this.#random;
    const choice = randomBelow(random, 500);
    if (choice === 0) return 200 + randomUnit(random) * 2_000;
    if (choice < 10) return 5 + randomUnit(random) * 50;
    return 0.05 + randomUnit(random);
  }
}

function partitionKey(a: string, b: string): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`;
}

/** The end of a link that falls silent with its process. */
function mortalLink<Out, In>(link: Link<Out, In>, { clock }: Endpoint): Link<Out, In> {
  return {
    send: (message) => {
      if (!clock.ended) link.send(message);
    },
    drained: () => link.drained(),
    receive: async (signal) => {
      const message = await link.receive(signal);
      return clock.ended ? await never<In>() : message;
    },
    close: () => {
      if (!clock.ended) link.close();
    },
  };
}

function mortalConnection(connection: BulkConnection, { clock }: Endpoint): BulkConnection {
  return {
    peer: connection.peer,
    get queuedBytes() {
      return connection.queuedBytes;
    },
    listen: (handler) =>
      connection.listen({
        frame: (frame) => {
          if (!clock.ended) handler.frame(frame);
        },
        closed: (error) => {
          if (!clock.ended) handler.closed(error);
        },
      }),
    send: (parts, options) => clock.ended || connection.send(parts, options),
    drained: () => connection.drained(),
    pause: () => connection.pause(),
    resume: () => connection.resume(),
    close: () => {
      if (!clock.ended) connection.close();
    },
    destroy: (error) => {
      if (!clock.ended) connection.destroy(error);
    },
  };
}

function never<T>(): Promise<T> {
  return new Promise(() => undefined);
}

/** One direction of a bulk connection: in order, late, and held back while it must be. */
class Lane {
  readonly #clock: FakeClock;
  readonly #waiting: { readonly dueMs: number; readonly deliver: () => void }[] = [];
  #held = false;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  post(delayMs: number, deliver: () => void): void {
    const dueMs = Math.max(this.#clock.elapsedMs + delayMs, this.#waiting.at(-1)?.dueMs ?? 0);
    this.#waiting.push({ dueMs, deliver });
    this.#wake(dueMs);
  }

  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
    for (const { dueMs } of this.#waiting) this.#wake(dueMs);
  }

  #wake(dueMs: number): void {
    this.#clock.setTimer(dueMs - this.#clock.elapsedMs, () => {
      const [first] = this.#waiting;
      if (this.#held || first === undefined || first.dueMs > this.#clock.elapsedMs) return;
      this.#waiting.shift();
      first.deliver();
    });
  }
}
