/**
 * Whole blocks of a file taken away: what a cut and a hole have in common. At most so many in one operation (M3); who has
 * more to take away does so in steps, each of which leaves a file that is right, only not yet as asked.
 */
import { chunkIdFromBytes } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import type { InodeRow, SlicePiece } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { BLOCKS, CHUNKS, UNDER_REPLICATED } from '../tables/tables.ts';
import { BLOCK_SLICES_MAX, storedBytes } from './block-slices.ts';
import { releaseChunk } from './chunks.ts';
import { soundReplicas } from './replica-places.ts';

/** Blocks of one operation. */
export const CLEARED_BLOCKS_MAX = 512;
/** Slices that they may have together, each of which costs up to seven keys: one block always fits. */
const CLEARED_SLICES_MAX = BLOCK_SLICES_MAX;

export interface ClearedBlocks {
  /** That the blocks held. */
  readonly bytes: number;
  /** Some of the range is left. */
  readonly unfinished: boolean;
}

/** Removes blocks `first` to before `end`, as many as one operation may; without `end` all from `first` on. */
export function clearBlocks(tx: OperationRun, { data }: InodeRow, first: number, end?: number): ClearedBlocks {
  const to = end === undefined ? prefixEnd(BLOCKS.key(data, 0).slice(0, -4)) : BLOCKS.key(data, end);
  const found = tx.scan(BLOCKS, BLOCKS.key(data, first), to, CLEARED_BLOCKS_MAX + 1);
  let slices = 0;
  const cleared = found.slice(0, CLEARED_BLOCKS_MAX).filter(({ value }, i) => {
    slices += value.slices.length;
    return i === 0 || slices <= CLEARED_SLICES_MAX;
  });
  for (const { key } of cleared) tx.remove(BLOCKS, data, readBigEndian(key, key.length - 4, 4));
  releaseChunks(
    tx,
    cleared.flatMap(({ value }) => value.slices),
  );
  return {
    bytes: cleared.reduce((sum, { value }) => sum + storedBytes(value.slices), 0),
    unfinished: cleared.length < found.length,
  };
}

/** Slices that are gone; what that touches is fetched in two goes instead of one a row. */
export function releaseChunks(tx: OperationRun, slices: readonly SlicePiece[]): void {
  const ids = [
    ...new Set(slices.filter(({ chunk }) => chunk.length === 16).map(({ chunk }) => chunkIdFromBytes(chunk))),
  ];
  tx.need(ids.map((id) => CHUNKS.key(id)));
  const short = ids.filter((id) => {
    const row = tx.get(CHUNKS, id);
    return row !== undefined && soundReplicas(row) < row.wanted;
  });
  tx.need(short.map((id) => UNDER_REPLICATED.key(id)));
  for (const slice of slices) releaseChunk(tx, slice);
}
