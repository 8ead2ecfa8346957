/** Who is not to be asked for a while because it failed: longer each time, until it succeeds. Bounded; the oldest is forgotten first. */
import type { Clock } from '@collective/base/clock';

export interface BackoffOptions {
  readonly clock: Clock;
  readonly firstMs: number;
  readonly longestMs: number;
  readonly entriesMax: number;
}

interface Entry {
  untilMs: number;
  readonly pauseMs: number;
  isTaken: boolean;
}

export class Backoffs<Key> {
  readonly #options: BackoffOptions;
  readonly #entries = new Map<Key, Entry>();

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** While it waits already it is the same trouble: what was tried at once fails together. */
  failed(key: Key): void {
    if (this.isWaiting(key)) return;
    const { clock, firstMs, longestMs, entriesMax } = this.#options;
    const before = this.#entries.get(key);
    const pauseMs = before === undefined ? firstMs : Math.min(longestMs, before.pauseMs * 2);
    this.#entries.delete(key);
    if (this.#entries.size >= entriesMax) this.#entries.delete(this.#entries.keys().next().value as Key);
    this.#entries.set(key, { untilMs: clock.bootMs() + pauseMs, pauseMs, isTaken: false });
  }

  succeeded(key: Key): void {
    this.#entries.delete(key);
  }

  isWaiting(key: Key): boolean {
    const entry = this.#entries.get(key);
    return entry !== undefined && this.#options.clock.bootMs() < entry.untilMs;
  }

  /** Those whose time is over, each once until it fails again. */
  takeDue(most: number): Key[] {
    const due: Key[] = [];
    const nowMs = this.#options.clock.bootMs();
    for (const [key, entry] of this.#entries) {
      if (due.length === most) break;
      if (entry.isTaken || entry.untilMs > nowMs) continue;
      entry.isTaken = true;
      due.push(key);
    }
    return due;
  }

  /** From now on, until the first is due; undefined when none waits. */
  get nextInMs(): number | undefined {
    let next: number | undefined;
    for (const { isTaken, untilMs } of this.#entries.values())
      if (!isTaken && (next === undefined || untilMs < next)) next = untilMs;
    return next === undefined ? undefined : Math.max(0, next - this.#options.clock.bootMs());
  }

  /** All may be asked again. */
  forgive(): void {
    for (const entry of this.#entries.values()) entry.untilMs = 0;
  }
}
