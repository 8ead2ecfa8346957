/** `spec.ca` with its defaults, in milliseconds. */
import { createHash } from 'node:crypto';
import { parseDurationMs } from '@collective/base/duration';
import { DEFAULTS } from '../api/defaults.ts';
import type { Member } from '../api/member.ts';

const HOUR_MS = 3_600_000;
/** cert-manager issues nothing shorter. */
const CERTIFICATE_LIFE_MS_MIN = HOUR_MS;

export interface CaSettings {
  readonly durationMs: number;
  readonly leafDurationMs: number;
  readonly overlapMs: number;
  readonly rotateAfterMs: number;
  /** An authority with less than this left is followed by the next: its leaves must not outlive it. */
  readonly successorBeforeMs: number;
  /** Of what an authority's certificate is made from. */
  readonly hash: string;
}

/** Throws `invalid_argument` for what is no duration. */
export function caSettingsOf({ spec: { ca = {} } }: Member, trustDomain: string): CaSettings {
  const durationMs = Math.max(
    parseDurationMs(ca.duration ?? DEFAULTS.caDuration, 'spec.ca.duration'),
    2 * CERTIFICATE_LIFE_MS_MIN,
  );
  const leafDurationMs = Math.min(
    Math.max(
      parseDurationMs(ca.leafDuration ?? DEFAULTS.leafDuration, 'spec.ca.leafDuration'),
      CERTIFICATE_LIFE_MS_MIN,
    ),
    durationMs / 2,
  );
  const overlapMs = parseDurationMs(ca.overlap ?? DEFAULTS.caOverlap, 'spec.ca.overlap');
  const rotateAfterMs =
    ca.rotateAfter === undefined ? (durationMs * 2) / 3 : parseDurationMs(ca.rotateAfter, 'spec.ca.rotateAfter');
  return {
    durationMs,
    leafDurationMs,
    overlapMs,
    rotateAfterMs,
    successorBeforeMs: Math.min(leafDurationMs + 2 * overlapMs, durationMs / 2),
    hash: createHash('sha256').update(JSON.stringify({ trustDomain, durationMs })).digest('hex').slice(0, 32),
  };
}

/** As Go writes durations, in the largest unit that has no rest. */
export function goDuration(durationMs: number): string {
  const seconds = Math.ceil(durationMs / 1_000);
  if (seconds % 3_600 === 0) return `${seconds / 3_600}h`;
  return seconds % 60 === 0 ? `${seconds / 60}m` : `${seconds}s`;
}
