/**
 * What is left of removed and emptied files: block rows under a data number that no inode bears any more. They go in bounded
 * steps (M3), each complete in itself: block rows and the references of their slices first, the row that names the number
 * last. A step that a crash cut off was never made, and the next start finds the same rows. Quota was given back when the
 * file went.
 */
import type { OperationRun } from '../engine/operation-run.ts';
import type { KeyRange } from '../store/store.ts';
import type { SlicePiece } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { BLOCKS, type DataNumber, DOOMED } from '../tables/tables.ts';
import { releaseChunks } from './clear-blocks.ts';

/** Slices that a step lets go of: each costs its chunk's row and a row of garbage. */
export const RELEASE_SLICES_MAX = 400;
/** Data numbers that a step looks at: most files are small. */
export const RELEASE_FILES_MAX = 64;
const BLOCKS_OF_FIRST_MAX = 64;
const BLOCKS_OF_OTHERS_MAX = 4;

/** Where a step begins. What lies before it is gone, though the store may not show that yet. */
export interface DoomedCursor {
  readonly data: DataNumber;
  readonly block: number;
}

export const DOOMED_START: DoomedCursor = { data: 0, block: 0 };

export interface ReleaseStep {
  readonly slices: number;
  readonly files: number;
  /** Undefined: nothing is left behind it. */
  readonly next: DoomedCursor | undefined;
}

export function releaseDoomedBlocks(tx: OperationRun, from: DoomedCursor): ReleaseStep {
  const doomed = tx
    .scan(DOOMED, DOOMED.key(from.data), prefixEnd(DOOMED.prefix), RELEASE_FILES_MAX)
    .map(({ key }) => readBigEndian(key, 1, 6));
  const range = (data: DataNumber, i: number): KeyRange => ({
    from: BLOCKS.key(data, data === from.data ? from.block : 0),
    to: prefixEnd(BLOCKS.key(data, 0).slice(0, -4)),
    limit: i === 0 ? BLOCKS_OF_FIRST_MAX : BLOCKS_OF_OTHERS_MAX,
  });
  tx.needScans(doomed.map(range));
  const dropped: SlicePiece[] = [];
  let files = 0;
  let next: DoomedCursor | undefined;
  for (const [i, data] of doomed.entries()) {
    const stoppedAt = takeBlocks(tx, data, range(data, i), dropped);
    if (stoppedAt !== undefined) {
      next = { data, block: stoppedAt };
      break;
    }
    tx.remove(DOOMED, data);
    files += 1;
    next = files < RELEASE_FILES_MAX ? undefined : { data: data + 1, block: 0 };
  }
  releaseChunks(tx, dropped);
  return { slices: dropped.length, files, next };
}

/** Takes rows of blocks away while the step has room; answers the block at which it stopped, undefined when none is left. */
function takeBlocks(tx: OperationRun, data: DataNumber, range: KeyRange, dropped: SlicePiece[]): number | undefined {
  const rows = tx.scan(BLOCKS, range.from, range.to, range.limit);
  let last = 0;
  for (const { key, value } of rows) {
    last = readBigEndian(key, key.length - 4, 4);
    const room = RELEASE_SLICES_MAX - dropped.length;
    const kept = value.slices.slice(0, Math.max(0, value.slices.length - room));
    dropped.push(...value.slices.slice(kept.length));
    if (kept.length > 0) {
      tx.put(BLOCKS, { ...value, slices: kept }, data, last);
      return last;
    }
    tx.remove(BLOCKS, data, last);
  }
  return rows.length < range.limit ? undefined : last + 1;
}
