/** Times of local files in nanoseconds: a `Date` would round them, and then a copy never looks equal. */
import type { BigIntStats } from 'node:fs';
import type { Timestamp } from '@collective/base/clock';

export function modifiedOf(stats: BigIntStats): Timestamp {
  const nanos = ((stats.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return { seconds: Number((stats.mtimeNs - nanos) / 1_000_000_000n), nanos: Number(nanos) };
}

/** utimes takes seconds as a double: exact to a fraction of a microsecond in this century. */
export function secondsOf(time: Timestamp): number {
  return time.seconds + time.nanos / 1e9;
}

/** Equal as far as a double carries a time through utimes. */
export function isSameTime(a: Timestamp, b: Timestamp): boolean {
  return Math.abs((a.seconds - b.seconds) * 1e9 + (a.nanos - b.nanos)) < 2_000;
}
