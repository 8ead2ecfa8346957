/** How fast something went in the last while, from a count that only grows. */
import type { Clock } from '@collective/base/clock';

const WINDOW_MS = 30_000;
const SAMPLES_MAX = 60;

export class PaceMeter {
  readonly #clock: Clock;
  #samples: { readonly atMs: number; readonly total: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** To be told now and then, also when nothing moves. */
  note(total: number): void {
    const atMs = this.#clock.bootMs();
    const kept = this.#samples.filter((sample) => atMs - sample.atMs <= WINDOW_MS).slice(-SAMPLES_MAX + 1);
    this.#samples = [...kept, { atMs, total }];
  }

  get perSecond(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.atMs === first.atMs) return 0;
    return ((last.total - first.total) * 1000) / (last.atMs - first.atMs);
  }
}
