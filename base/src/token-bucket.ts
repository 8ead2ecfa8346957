/**
 * Bytes per second for work that may wait: a second's worth may go at once, then as they come. Whoever asks waits in line;
 * a taker of more than a second's worth goes into debt, which those behind it wait out. The rate is looked up again and
 * again, so that who waits feels a change at once.
 */
import { type Clock, sleep } from './clock.ts';

/** A long wait is cut into pieces, after each of which the rate is looked up. */
const LOOK_EVERY_MS = 500;

export class TokenBucket {
  readonly #clock: Clock;
  readonly #bytesPerSecond: () => number;
  #bytes: number;
  #filledAtMs: number;
  #line: Promise<void> = Promise.resolve();

  constructor(options: { clock: Clock; bytesPerSecond: () => number }) {
    this.#clock = options.clock;
    this.#bytesPerSecond = options.bytesPerSecond;
    this.#bytes = options.bytesPerSecond();
    this.#filledAtMs = options.clock.bootMs();
  }

  /** Resolves when so many bytes may go. Throws the signal's reason; what it had waited for is then left to others. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const before = this.#line;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#line = promise;
    try {
      await before;
      for (;;) {
        signal.throwIfAborted();
        this.#fill();
        if (this.#bytes > 0) break;
        const untilFullMs = ((1 - this.#bytes) / this.#bytesPerSecond()) * 1000;
        await sleep(this.#clock, Math.min(LOOK_EVERY_MS, Math.ceil(untilFullMs)), signal);
      }
      this.#bytes -= bytes;
    } finally {
      resolve();
    }
  }

  #fill(): void {
    const nowMs = this.#clock.bootMs();
    const rate = this.#bytesPerSecond();
    this.#bytes = Math.min(rate, this.#bytes + ((nowMs - this.#filledAtMs) * rate) / 1000);
    this.#filledAtMs = nowMs;
  }
}
