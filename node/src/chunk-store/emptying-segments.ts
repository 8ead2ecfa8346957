/**
 * Which segments are just being emptied (D4). A drain, or the removal of many files, takes record after record out of a segment
 * until none is left; who copied what counts of it meanwhile would write what is dead a moment later, and beside a drain
 * that takes the disk from what the drain reads. So a segment is left alone while records go out of it, but not for ever: one
 * that loses a record now and then is taken in the end.
 */
import type { Clock } from '@collective/base/clock';
import type { SegmentUse } from './record-ledger.ts';

/** Nothing went out of it for so long: it is not being emptied. */
export const QUIET_AFTER_MS = 10_000;
/** A segment of a gigabyte is emptied within it even by a drain at a few MB/s. */
export const LEFT_ALONE_MAX_MS = 300_000;

interface Wear {
  liveBytes: number;
  changedAtMs: number;
  /** The first change after the last quiet time. */
  sinceMs: number;
}

export class EmptyingSegments {
  readonly #clock: Clock;
  #wears = new Map<number, Wear>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Of all segments that there are: those that are not to be copied now, and when to look again for that. */
  look(states: readonly SegmentUse[]): { readonly emptying: ReadonlySet<number>; readonly againInMs?: number } {
    const nowMs = this.#clock.bootMs();
    const emptying = new Set<number>();
    const wears = new Map<number, Wear>();
    let againInMs = Number.POSITIVE_INFINITY;
    for (const { segment, liveBytes } of states) {
      const wear = this.#wears.get(segment) ?? { liveBytes, changedAtMs: nowMs, sinceMs: nowMs };
      if (wear.liveBytes !== liveBytes) {
        if (nowMs - wear.changedAtMs >= QUIET_AFTER_MS) wear.sinceMs = nowMs;
        wear.liveBytes = liveBytes;
        wear.changedAtMs = nowMs;
      }
      wears.set(segment, wear);
      const leftMs = Math.min(wear.changedAtMs + QUIET_AFTER_MS, wear.sinceMs + LEFT_ALONE_MAX_MS) - nowMs;
      // Less is a rounding of the clock: a timer for it would come at this very moment again.
      if (leftMs < 1) continue;
      emptying.add(segment);
      againInMs = Math.min(againInMs, Math.ceil(leftMs));
    }
    this.#wears = wears;
    return emptying.size === 0 ? { emptying } : { emptying, againInMs };
  }
}
