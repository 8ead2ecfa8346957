/** Wall time as people and programs read it. */
import type { Timestamp } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';

/** ISO 8601 in UTC, with nanoseconds only where there are any: `2026-03-01T12:00:00Z`, `...00.000000001Z`. */
export function isoTime(time: Timestamp): string {
  const whole = new Date(time.seconds * 1000).toISOString().replace('.000Z', '');
  if (time.nanos === 0) return `${whole}Z`;
  return `${whole}.${time.nanos.toString().padStart(9, '0').replace(/0+$/, '')}Z`;
}

/** `2026-03-01 12:00` in local time, as `ls -l` shows it. */
export function localMinute(time: Timestamp): string {
  const date = new Date(time.seconds * 1000);
  const two = (value: number): string => value.toString().padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** `3m`, `2d4h`: how long ago, as kubectl shows ages. A moment ahead of us is 0s: two clocks never agree. */
export function age(time: Timestamp | undefined, now: Timestamp): string {
  if (time === undefined) return '<never>';
  const elapsedMs = Math.max(0, (now.seconds - time.seconds) * 1000 + (now.nanos - time.nanos) / 1e6);
  return elapsedMs < 1000 ? '0s' : formatDurationMs(elapsedMs);
}
