/**
 * What happened in a run, line by line with its virtual time. The hash over all lines is the identity of the run: the same seed
 * must give the same hash. Only the last lines are kept, for a person who looks at a failure.
 */
import { crc32 } from '@collective/base/crc';

const LINES_KEPT = 2_000;

export class Trace {
  readonly #elapsedMs: () => number;
  readonly #lines: string[] = [];
  #count = 0;
  #hash = 0;
  /** Called with each line as it comes. */
  onLine: ((line: string) => void) | undefined;

  constructor(elapsedMs: () => number) {
    this.#elapsedMs = elapsedMs;
  }

  add(who: string, what: string): void {
    const line = `${(this.#elapsedMs() / 1000).toFixed(6).padStart(11)} ${who.padEnd(12)} ${what}`;
    this.mark(line);
    this.#lines.push(line);
    if (this.#lines.length > LINES_KEPT) this.#lines.shift();
    this.onLine?.(line);
  }

  /** Counts for the hash without being shown: messages on the network. */
  mark(text: string): void {
    this.#count++;
    this.#hash = crc32(Buffer.from(text), this.#hash);
  }

  get hash(): string {
    return `${this.#count.toString(16)}-${this.#hash.toString(16).padStart(8, '0')}`;
  }

  last(count: number): string[] {
    return this.#lines.slice(-count);
  }
}
