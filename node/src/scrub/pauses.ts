/** Pauses of work that goes on for months: each ends early when what is waited for has changed. */
import { type Clock, sleep } from '@collective/base/clock';

/** Then whoever pauses looks again at the time: a wall clock can be set, and timers know no months. */
export const PAUSE_MS_MAX = 60 * 60 * 1000;

export class Pauses {
  readonly #clock: Clock;
  #changed = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Until the time is over, or `wake`. */
  async pause(delayMs: number): Promise<void> {
    await Promise.allSettled([sleep(this.#clock, Math.min(delayMs, PAUSE_MS_MAX), this.#changed.signal)]);
  }

  wake(): void {
    this.#changed.abort();
    this.#changed = new AbortController();
  }
}
