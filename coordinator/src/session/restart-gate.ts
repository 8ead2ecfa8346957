/**
 * After a start, mutations and grants wait until every recorded session that held promises has attached and sent again
 * what was lost, or one promise lease has passed (M6): until then such a client may still serve from its cache.
 */
import type { Clock, Timer } from '@collective/base/clock';
import type { SessionId } from '@collective/base/ids';
import { PROMISE_LEASE_MS } from '@collective/base/limits';

export class RestartGate {
  readonly #awaited: Set<SessionId>;
  #waiting: (() => void)[] = [];
  #timer: Timer | undefined;

  constructor(clock: Clock, awaited: Iterable<SessionId>) {
    this.#awaited = new Set(awaited);
    if (this.#awaited.size > 0) this.#timer = clock.setTimer(PROMISE_LEASE_MS, () => this.#open());
  }

  get open(): boolean {
    return this.#awaited.size === 0;
  }

  passed(): Promise<void> {
    return this.open ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The session has replayed, or has ended. */
  settled(session: SessionId): void {
    if (this.#awaited.delete(session) && this.open) this.#open();
  }

  close(): void {
    this.#timer?.cancel();
  }

  #open(): void {
    this.#timer?.cancel();
    this.#awaited.clear();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
