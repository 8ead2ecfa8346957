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

/** What a reader sees: disjoint ranges in order; holes and never written bytes are left out. */
export function visibleRanges(slices: readonly SlicePiece[]): VisibleRange[] {
  let visible: VisibleRange[] = [];
  for (const [index, piece] of slices.entries()) {
    const start = piece.offset;
    const end = piece.offset + piece.length;
    const rest: VisibleRange[] = [];
    for (const range of visible) {
      if (range.end <= start || range.start >= end) {
        rest.push(range);
        continue;
      }
      if (range.start < start) rest.push({ ...range, end: start });
      if (range.end > end) rest.push({ ...range, start: end });
    }
    if (end > start) rest.push({ start, end, slice: index });
    visible = rest;
  }
  return visible.filter(({ slice }) => slices[slice]?.chunk.length === 16).sort((a, b) => a.start - b.start);
}

/** Bytes that a block holds, as counted against quota. */
export function storedBytes(slices: readonly SlicePiece[]): number {
  if (slices.length === 1) return slices[0]?.chunk.length === 16 ? slices[0].length : 0;
  return visibleRanges(slices).reduce((sum, { start, end }) => sum + end - start, 0);
}

/** Adds a piece as the newest and lets go of those that are wholly covered by firm ones. */
export function addSlice(
  slices: readonly SlicePiece[],
  piece: SlicePiece,
  isFirm: (piece: SlicePiece) => boolean,
): { slices: SlicePiece[]; dropped: SlicePiece[] } {
  return dropCovered([...slices, piece], isFirm);
}

function dropCovered(
  slices: readonly SlicePiece[],
  isFirm: (piece: SlicePiece) => boolean,
): { slices: SlicePiece[]; dropped: SlicePiece[] } {
  if (slices.length < 2) return { slices: [...slices], dropped: [] };
  const seen = new Set<number>();
  // Holes count as seen where nothing newer covers them: they hide what is below.
  for (const index of slices.keys()) if (uncovered(slices, index)) seen.add(index);
  const kept: SlicePiece[] = [];
  const dropped: SlicePiece[] = [];
  for (const [index, piece] of slices.entries()) {
    const covers = seen.has(index) ? [] : slices.slice(index + 1).filter((newer) => overlaps(newer, piece));
    // D3: until what covers it is stable, the covered slice is what the block gets back after a power loss.
    if (seen.has(index) || !covers.every(isFirm)) kept.push(piece);
    else dropped.push(piece);
  }
  return { slices: kept, dropped };
}

function uncovered(slices: readonly SlicePiece[], index: number): boolean {
  const piece = slices[index];
  if (piece === undefined) return false;
  let left = [{ start: piece.offset, end: piece.offset + piece.length }];
  for (const newer of slices.slice(index + 1)) {
    const start = newer.offset;
    const end = newer.offset + newer.length;
    left = left.flatMap((range) => {
      if (range.end <= start || range.start >= end) return [range];
      const parts = [];
      if (range.start < start) parts.push({ start: range.start, end: start });
      if (range.end > end) parts.push({ start: end, end: range.end });
      return parts;
    });
    if (left.length === 0) return false;
  }
  return left.length > 0;
}

function overlaps(a: SlicePiece, b: SlicePiece): boolean {
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
