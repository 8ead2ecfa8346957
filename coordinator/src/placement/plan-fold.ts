/**
 * How the slices of a block become few again (D1, D8): what they show is put together in one new chunk. Pure.
 *
 * Only firm slices go (D3): one that the power may still take must leave what lies below it. So the oldest ones up to the
 * first that is not firm are folded, and what was written since stays above the result; a block that is written to all
 * the time is folded all the same.
 *
 * Holes stay holes: each run of bytes without a gap becomes a slice of its own, all of the same chunk, in which the runs lie
 * behind each other. Only where that leaves too many slices are gaps below the size of a page filled with zeros, as any file
 * system would, smallest first; they count against the quota from then on.
 */
import { type ChunkId, chunkIdFromBytes } from '@collective/base/ids';
import { visibleRanges } from '../ops/block-slices.ts';
import type { SlicePiece } from '../tables/gen/tables.ts';

/** A block with fewer slices is read well enough. */
export const FOLD_SLICES_MIN = 32;
/** With more slices than this, small gaps are filled. */
const FOLDED_SLICES_WANTED = 16;
/** A gap of this size stays a hole. */
const GAP_BYTES_KEPT = 4_096;

export interface FoldedPiece {
  readonly length: number;
  /** Undefined: zeros. */
  readonly chunk: ChunkId | undefined;
  readonly chunkOffset: number;
}

export interface FoldPlan {
  /** So many of the oldest slices go. */
  readonly replaced: number;
  /** The new chunk, piece behind piece; empty: nothing is shown, and no chunk is needed. */
  readonly pieces: readonly FoldedPiece[];
  /** What takes their place, all of the new chunk. */
  readonly slices: readonly { readonly offset: number; readonly length: number; readonly chunkOffset: number }[];
  /** Raw bytes of the new chunk. */
  readonly length: number;
  /** Of these, zeros that were a hole. */
  readonly filledBytes: number;
}

interface Run {
  readonly start: number;
  readonly end: number;
}

/** Undefined: it is not worth it now. `mayFill`: there is room for zeros in small gaps. */
export function planFold(
  slices: readonly SlicePiece[],
  isFirm: (piece: SlicePiece) => boolean,
  mayFill = true,
): FoldPlan | undefined {
  const unfirm = slices.findIndex((piece) => !isFirm(piece));
  const replaced = unfirm < 0 ? slices.length : unfirm;
  if (replaced < FOLD_SLICES_MIN) return undefined;
  const oldest = slices.slice(0, replaced);
  const visible = visibleRanges(oldest);
  const whole = runsOf(visible);
  const runs = mayFill ? withSmallGapsFilled(whole) : whole;
  // Else it would be folded again and again to no end.
  if (runs.length * 2 > replaced) return undefined;
  const pieces: FoldedPiece[] = [];
  const folded: { offset: number; length: number; chunkOffset: number }[] = [];
  let at = 0;
  let next = 0;
  for (const run of runs) {
    folded.push({ offset: run.start, length: run.end - run.start, chunkOffset: at });
    at += run.end - run.start;
    let from = run.start;
    for (let range = visible[next]; range !== undefined && range.start < run.end; range = visible[++next]) {
      if (range.start > from) addPiece(pieces, { length: range.start - from, chunk: undefined, chunkOffset: 0 });
      const piece = oldest[range.slice];
      if (piece !== undefined)
        addPiece(pieces, {
          length: range.end - range.start,
          chunk: chunkIdFromBytes(piece.chunk),
          chunkOffset: piece.chunkOffset + range.start - piece.offset,
        });
      from = range.end;
    }
  }
  const shown = visible.reduce((sum, { start, end }) => sum + end - start, 0);
  return { replaced, pieces, slices: folded, length: at, filledBytes: at - shown };
}

/** What the fold was planned over is still what the block begins with; newer slices above it may have come. */
export function isStillThere(planned: readonly SlicePiece[], now: readonly SlicePiece[]): boolean {
  return (
    now.length >= planned.length &&
    planned.every((piece, i) => {
      const other = now[i];
      return (
        other !== undefined &&
        other.offset === piece.offset &&
        other.length === piece.length &&
        other.chunkOffset === piece.chunkOffset &&
        Buffer.compare(other.chunk, piece.chunk) === 0
      );
    })
  );
}

function runsOf(visible: readonly Run[]): Run[] {
  const runs: Run[] = [];
  for (const { start, end } of visible) {
    const last = runs.at(-1);
    if (last?.end === start) runs[runs.length - 1] = { start: last.start, end };
    else runs.push({ start, end });
  }
  return runs;
}

function withSmallGapsFilled(runs: readonly Run[]): readonly Run[] {
  if (runs.length <= FOLDED_SLICES_WANTED) return runs;
  const gaps = runs.flatMap((run, i) => {
    const before = runs[i - 1];
    return before === undefined ? [] : [{ before: i, bytes: run.start - before.end }];
  });
  const filled = new Set(
    gaps
      .filter(({ bytes }) => bytes < GAP_BYTES_KEPT)
      .sort((a, b) => a.bytes - b.bytes)
      .slice(0, runs.length - FOLDED_SLICES_WANTED)
      .map(({ before }) => before),
  );
  const joined: Run[] = [];
  for (const [i, run] of runs.entries()) {
    const last = joined.at(-1);
    if (last !== undefined && filled.has(i)) joined[joined.length - 1] = { start: last.start, end: run.end };
    else joined.push(run);
  }
  return joined;
}

/** Pieces that follow each other in one chunk are read as one. */
function addPiece(pieces: FoldedPiece[], piece: FoldedPiece): void {
  const last = pieces.at(-1);
  const follows =
    last !== undefined && last.chunk === piece.chunk && last.chunkOffset + last.length === piece.chunkOffset;
  if (follows && piece.chunk !== undefined) pieces[pieces.length - 1] = { ...last, length: last.length + piece.length };
  else pieces.push(piece);
}

export interface FoldingNode {
  readonly name: string;
  readonly zone: string;
  /** That it can take above its reserve. */
  readonly freeBytes: number;
}

/**
 * Where the new chunk is made and where it is copied to: first the node that has most of the pieces already, then, in other zones
 * first, those that have most. Undefined when there are fewer than `wanted`: a fold makes no block poorer.
 */
export function placeFold(
  plan: Pick<FoldPlan, 'pieces' | 'length'>,
  candidates: readonly FoldingNode[],
  placesOf: (chunk: ChunkId) => readonly string[],
  wanted: number,
): string[] | undefined {
  const held = new Map<string, number>();
  for (const { chunk, length } of plan.pieces)
    if (chunk !== undefined) for (const node of placesOf(chunk)) held.set(node, (held.get(node) ?? 0) + length);
  const left = candidates
    .filter(({ freeBytes }) => freeBytes > plan.length)
    .sort((a, b) => (held.get(b.name) ?? 0) - (held.get(a.name) ?? 0) || b.freeBytes - a.freeBytes);
  const chosen: FoldingNode[] = [];
  while (chosen.length < wanted) {
    const fresh = left.findIndex(({ zone }) => zone === '' || chosen.every((other) => other.zone !== zone));
    const [next] = left.splice(Math.max(0, fresh), 1);
    if (next === undefined) return undefined;
    chosen.push(next);
  }
  return chosen.map(({ name }) => name);
}
