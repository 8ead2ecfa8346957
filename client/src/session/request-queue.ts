/** Operations that wait to be sent, in order and within a bound. One that is given up stays where it is until the queue is swept. */
import type { PendingRequest } from './pending-request.ts';

/** Calls that wait for room; beyond that the caller is told `overloaded`. */
export const QUEUED_CALLS_MAX = 65_536;

export class RequestQueue {
  #requests: PendingRequest[] = [];
  #givenUp = 0;

  get isEmpty(): boolean {
    return this.#requests.length === 0;
  }

  get isFull(): boolean {
    return this.#requests.length >= QUEUED_CALLS_MAX;
  }

  add(request: PendingRequest): void {
    this.#requests.push(request);
  }

  addFirst(requests: readonly PendingRequest[]): void {
    this.#requests = [...requests, ...this.#requests];
  }

  take(count: number): PendingRequest[] {
    const taken: PendingRequest[] = [];
    let looked = 0;
    while (taken.length < count) {
      const request = this.#requests[looked];
      if (request === undefined) break;
      looked++;
      if (request.state === 'queued') taken.push(request);
      else this.#givenUp--;
    }
    this.#requests.splice(0, looked);
    return taken;
  }

  giveUp(request: PendingRequest): void {
    request.state = 'given-up';
    this.#givenUp++;
    if (this.#givenUp * 2 <= this.#requests.length) return;
    this.#requests = this.waiting();
    this.#givenUp = 0;
  }

  waiting(): PendingRequest[] {
    return this.#requests.filter((request) => request.state === 'queued');
  }

  clear(): void {
    this.#requests = [];
    this.#givenUp = 0;
  }
}
