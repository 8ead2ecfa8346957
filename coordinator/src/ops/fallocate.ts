/**
 * fallocate(2). A hole over very many blocks is made in steps (M3): whole blocks go as in a cut, the two at its ends get a
 * slice that shows zeros. Space is promised by grants (M10), so allocating without zeroing has nothing to write.
 */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import { BLOCK_BYTES, FILE_BYTES_MAX } from '@collective/base/limits';
import { type Committed, type Fallocate, FallocateMode, type Slice } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { BLOCKS, INODES } from '../tables/tables.ts';
import { clearBlocks } from './clear-blocks.ts';
import { ATTRIBUTES, DATA, type OperationContext, StepsFirst } from './context.ts';
import { blockOf, commitSlices } from './file-data.ts';
import { attributesOf, withoutSetId } from './inode.ts';
import { addStoredBytes } from './trash.ts';
import { loadWritableFile } from './write-file.ts';

export function fallocate(context: OperationContext, request: Fallocate): Committed {
  const { inode, row: before } = loadWritableFile(context, request.inode, 'Allocate in');
  checkRequest(request);
  const { offset, length, mode } = request;
  const hole = zeroes(mode) ? makeHole(context, inode, before, request) : undefined;
  if (hole?.unfinished) throw new StepsFirst((stepping) => holeStep(stepping, request));
  const grows = mode === FallocateMode.FALLOCATE_ALLOCATE || mode === FallocateMode.FALLOCATE_ZERO_RANGE;
  const row = {
    ...(hole?.row ?? before),
    size: grows ? Math.max(before.size, offset + length) : before.size,
    mtime: context.tx.now,
    ctime: context.tx.now,
    mode: withoutSetId(before),
  };
  context.tx.put(INODES, row, inode);
  context.changed(inode, ATTRIBUTES | DATA);
  return { attributes: attributesOf(inode, row), offset, blocks: [...(hole?.blocks ?? [])] };
}

/** One bounded step of a hole; answers whether another is needed before `fallocate` can end it. */
function holeStep(context: OperationContext, request: Fallocate): boolean {
  const { inode, row: before } = loadWritableFile(context, request.inode, 'Allocate in');
  const hole = makeHole(context, inode, before, request);
  if (hole === undefined || !hole.unfinished) {
    // `fallocate` makes the rest of it, together with the times and the answer.
    context.tx.discard();
    return false;
  }
  context.tx.put(INODES, hole.row, inode);
  context.changed(inode, ATTRIBUTES | DATA);
  return true;
}

function checkRequest({ offset, length, mode }: Fallocate): void {
  if (!Number.isInteger(offset) || offset < 0 || !Number.isInteger(length) || length < 1)
    throw new CollectiveError('invalid_argument', `Allocate ${length} bytes at ${offset}`);
  if (offset + length > FILE_BYTES_MAX)
    throw new CollectiveError(
      'too_large',
      `Allocate up to byte ${offset + length}: a file has at most ${FILE_BYTES_MAX} bytes (16 TiB)`,
    );
  if (!FALLOCATE_MODES.includes(mode))
    throw new CollectiveError('invalid_argument', `Allocate with the unknown mode ${mode}`);
}

const FALLOCATE_MODES: readonly number[] = Object.values(FallocateMode);

function zeroes(mode: FallocateMode): boolean {
  return mode === FallocateMode.FALLOCATE_PUNCH_HOLE || mode === FallocateMode.FALLOCATE_ZERO_RANGE;
}

interface Hole {
  readonly row: InodeRow;
  /** Those that are touched and still hold anything. */
  readonly blocks: Committed['blocks'];
  /** Whole blocks are left; its ends are not made yet. */
  readonly unfinished: boolean;
}

/** Undefined when all of the range lies behind the end of the file. The size stays. */
function makeHole(
  context: OperationContext,
  inode: InodeNumber,
  before: InodeRow,
  { offset, length }: Fallocate,
): Hole | undefined {
  const end = Math.min(offset + length, before.size);
  if (offset >= end) return undefined;
  const { tx } = context;
  const first = Math.ceil(offset / BLOCK_BYTES);
  // The last block is whole where the file ends in it: there is nothing behind the hole.
  const last = end === before.size ? Math.ceil(end / BLOCK_BYTES) : Math.floor(end / BLOCK_BYTES);
  const { bytes, unfinished } = last > first ? clearBlocks(tx, before, first, last) : { bytes: 0, unfinished: false };
  if (bytes > 0) addStoredBytes(tx, before, -bytes);
  const cleared: InodeRow = { ...before, storedBytes: before.storedBytes - bytes };
  const changed = { ...cleared, version: before.version + 1 };
  if (unfinished) return { row: changed, blocks: [], unfinished };
  const ends = holesAtEnds(context, before, offset, end, first, last);
  if (ends.length === 0) return { row: changed, blocks: [], unfinished };
  const { row, blocks } = commitSlices(context, { inode, row: cleared, slices: ends, chunks: [] });
  // Holes count as slices at their end, but they do not make the file longer.
  return { row: { ...row, size: before.size }, blocks, unfinished };
}

/** Hole slices over the parts of blocks before and behind the whole ones, where there is anything. */
function holesAtEnds(
  { tx }: OperationContext,
  { data }: InodeRow,
  offset: number,
  end: number,
  first: number,
  last: number,
): Slice[] {
  const headEnd = Math.min(end, first * BLOCK_BYTES);
  const tail = Math.max(headEnd, last * BLOCK_BYTES);
  const ranges = [
    { from: offset, to: headEnd },
    { from: tail, to: end },
  ].filter(({ from, to }) => from < to);
  tx.need(ranges.map(({ from }) => BLOCKS.key(data, blockOf(from))));
  return ranges
    .filter(({ from }) => tx.get(BLOCKS, data, blockOf(from)) !== undefined)
    .map(({ from, to }) => ({ offset: from, length: to - from, chunk: Buffer.alloc(0), chunkOffset: 0 }));
}
