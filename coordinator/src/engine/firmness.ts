/**
 * Who waits for which log position (M4): nothing leaves before its ground is firm. Waiters are few per position and
 * positions come in order, so a map by position is all that is needed.
 */
import type { LogPosition } from '@collective/base/ids';

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Firmness {
  #reached: LogPosition;
  #failure: Error | undefined;
  readonly #waiting = new Map<LogPosition, Waiter[]>();

  constructor(reached: LogPosition) {
    this.#reached = reached;
  }

  get reached(): LogPosition {
    return this.#reached;
  }

  get anybodyWaits(): boolean {
    return this.#waiting.size > 0;
  }

  until(position: LogPosition): Promise<void> | undefined {
    if (position <= this.#reached) return undefined;
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      const waiters = this.#waiting.get(position);
      if (waiters === undefined) this.#waiting.set(position, [{ resolve, reject }]);
      else waiters.push({ resolve, reject });
    });
  }

  reach(position: LogPosition): void {
    this.#reached = position;
    for (const [waited, waiters] of this.#waiting) {
      if (waited > position) continue;
      this.#waiting.delete(waited);
      for (const { resolve } of waiters) resolve();
    }
  }

  fail(error: Error): void {
    this.#failure = error;
    for (const waiters of this.#waiting.values()) for (const { reject } of waiters) reject(error);
    this.#waiting.clear();
  }
}
