/** What is made of the room that the owner gives: how much stays free, how large segments are. Pure. */
import { formatByteSize } from '@collective/base/byte-size';
import { CollectiveError } from '@collective/base/errors';
import { RECORD_BYTES_MAX } from './record.ts';

const MiB = 1024 * 1024;
const RESERVE_BYTES_MIN = 64 * MiB;
const RESERVE_SHARE = 0.02;
/** A segment is never larger; smaller ones where the reserve is small, because a start may have to copy one into it. */
const SEGMENT_BYTES_MAX = 256 * MiB;
const SEGMENT_BYTES_MIN = 2 * RECORD_BYTES_MAX;

export interface GivenRoom {
  /** What the owner gives. */
  readonly capacityBytes: number;
  /** Kept free; default the larger of 64 MiB and 2% of the capacity. */
  readonly reserveBytes?: number;
  readonly segmentBytes?: number;
}

export interface RoomPlan {
  readonly reserveBytes: number;
  readonly segmentBytes: number;
}

/** Throws `invalid_argument` when nothing would fit: such a node would serve and take nothing. */
export function planRoom({ capacityBytes, reserveBytes, segmentBytes }: GivenRoom): RoomPlan {
  const reserve = reserveBytes ?? Math.max(RESERVE_BYTES_MIN, Math.floor(capacityBytes * RESERVE_SHARE));
  const leastBytes = Math.ceil((reserve + SEGMENT_BYTES_MIN) / MiB) * MiB;
  if (capacityBytes < leastBytes)
    throw new CollectiveError(
      'invalid_argument',
      `Give ${formatByteSize(capacityBytes)} for chunks: ${formatByteSize(reserve)} of them stay free as a reserve, so at least ${formatByteSize(leastBytes)} are needed`,
    );
  return {
    reserveBytes: reserve,
    segmentBytes: segmentBytes ?? Math.max(SEGMENT_BYTES_MIN, Math.min(SEGMENT_BYTES_MAX, Math.floor(reserve / 2))),
  };
}
