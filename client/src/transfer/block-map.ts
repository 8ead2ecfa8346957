/**
 * Which bytes of a file lie where (D1): a block is a short list of slices, oldest first, and the newest wins; what no slice
 * covers is a hole and reads as zeros. Pure.
 */
import { BLOCK_BYTES } from '@collective/base/limits';
import type { Slice } from '@collective/protocol/gen/session';

/** A run of bytes of the file with one origin. */
export interface Extent {
  /** In the file. */
  readonly offset: number;
  readonly length: number;
  /** Unset: a hole. */
  readonly chunk?: Buffer;
  readonly chunkOffset: number;
}

export function blockOf(offset: number): number {
  return Math.floor(offset / BLOCK_BYTES);
}

/** What `[from, to)` of a file consists of, in order and without gaps. All slices belong to blocks of that range. */
export function extentsOf(slices: readonly Slice[], from: number, to: number): Extent[] {
  const extents: Extent[] = [];
  let gaps: { from: number; to: number }[] = to > from ? [{ from, to }] : [];
  // Newest first: each takes what is still open.
  for (let index = slices.length - 1; index >= 0 && gaps.length > 0; index--) {
    const slice = slices[index];
    if (slice === undefined) continue;
    const end = slice.offset + slice.length;
    const left: { from: number; to: number }[] = [];
    for (const gap of gaps) {
      const start = Math.max(gap.from, slice.offset);
      const stop = Math.min(gap.to, end);
      if (start >= stop) {
        left.push(gap);
        continue;
      }
      extents.push({
        offset: start,
        length: stop - start,
        chunk: slice.chunk.length === 0 ? undefined : slice.chunk,
        chunkOffset: slice.chunk.length === 0 ? 0 : slice.chunkOffset + (start - slice.offset),
      });
      if (gap.from < start) left.push({ from: gap.from, to: start });
      if (stop < gap.to) left.push({ from: stop, to: gap.to });
    }
    gaps = left;
  }
  for (const gap of gaps) extents.push({ offset: gap.from, length: gap.to - gap.from, chunkOffset: 0 });
  return extents.sort((a, b) => a.offset - b.offset);
}
