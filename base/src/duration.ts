/**
 * Durations as people write them: `500ms`, `90s`, `10m`, `1h30m`, `30d`. A bare number is refused, since nobody can tell
 * seconds from milliseconds. The result is whole milliseconds.
 */
import { CollectiveError } from './errors/index.ts';

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const ALLOWED = "numbers with ms, s, m, h or d, largest first, as in '10m' or '1h30m'";
/** A hundred years: what is larger is a slip of the keyboard. */
const DURATION_MS_MAX = 36_525 * UNIT_MS.d;

/** Milliseconds of a duration such as `1h30m`. `what` names the flag or key that it was given for. */
export function parseDurationMs(text: string, what = 'duration'): number {
  const trimmed = text.trim();
  if (/^[0-9.]+$/.test(trimmed)) throw invalid(text, what, 'its unit is missing');
  if (!/^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$/.test(trimmed)) {
    const unit = /^[0-9]+(?:\.[0-9]+)?([A-Za-z]+)$/.exec(trimmed)?.[1];
    throw invalid(text, what, unit === undefined ? 'it is not a duration' : `there is no unit '${unit}'`);
  }
  let totalMs = 0;
  let previousUnitMs = Number.POSITIVE_INFINITY;
  for (const [, digits = '', unit = ''] of trimmed.matchAll(/([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)/g)) {
    const unitMs = UNIT_MS[unit as keyof typeof UNIT_MS];
    if (unitMs >= previousUnitMs) throw invalid(text, what, `'${unit}' stands at the wrong place`);
    previousUnitMs = unitMs;
    totalMs += Number(digits) * unitMs;
  }
  if (totalMs > DURATION_MS_MAX) throw invalid(text, what, 'it is longer than a hundred years');
  return Math.round(totalMs);
}

/** `1h30m`, `5m`, `12s`, `350ms`: the two largest units that are not zero. */
export function formatDurationMs(durationMs: number): string {
  if (durationMs < 0) return `-${formatDurationMs(-durationMs)}`;
  if (durationMs < 1_000) return `${Math.round(durationMs)}ms`;
  let restMs = Math.round(durationMs / 1_000) * 1_000;
  const parts: string[] = [];
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const count = Math.floor(restMs / UNIT_MS[unit]);
    restMs -= count * UNIT_MS[unit];
    if (count > 0) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
  }
  return parts.slice(0, 2).join('');
}

function invalid(text: string, what: string, why: string): CollectiveError {
  return new CollectiveError('invalid_argument', `Read '${text}' as ${what}: ${why}; allowed are ${ALLOWED}`);
}
