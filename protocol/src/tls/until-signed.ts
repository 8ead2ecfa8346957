/**
 * A certificate that somebody else has to sign before the coordinator can answer (T5): it says `not_signed_yet` after some seconds, and
 * is asked again, with the same request, which is safe. Once it is known that the request is approved, a coordinator that
 * restarts meanwhile is waited for as well.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';

const AGAIN_AFTER_MS = 300;
const PASSING: ReadonlySet<ErrorCode> = new Set(['unavailable', 'shutting_down', 'deadline_exceeded', 'overloaded']);

export interface SignatureWait {
  readonly clock: Clock;
  /** Then the last answer is thrown. */
  readonly withinMs: number;
  readonly signal?: AbortSignal;
}

export async function untilSigned<T>(ask: () => Promise<T>, { clock, withinMs, signal }: SignatureWait): Promise<T> {
  const untilMs = clock.bootMs() + withinMs;
  for (let isApproved = false; ; ) {
    try {
      return await ask();
    } catch (thrown) {
      signal?.throwIfAborted();
      const code = thrown instanceof CollectiveError ? thrown.code : 'internal';
      isApproved ||= code === 'not_signed_yet';
      const mayPass = code === 'not_signed_yet' || (isApproved && PASSING.has(code));
      if (!mayPass || clock.bootMs() + AGAIN_AFTER_MS >= untilMs) throw thrown;
    }
    await sleep(clock, AGAIN_AFTER_MS, signal);
  }
}
