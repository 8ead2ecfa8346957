/**
 * Many short lines as few writes: what one turn of the event loop produces goes out together. A listing of a million
 * names is not a million system calls, and a search that finds one name in an hour shows it at once.
 */
import type { Clock } from '@collective/base/clock';
import { type Shell, writeOut } from '../shell.ts';

const BATCH_CHARACTERS = 64 * 1024;

export class BatchedOut {
  readonly #out: Shell['stdout'];
  readonly #clock: Clock;
  readonly #beforeWrite: () => void;
  #waiting = '';
  #isDue = false;
  #writing: Promise<void> = Promise.resolve();

  /** `beforeWrite`: takes a line of progress off the terminal that the output shares with it. */
  constructor({ stdout, clock }: Pick<Shell, 'stdout' | 'clock'>, beforeWrite: () => void = () => undefined) {
    this.#out = stdout;
    this.#clock = clock;
    this.#beforeWrite = beforeWrite;
  }

  /** Waits only while the reader is slow. Throws what an earlier write failed with. */
  async add(text: string): Promise<void> {
    this.#waiting += text;
    if (this.#waiting.length >= BATCH_CHARACTERS) {
      await this.flush();
    } else if (!this.#isDue) {
      this.#isDue = true;
      this.#clock.defer(() => {
        this.#isDue = false;
        // Its failure is met by the next to add or flush.
        this.flush().catch(() => undefined);
      });
    }
  }

  /** Resolves when all is written. */
  flush(): Promise<void> {
    const text = this.#waiting;
    this.#waiting = '';
    if (text !== '') {
      this.#writing = this.#writing.then(() => {
        this.#beforeWrite();
        return writeOut(this.#out, text);
      });
    }
    return this.#writing;
  }
}
