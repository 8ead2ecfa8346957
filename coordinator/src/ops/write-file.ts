/**
 * Content of an existing file: slices that point at chunks already on their replicas (D2), and appended data whose place
 * the coordinator chooses (F7).
 */
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, FILE_BYTES_MAX } from '@collective/base/limits';
import { type CommitSlices, type Committed, InodeType, type Slice } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { INODES } from '../tables/tables.ts';
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
  context.growth.require(`Write to inode ${inode}`);
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

export function loadWritableFile(context: OperationContext, value: number, what: string): ReturnType<typeof loadInode> {
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
