/**
 * The list of slices of one block (D1), as pure functions: newest wins, pieces that nothing shows any more may go once
 * what covers them is firm (D3), and a cut keeps only what lies before it.
 */
import type { SlicePiece } from '../tables/gen/tables.ts';

/** Above it a block must be folded before it takes more. */
export const BLOCK_SLICES_MAX = 2_048;

export interface VisibleRange {
  readonly start: number;
  readonly end: number;
  /** Index in the list. */
  readonly slice: number;
}

/**
 * What a reader sees: disjoint ranges in order; holes and never written bytes are left out. Newest first, each piece shows in
 * what is still open; what is covered so far is kept in order, so thousands of pieces cost little more than their sorting.
 */
export function visibleRanges(slices: readonly SlicePiece[]): VisibleRange[] {
  const visible: VisibleRange[] = [];
  const covered: Range[] = [];
  for (let slice = slices.length - 1; slice >= 0; slice--) {
    const piece = slices[slice];
    if (piece === undefined || piece.length === 0) continue;
    const range = { start: piece.offset, end: piece.offset + piece.length };
    const first = firstEndingFrom(covered, range.start);
    let { start: open } = range;
    let { start, end } = range;
    let next = first;
    for (let over = covered[next]; over !== undefined && over.start <= range.end; over = covered[++next]) {
      if (over.start > open && piece.chunk.length === 16) visible.push({ start: open, end: over.start, slice });
      open = Math.max(open, over.end);
      start = Math.min(start, over.start);
      end = Math.max(end, over.end);
    }
    if (open < range.end && piece.chunk.length === 16) visible.push({ start: open, end: range.end, slice });
    covered.splice(first, next - first, { start, end });
  }
  return visible.sort((a, b) => a.start - b.start);
}

/** Of disjoint ranges in order: the index of the first that ends at `at` or behind it. */
function firstEndingFrom(ranges: readonly Range[], at: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle]?.end ?? 0) < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Bytes that a block holds, as counted against quota. */
export function storedBytes(slices: readonly SlicePiece[]): number {
  if (slices.length === 1) return slices[0]?.chunk.length === 16 ? slices[0].length : 0;
  return visibleRanges(slices).reduce((sum, { start, end }) => sum + end - start, 0);
}

/** Adds a piece as the newest and lets go of those below it that are wholly covered by firm ones. */
export function addSlice(
  slices: readonly SlicePiece[],
  piece: SlicePiece,
  isFirm: (piece: SlicePiece) => boolean,
): { slices: SlicePiece[]; dropped: SlicePiece[] } {
  const all = [...slices, piece];
  return slices.some((older) => overlaps(older, piece)) ? dropCovered(all, isFirm) : { slices: all, dropped: [] };
}

/**
 * D3: what newer slices cover goes only if firm ones alone cover it wholly. An unstable one may be lost with the power; then
 * the block shows what lies below it, so that must still be there, or be covered by what is firm.
 */
function dropCovered(
  slices: readonly SlicePiece[],
  isFirm: (piece: SlicePiece) => boolean,
): { slices: SlicePiece[]; dropped: SlicePiece[] } {
  const kept: SlicePiece[] = [];
  const dropped: SlicePiece[] = [];
  let firm: Range[] = [];
  for (let index = slices.length - 1; index >= 0; index--) {
    const piece = slices[index];
    if (piece === undefined) continue;
    const range = { start: piece.offset, end: piece.offset + piece.length };
    if (firm.some(({ start, end }) => start <= range.start && range.end <= end)) {
      dropped.push(piece);
      continue;
    }
    kept.push(piece);
    const covers = slices.slice(0, index).some((older) => overlaps(older, piece));
    if (covers && isFirm(piece)) firm = joined(firm, range);
  }
  return { slices: kept.reverse(), dropped: dropped.reverse() };
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Disjoint ranges with one more; those that touch become one. */
function joined(ranges: readonly Range[], added: Range): Range[] {
  let { start, end } = added;
  const apart = ranges.filter((range) => {
    if (range.end < start || range.start > end) return true;
    start = Math.min(start, range.start);
    end = Math.max(end, range.end);
    return false;
  });
  // A range that the grown one has come to touch was joined with its neighbours before: all are apart now.
  return [...apart, { start, end }];
}

export function overlaps(a: SlicePiece, b: SlicePiece): boolean {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

/** Keeps what lies before `end`. */
export function cutSlices(slices: readonly SlicePiece[], end: number): { slices: SlicePiece[]; dropped: SlicePiece[] } {
  const kept: SlicePiece[] = [];
  const dropped: SlicePiece[] = [];
  for (const piece of slices) {
    if (piece.offset >= end) dropped.push(piece);
    else if (piece.offset + piece.length > end) kept.push({ ...piece, length: end - piece.offset });
    else kept.push(piece);
  }
  return { slices: kept, dropped };
}

/** Takes out the slices of one chunk that was lost before it was stable: the block gets back its earlier content (D3). */
export function withoutChunk(slices: readonly SlicePiece[], chunk: Uint8Array): SlicePiece[] {
  return slices.filter((piece) => Buffer.compare(piece.chunk, chunk) !== 0);
}
