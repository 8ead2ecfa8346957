/** A moment as people write it: `2h` (so long ago), `2026-03-01`, `2026-03-01 12:00` in local time, or ISO 8601. */
import type { Timestamp } from '@collective/base/clock';
import { parseDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';

const DATE = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/;

export function parseMoment(text: string, what: string, now: Timestamp): Timestamp {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?[a-z]/.test(trimmed)) return before(now, parseDurationMs(trimmed, what));
  // Without a time of day a date alone would be read as UTC, unlike one with it.
  const ms = DATE.test(trimmed) ? Date.parse(trimmed.length === 10 ? `${trimmed}T00:00` : trimmed) : Number.NaN;
  if (Number.isNaN(ms))
    throw new CollectiveError(
      'invalid_argument',
      `Read '${text}' as ${what}: it is how long ago ('2h'), or a date such as '2026-03-01 12:00' or '2026-03-01T12:00:00Z'`,
    );
  return timestampOf(ms);
}

function before(now: Timestamp, ms: number): Timestamp {
  return timestampOf(now.seconds * 1000 + now.nanos / 1e6 - ms);
}

function timestampOf(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}
