/** Renewals of a session's leases (M6): which one is under way, since when, and who waits for its answer. */
import type { CollectiveError } from '@collective/base/errors';

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: CollectiveError) => void;
}

export class Renewals {
  #number = 0;
  #sentMs = 0;
  #answered = true;
  #waiters: Waiter[] = [];

  get sentMs(): number {
    return this.#sentMs;
  }

  get isUnderWay(): boolean {
    return !this.#answered;
  }

  /** Answers the number to send. */
  begin(nowMs: number): number {
    this.#sentMs = nowMs;
    this.#answered = false;
    return ++this.#number;
  }

  /** True if it is the answer to the last one; leases then run from `sentMs`. */
  end(number: number): boolean {
    if (number !== this.#number) return false;
    this.#answered = true;
    this.resolveAll();
    return true;
  }

  /** An attach renews as well, from when it was sent. */
  attached(sentMs: number): void {
    this.#sentMs = sentMs;
    this.#answered = true;
  }

  next(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  resolveAll(): void {
    for (const { resolve } of this.#take()) resolve();
  }

  rejectAll(error: CollectiveError): void {
    for (const { reject } of this.#take()) reject(error);
  }

  #take(): Waiter[] {
    const waiters = this.#waiters;
    this.#waiters = [];
    return waiters;
  }
}
