/** Times of Kubernetes (RFC 3339) as ages. */
import { formatDurationMs } from '@collective/base/duration';

export function ageOf(time: string | undefined, nowMs: number): string {
  const atMs = Date.parse(time ?? '');
  if (Number.isNaN(atMs)) return '-';
  const elapsedMs = Math.max(0, nowMs - atMs);
  return elapsedMs < 1000 ? '0s' : formatDurationMs(elapsedMs);
}
