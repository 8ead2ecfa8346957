/**
 * Which segments compaction takes next (D4). A segment is worth copying when much of it is dead, or when it is small and there
 * are many small ones, unless it is just being emptied; one without anything that counts is removed as it is. The segment that is being written is sealed first
 * when most of it is dead, so that it too can be taken.
 *
 * What a copy needs is room for one segment at most, which the reserve always has.
 */
import { SEGMENT_HEADER_BYTES } from './segment.ts';

/** Of a segment dead: copying it then costs three bytes for each that it gives back. */
export const DEAD_SHARE_MIN = 0.25;
/**
 * When the store is full every byte counts, and a copy may cost two hundred. Tombstones may use half of the reserve, which is a
 * hundredth of the store; the records that they cover are larger than they are, so some segment is always worth it.
 */
export const DEAD_SHARE_MIN_WHEN_FULL = 0.005;
/** Of the segment that is being written, before it is sealed for it. */
const ACTIVE_DEAD_SHARE_MIN = 0.5;
/** Of the size of a segment. Starts and ends in order leave small ones. */
const SMALL_SHARE = 1 / 8;
const SMALL_SEGMENTS_MIN = 8;
/** Of all that is copied to one segment, in sizes of a segment: the places of its records are in memory meanwhile. */
const SOURCES_SHARE_MAX = 4;

export interface SegmentState {
  readonly segment: number;
  readonly bytes: number;
  readonly liveBytes: number;
  /** Still open for writing, or not stable yet. */
  readonly open: boolean;
}

export interface CompactionRules {
  readonly segmentBytes: number;
  /** 0: everything that is dead at all. */
  readonly deadShareMin: number;
  /** Records are just going out of these: they are not copied, only removed when nothing in them counts. */
  readonly emptying?: ReadonlySet<number>;
}

export interface CompactionPlan {
  /** Seal what is being written. */
  readonly retire: boolean;
  /** Nothing in them counts. */
  readonly remove: readonly number[];
  /** What counts in these fits into one new segment. */
  readonly rewrite: readonly number[];
}

export function planCompaction(segments: readonly SegmentState[], rules: CompactionRules): CompactionPlan {
  const sealed = segments.filter(({ open }) => !open);
  return {
    retire: segments.some((state) => state.open && isWorthSealing(state, rules)),
    remove: sealed.filter(({ liveBytes }) => liveBytes === 0).map(({ segment }) => segment),
    rewrite: groupOf(
      sealed.filter(({ segment, liveBytes }) => liveBytes > 0 && rules.emptying?.has(segment) !== true),
      rules,
    ),
  };
}

export function deadBytesOf({ bytes, liveBytes }: Pick<SegmentState, 'bytes' | 'liveBytes'>): number {
  return Math.max(0, bytes - SEGMENT_HEADER_BYTES - liveBytes);
}

function isWorthSealing(state: SegmentState, { deadShareMin }: CompactionRules): boolean {
  const dead = deadBytesOf(state);
  return dead > 0 && dead >= state.bytes * (deadShareMin === 0 ? 0 : ACTIVE_DEAD_SHARE_MIN);
}

/** The most worn first, and with it what else is worth it and has room beside it. */
function groupOf(segments: readonly SegmentState[], { segmentBytes, deadShareMin }: CompactionRules): number[] {
  const isWorn = (state: SegmentState): boolean => {
    const dead = deadBytesOf(state);
    return dead > 0 && dead >= state.bytes * deadShareMin;
  };
  const small = segments.filter(({ bytes }) => bytes <= segmentBytes * SMALL_SHARE);
  const merged = new Set(small.length >= SMALL_SEGMENTS_MIN ? small : []);
  const candidates = segments
    .filter((state) => isWorn(state) || merged.has(state))
    .sort((a, b) => deadBytesOf(b) / b.bytes - deadBytesOf(a) / a.bytes || a.segment - b.segment);
  const group: number[] = [];
  let room = segmentBytes - SEGMENT_HEADER_BYTES;
  let left = segmentBytes * SOURCES_SHARE_MAX;
  for (const { segment, bytes, liveBytes } of candidates) {
    if (liveBytes > room || (bytes > left && group.length > 0)) continue;
    room -= liveBytes;
    left -= bytes;
    group.push(segment);
  }
  // Their order is that in which they were written, as far as it is known: what a tombstone covers goes before it.
  return group.sort((a, b) => a - b);
}
