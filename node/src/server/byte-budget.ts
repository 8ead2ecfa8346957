/** A bound on bytes held at once, over all connections. Who finds no room waits, in order; room that is given back goes to the first. */
import { assert } from '@collective/base/assert';

interface Waiter {
  readonly bytes: number;
  readonly enter: () => void;
}

export class ByteBudget {
  readonly #bytesMax: number;
  readonly #onChange: (heldBytes: number) => void;
  #held = 0;
  #waiting: Waiter[] = [];

  /** `onChange` is told what is held, after each change. */
  constructor(bytesMax: number, onChange: (heldBytes: number) => void = ignoreChange) {
    this.#bytesMax = bytesMax;
    this.#onChange = onChange;
  }

  /** True if there was room at once. More than the whole budget is let in when nothing else is. */
  tryTake(bytes: number): boolean {
    if (this.#waiting.length > 0 || !this.#fits(bytes)) return false;
    this.#hold(bytes);
    return true;
  }

  /** Throws the signal's reason. */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.tryTake(bytes)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal.reason);
        this.#letIn();
      };
      const waiter: Waiter = {
        bytes,
        enter: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  giveBack(bytes: number): void {
    this.#hold(-bytes);
    assert(this.#held >= 0, 'no more is given back than was taken');
    this.#letIn();
  }

  #hold(bytes: number): void {
    this.#held += bytes;
    this.#onChange(this.#held);
  }

  #fits(bytes: number): boolean {
    return this.#held === 0 || this.#held + bytes <= this.#bytesMax;
  }

  #letIn(): void {
    for (let first = this.#waiting[0]; first !== undefined && this.#fits(first.bytes); first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#hold(first.bytes);
      first.enter();
    }
  }
}

function ignoreChange(): void {
  // Nobody watches.
}
