/**
 * What arrived on a link and was not read yet, and how the link ended. Messages come out before the end does; there is one
 * reader at a time.
 */
import { assert } from '@collective/base/assert';

type End = { kind: 'closed' } | { kind: 'broken'; error: unknown };

interface Reader<T> {
  resolve(message: T | undefined): void;
  reject(error: unknown): void;
}

export class Inbox<T> {
  readonly #onTaken: (waiting: number) => void;
  #messages: T[] = [];
  /** Index of the oldest message in `#messages`: taking one off the front of an array would move all others. */
  #head = 0;
  #reader: Reader<T> | undefined;
  #end: End | undefined;

  /** `onTaken` is told how many messages still wait after one was read. */
  constructor(onTaken: (waiting: number) => void = () => undefined) {
    this.#onTaken = onTaken;
  }

  get waiting(): number {
    return this.#messages.length - this.#head;
  }

  get ended(): boolean {
    return this.#end !== undefined;
  }

  push(message: T): void {
    if (this.#end !== undefined) return;
    const reader = this.#reader;
    if (reader === undefined) {
      this.#messages.push(message);
      return;
    }
    this.#reader = undefined;
    reader.resolve(message);
    this.#onTaken(0);
  }

  /** The other side closed in order. */
  close(): void {
    this.#finish({ kind: 'closed' });
  }

  break(error: unknown): void {
    this.#finish({ kind: 'broken', error });
  }

  /** This side closed: what was not read is not wanted any more. */
  closeHere(): void {
    this.#messages = [];
    this.#head = 0;
    this.#end = undefined;
    this.#finish({ kind: 'closed' });
  }

  receive(signal?: AbortSignal): Promise<T | undefined> {
    assert(this.#reader === undefined, 'a link has one reader at a time');
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.waiting > 0) return Promise.resolve(this.#take());
    if (this.#end !== undefined)
      return this.#end.kind === 'closed' ? Promise.resolve(undefined) : Promise.reject(this.#end.error);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#reader = undefined;
        reject(signal?.reason);
      };
      const forget = (): void => signal?.removeEventListener('abort', onAbort);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#reader = {
        resolve: (message) => {
          forget();
          resolve(message);
        },
        reject: (error) => {
          forget();
          reject(error);
        },
      };
    });
  }

  #take(): T | undefined {
    const message = this.#messages[this.#head++];
    if (this.#head > 1_024 && this.#head * 2 > this.#messages.length) {
      this.#messages = this.#messages.slice(this.#head);
      this.#head = 0;
    }
    this.#onTaken(this.waiting);
    return message;
  }

  #finish(end: End): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    const reader = this.#reader;
    this.#reader = undefined;
    if (end.kind === 'closed') reader?.resolve(undefined);
    else reader?.reject(end.error);
  }
}
