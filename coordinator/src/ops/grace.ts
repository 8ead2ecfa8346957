/** What nothing names is kept for a grace time, by wall time: readers with old block maps, uploads that are not committed yet. */
import type { Timestamp } from '@collective/base/clock';

/**
 * An upload that nobody has committed is kept at least so long, whatever the grace time of garbage: an early end would do no
 * harm, but the client would have to send its data again.
 */
export const ORPHAN_GRACE_MIN_SECONDS = 3_600;

export function isDue(since: Timestamp | undefined, now: Timestamp, graceSeconds: number): boolean {
  return (since?.seconds ?? 0) + graceSeconds <= now.seconds;
}
