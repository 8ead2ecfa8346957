/**
 * Content of an existing file: slices that point at chunks already on their replicas (D2), appended data whose place the
 * coordinator chooses (F7), and fallocate(2).
 */
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, COMMIT_SLICES_MAX, FILE_BYTES_MAX } from '@collective/base/limits';
import {
  type CommitSlices,
  type Committed,
  type Fallocate,
  FallocateMode,
  InodeType,
  type Slice,
} from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { BLOCKS, INODES } from '../tables/tables.ts';
import { ATTRIBUTES, DATA, type OperationContext } from './context.ts';
import { commitSlices, requireVersions } from './file-data.ts';
import {
  attributesOf,
  loadInode,
  MAY_WRITE,
  requireDataAccess,
  requireTime,
  requireWritableRealm,
  withoutSetId,
} from './inode.ts';

export function commit(context: OperationContext, request: CommitSlices): Committed {
  const { inode, row: before } = loadWritableFile(context, request.inode, 'Write to');
  if (request.mtime !== undefined) requireTime(request.mtime);
  requireVersions(context, before, request.expected);
  const offset = request.append ? before.size : 0;
  const slices = request.append
    ? request.slices.flatMap((slice) => splitAtBlocks({ ...slice, offset: offset + slice.offset }))
    : request.slices;
  const committed = commitSlices(context, { inode, row: before, slices, chunks: request.chunks });
  let row: InodeRow = { ...committed.row, mtime: request.mtime ?? context.tx.now, ctime: context.tx.now };
  if (request.sizeAtLeast > row.size) {
    if (request.sizeAtLeast > FILE_BYTES_MAX)
      throw new CollectiveError(
        'too_large',
        `Let a file grow to ${request.sizeAtLeast} bytes: at most ${FILE_BYTES_MAX} (16 TiB)`,
      );
    row = { ...row, size: request.sizeAtLeast };
  }
  if (request.clearSetId) row = { ...row, mode: withoutSetId(row) };
  context.tx.put(INODES, row, inode);
  context.changed(inode, ATTRIBUTES | DATA);
  context.show(inode, ATTRIBUTES);
  return { attributes: attributesOf(inode, row), offset, blocks: committed.blocks };
}

/** A slice at any offset as slices that each lie within one block. */
function splitAtBlocks(slice: Slice): Slice[] {
  const parts: Slice[] = [];
  for (let done = 0; done < slice.length; ) {
    const offset = slice.offset + done;
    const length = Math.min(slice.length - done, BLOCK_BYTES - (offset % BLOCK_BYTES));
    parts.push({
      offset,
      length,
      chunk: slice.chunk,
      chunkOffset: slice.chunk.length === 0 ? 0 : slice.chunkOffset + done,
    });
    done += length;
  }
  return parts;
}

export function fallocate(context: OperationContext, request: Fallocate): Committed {
  const { inode, row: before } = loadWritableFile(context, request.inode, 'Allocate in');
  const { offset, length, mode } = request;
  if (!Number.isInteger(offset) || offset < 0 || !Number.isInteger(length) || length < 1)
    throw new CollectiveError('invalid_argument', `Allocate ${length} bytes at ${offset}`);
  if (offset + length > FILE_BYTES_MAX)
    throw new CollectiveError(
      'too_large',
      `Allocate up to byte ${offset + length}: a file has at most ${FILE_BYTES_MAX} bytes (16 TiB)`,
    );
  if (!FALLOCATE_MODES.includes(mode))
    throw new CollectiveError('invalid_argument', `Allocate with the unknown mode ${mode}`);
  const zeroes = mode === FallocateMode.FALLOCATE_PUNCH_HOLE || mode === FallocateMode.FALLOCATE_ZERO_RANGE;
  let row = before;
  let blocks: Committed['blocks'] = [];
  // Space is promised by grants (M10), so allocating without zeroing has nothing to write.
  if (zeroes && offset < before.size) {
    const holes = holesOver(context, before, offset, Math.min(length, before.size - offset));
    ({ row, blocks } = commitSlices(context, { inode, row: before, slices: holes, chunks: [] }));
    // Holes count as slices at their end, but they do not make the file longer.
    row = { ...row, size: before.size };
  }
  const grows = mode === FallocateMode.FALLOCATE_ALLOCATE || mode === FallocateMode.FALLOCATE_ZERO_RANGE;
  row = {
    ...row,
    size: grows ? Math.max(before.size, offset + length) : before.size,
    mtime: context.tx.now,
    ctime: context.tx.now,
    mode: withoutSetId(row),
  };
  context.tx.put(INODES, row, inode);
  context.changed(inode, ATTRIBUTES | DATA);
  return { attributes: attributesOf(inode, row), offset, blocks };
}

const FALLOCATE_MODES: readonly number[] = Object.values(FallocateMode);

/** Hole slices over those blocks of the range that hold anything. */
function holesOver(context: OperationContext, row: InodeRow, offset: number, length: number): Slice[] {
  const first = Math.floor(offset / BLOCK_BYTES);
  const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
  const to = last === 0xffff_ffff ? prefixEnd(BLOCKS.key(row.data, 0).slice(0, -4)) : BLOCKS.key(row.data, last + 1);
  const blocks = context.tx.scan(BLOCKS, BLOCKS.key(row.data, first), to, COMMIT_SLICES_MAX + 1);
  if (blocks.length > COMMIT_SLICES_MAX)
    throw new CollectiveError(
      'range',
      `Punch a hole over more than ${COMMIT_SLICES_MAX} blocks at once: use smaller steps`,
    );
  return blocks.map(({ key }) => {
    const start = readBigEndian(key, key.length - 4, 4) * BLOCK_BYTES;
    const from = Math.max(start, offset);
    const until = Math.min(start + BLOCK_BYTES, offset + length);
    return { offset: from, length: until - from, chunk: Buffer.alloc(0), chunkOffset: 0 };
  });
}

function loadWritableFile(context: OperationContext, value: number, what: string): ReturnType<typeof loadInode> {
  const loaded = loadInode(context, value);
  if (loaded.row.type === InodeType.DIRECTORY)
    throw new CollectiveError('is_directory', `${what} directory ${loaded.inode}`);
  if (loaded.row.type !== InodeType.FILE)
    throw new CollectiveError('invalid_argument', `${what} inode ${loaded.inode}, which is not a file`);
  requireWritableRealm(context, loaded.row);
  requireDataAccess(context, loaded.row, MAY_WRITE, `${what} inode ${loaded.inode}`);
  context.coherent(loaded.inode);
  return loaded;
}
