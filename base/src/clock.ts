/**
 * Time as a port. Product code never calls `Date.now`, `setTimeout` or `setImmediate` itself: it is given a Clock, so
 * that the simulator can own every timer and replay a run from its seed.
 *
 * Leases (M6) are counted on `bootMs`, which goes on while a machine is suspended; wall time is for people and for
 * inode times only, and may jump.
 */

/** A moment of wall time: whole seconds since the Unix epoch and nanoseconds within the second. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanos: number;
}

export interface Timer {
  /** Safe to call twice, and after the timer fired. */
  cancel(): void;
}

export interface Clock {
  /** Wall time. Units: seconds and nanoseconds. */
  now(): Timestamp;
  /** Milliseconds since some start that does not change while the machine runs; includes time in suspend; never goes back. */
  bootMs(): number;
  /** Runs `fn` once after `delayMs`. Timers do not keep a process alive when `background` is set. */
  setTimer(delayMs: number, fn: () => void, options?: { background?: boolean }): Timer;
  /** Runs `fn` after the current turn, when pending I/O has been seen; used to gather work into batches. */
  defer(fn: () => void): void;
}

export function wallMs(clock: Clock): number {
  const { seconds, nanos } = clock.now();
  return seconds * 1000 + Math.floor(nanos / 1e6);
}

/** Waits; rejects with the signal's reason as soon as it is aborted. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = clock.setTimer(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
