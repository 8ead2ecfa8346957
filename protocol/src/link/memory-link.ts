/**
 * Two ends of a link in one process, driven by a Clock, for the simulator and for tests. It stands for one TCP connection:
 * messages may be late, all of them may stop, and the link may break at either end at different times, but within a link
 * nothing is lost, doubled or reordered. Loss and doubles come from broken links and from senders that send again.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { Inbox } from './inbox.ts';
import type { Link } from './link.ts';

/** Messages on the way or unread above which a sender waits in `drained`. */
const HIGH_WATER_MESSAGES = 64;

export type LinkSide = 'left' | 'right';

export interface MemoryLinkOptions {
  readonly clock: Clock;
  /** Names the link in errors. */
  readonly name?: string;
  /** How long a message is on its way; 'cut' breaks the link instead. Default: no delay, the next turn. */
  readonly onMessage?: (from: LinkSide, message: unknown) => number | 'cut';
  /** Copies each message as the wire would; by default both sides share it. */
  readonly copy?: (from: LinkSide, message: unknown) => unknown;
}

export interface MemoryLinkPair<LeftOut, RightOut> {
  readonly left: Link<LeftOut, RightOut>;
  readonly right: Link<RightOut, LeftOut>;
  /** Nothing arrives until `release`; both ends believe that the link stands. */
  hold(): void;
  release(): void;
  /** One end (or both) notices that the link broke; what is on its way is lost. The other end sends into the void. */
  cut(side?: LinkSide): void;
}

export function memoryLinkPair<LeftOut, RightOut>(options: MemoryLinkOptions): MemoryLinkPair<LeftOut, RightOut> {
  const name = options.name ?? 'memory link';
  const left = new MemoryEnd('left', options, name);
  const right = new MemoryEnd('right', options, name);
  left.connect(right);
  right.connect(left);
  return {
    left: left as Link<LeftOut, RightOut>,
    right: right as Link<RightOut, LeftOut>,
    hold: () => {
      left.hold();
      right.hold();
    },
    release: () => {
      left.release();
      right.release();
    },
    cut: (side) => {
      if (side !== 'right') left.cut();
      if (side !== 'left') right.cut();
    },
  };
}

/** What is on its way: a message, or the news that the sender closed. */
type Parcel = { dueMs: number; message: unknown } | { dueMs: number; closes: true };

class MemoryEnd implements Link<unknown, unknown> {
  readonly #side: LinkSide;
  readonly #options: MemoryLinkOptions;
  readonly #name: string;
  readonly #inbox = new Inbox<unknown>(() => this.#peer?.releaseWaiters());
  #peer: MemoryEnd | undefined;
  /** Parcels to the peer, in order. */
  #onTheWay: Parcel[] = [];
  #timer: Timer | undefined;
  #deferred = false;
  #held = false;
  #open = true;
  #waiters: (() => void)[] = [];

  constructor(side: LinkSide, options: MemoryLinkOptions, name: string) {
    this.#side = side;
    this.#options = options;
    this.#name = name;
  }

  connect(peer: MemoryEnd): void {
    this.#peer = peer;
  }

  send(message: unknown): void {
    if (!this.#open) return;
    const fate = this.#options.onMessage?.(this.#side, message) ?? 0;
    if (fate === 'cut') {
      this.cut();
      this.#peer?.cut();
      return;
    }
    const copied = this.#options.copy === undefined ? message : this.#options.copy(this.#side, message);
    this.#post({ dueMs: this.#dueMs(fate), message: copied });
  }

  drained(): Promise<void> {
    if (!this.#open || this.#backlog() < HIGH_WATER_MESSAGES) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  receive(signal?: AbortSignal): Promise<unknown> {
    return this.#inbox.receive(signal);
  }

  close(): void {
    if (!this.#open) return;
    this.#post({ dueMs: this.#dueMs(0), closes: true });
    this.#stop();
    this.#inbox.closeHere();
  }

  hold(): void {
    this.#held = true;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  release(): void {
    this.#held = false;
    this.#deliverSoon();
  }

  /** This end notices that the link broke. */
  cut(): void {
    this.#stop();
    this.#onTheWay = [];
    this.#inbox.break(new CollectiveError('unavailable', `Use ${this.#name}: the link broke`));
  }

  releaseWaiters(): void {
    if (this.#open && this.#backlog() >= HIGH_WATER_MESSAGES) return;
    const released = this.#waiters;
    this.#waiters = [];
    for (const resolve of released) resolve();
  }

  #stop(): void {
    this.#open = false;
    this.releaseWaiters();
  }

  #backlog(): number {
    return this.#onTheWay.length + (this.#peer === undefined ? 0 : this.#peer.#inbox.waiting);
  }

  /** Never before a parcel that was sent earlier. */
  #dueMs(delayMs: number): number {
    return Math.max(this.#options.clock.bootMs() + delayMs, this.#onTheWay.at(-1)?.dueMs ?? 0);
  }

  #post(parcel: Parcel): void {
    this.#onTheWay.push(parcel);
    if (this.#timer === undefined) this.#deliverSoon();
  }

  #deliverSoon(): void {
    const [next] = this.#onTheWay;
    if (next === undefined || this.#held || this.#deferred) return;
    const waitMs = next.dueMs - this.#options.clock.bootMs();
    if (waitMs > 0) {
      this.#timer ??= this.#options.clock.setTimer(waitMs, () => {
        this.#timer = undefined;
        this.#deliver();
      });
      return;
    }
    this.#deferred = true;
    this.#options.clock.defer(() => {
      this.#deferred = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const peer = this.#peer;
    if (peer === undefined || this.#held) return;
    const nowMs = this.#options.clock.bootMs();
    while ((this.#onTheWay[0]?.dueMs ?? Number.POSITIVE_INFINITY) <= nowMs) {
      const parcel = this.#onTheWay.shift();
      if (parcel === undefined) break;
      if ('closes' in parcel) {
        peer.#stop();
        peer.#inbox.close();
      } else peer.#inbox.push(parcel.message);
    }
    this.releaseWaiters();
    this.#deliverSoon();
  }
}
