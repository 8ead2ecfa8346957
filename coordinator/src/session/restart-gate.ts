/**
 * After a start, mutations and grants wait until every recorded session that held promises has attached and sent again
 * what was lost, or one promise lease has passed (M6): until then such a client may still serve from its cache.
 *
 * The lease is counted in steps, each of which begins when the one before has ended: a coordinator that stood still after its start
 * (a stalled disk, a stopped machine) was not there for its clients meanwhile, and what they sent is taken before the gate opens.
 */
import type { Clock, Timer } from '@collective/base/clock';
import type { SessionId } from '@collective/base/ids';
import { PROMISE_LEASE_MS } from '@collective/base/limits';

const STEP_MS = 1_000;

export class RestartGate {
  readonly #clock: Clock;
  readonly #awaited: Set<SessionId>;
  readonly #waiting = new Set<() => void>();
  #timer: Timer | undefined;

  constructor(clock: Clock, awaited: Iterable<SessionId>) {
    this.#clock = clock;
    this.#awaited = new Set(awaited);
    if (this.#awaited.size > 0) this.#wait(PROMISE_LEASE_MS);
  }

  get open(): boolean {
    return this.#awaited.size === 0;
  }

  /** Resolves when the gate is open; rejects with the signal's reason. */
  async passed(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.open) return;
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void): void => {
        this.#waiting.delete(pass);
        signal?.removeEventListener('abort', onAbort);
        settle();
      };
      const pass = (): void => end(resolve);
      const onAbort = (): void => end(() => reject(signal?.reason));
      this.#waiting.add(pass);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The session has replayed, or has ended. */
  settled(session: SessionId): void {
    if (this.#awaited.delete(session) && this.open) this.#open();
  }

  close(): void {
    this.#timer?.cancel();
  }

  #wait(restMs: number): void {
    this.#timer = this.#clock.setTimer(Math.min(restMs, STEP_MS), () => {
      if (restMs > STEP_MS) this.#wait(restMs - STEP_MS);
      else this.#open();
    });
  }

  #open(): void {
    this.#timer?.cancel();
    this.#awaited.clear();
    for (const pass of [...this.#waiting]) pass();
  }
}
