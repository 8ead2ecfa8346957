/**
 * When a pass of the scrub begins and how fast it reads, as pure functions. Every chunk is read once within the period: a pass begins
 * when the one before has begun a period ago, and takes most of the period. A pass that is late, because the node was
 * down, hurries.
 */

/** So slow that nobody notices; a small disk is done early and rests. */
export const SCRUB_BYTES_PER_SECOND_MIN = 1024 * 1024;
/** Of the period, in which a pass is to be done: the rest is for what is not foreseen. */
const PERIOD_SHARE = 0.9;
/** Of the period: a pass that is late takes at least so long for what is left. */
const LATE_SHARE = 0.1;

export interface PassState {
  readonly beganMs: number;
  readonly bytesLeft: number;
}

export function bytesPerSecond({ beganMs, bytesLeft }: PassState, periodMs: number, nowMs: number): number {
  const timeLeftMs = Math.max(beganMs + periodMs * PERIOD_SHARE - nowMs, periodMs * LATE_SHARE);
  return Math.max(SCRUB_BYTES_PER_SECOND_MIN, (bytesLeft / timeLeftMs) * 1000);
}

/** How long until the next pass begins; 0: now. A clock that was set back does not put it off. */
export function waitBeforePassMs(lastBeganMs: number | undefined, periodMs: number, nowMs: number): number {
  if (lastBeganMs === undefined || nowMs < lastBeganMs) return 0;
  return Math.max(0, lastBeganMs + periodMs - nowMs);
}

/** In the segments behind `through`, up to `upTo`. */
export function bytesLeft(
  segments: readonly { readonly segment: number; readonly liveBytes: number }[],
  { through, upTo }: { readonly through: number; readonly upTo: number },
): number {
  let bytes = 0;
  for (const { segment, liveBytes } of segments) if (segment > through && segment <= upTo) bytes += liveBytes;
  return bytes;
}
