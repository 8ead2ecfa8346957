/**
 * Changes of a file's content in metadata: slices committed to blocks, files cut short, holes. Quota is counted in bytes
 * that blocks hold, so a sparse file costs what it stores (M9, M10).
 */
import { CollectiveError } from '@collective/base/errors';
import { chunkIdFromBytes, type InodeNumber } from '@collective/base/ids';
import { BLOCK_BYTES, COMMIT_SLICES_MAX, FILE_BYTES_MAX } from '@collective/base/limits';
import type { ChunkCommit, ExpectedBlock, Slice } from '@collective/protocol/gen/session';
import type { BlockRow, InodeRow, SlicePiece } from '../tables/gen/tables.ts';
import { BLOCKS, CHUNKS, DOOMED } from '../tables/tables.ts';
import { addSlice, BLOCK_SLICES_MAX, cutSlices, overlaps, storedBytes } from './block-slices.ts';
import { ChunkCommits, releaseChunk } from './chunks.ts';
import { clearBlocks, releaseChunks } from './clear-blocks.ts';
import { type OperationContext, RoomFirst } from './context.ts';
import { quotaOf } from './realm-border.ts';
import { realmPath } from './realm-path.ts';
import { addStoredBytes, trashHint, yieldTrash } from './trash.ts';

export interface SliceCommit {
  readonly inode: InodeNumber;
  readonly row: InodeRow;
  readonly slices: readonly Slice[];
  readonly chunks: readonly ChunkCommit[];
  /** The file is made by this operation: it has no blocks yet, and none need be looked for. */
  readonly fresh?: boolean;
}

const EMPTY_BLOCK: BlockRow = { version: 0, slices: [] };

/** Applies slices; answers the row with size, bytes and version changed (not yet written) and the blocks touched. */
export function commitSlices(
  context: OperationContext,
  commit: SliceCommit,
): { row: InodeRow; blocks: ExpectedBlock[] } {
  const { inode, row, slices, fresh = false } = commit;
  const { tx } = context;
  if (slices.length > COMMIT_SLICES_MAX)
    throw new CollectiveError(
      'invalid_argument',
      `Commit ${slices.length} slices at once: at most ${COMMIT_SLICES_MAX} are allowed`,
    );
  for (const slice of slices) checkSlice(slice);
  const chunks = new ChunkCommits(context, row.realm, commit.chunks, inode);
  if (!fresh) tx.need([...new Set(slices.map((slice) => BLOCKS.key(row.data, blockOf(slice.offset))))]);
  // Referenced before anything is dropped, so that a slice which replaces one of the same chunk keeps it alive.
  for (const slice of slices) if (slice.chunk.length === 16) chunks.reference(pieceOf(slice), blockOf(slice.offset));
  if (!fresh) needCovering(context, row, slices);
  const dropped: SlicePiece[] = [];
  let bytes = row.storedBytes;
  let size = row.size;
  // The version of the data as a whole: it never comes back, also not when a block is cut away and written anew.
  const version = row.version + 1;
  const touched = new Map<number, number>();
  const blockAt = (index: number): BlockRow =>
    (fresh && !touched.has(index) ? undefined : tx.get(BLOCKS, row.data, index)) ?? EMPTY_BLOCK;
  for (const slice of slices) {
    const index = blockOf(slice.offset);
    const block = blockAt(index);
    const added = addSlice(block.slices, pieceOf(slice), (piece) => chunks.isFirm(piece));
    if (added.slices.length > BLOCK_SLICES_MAX)
      throw new CollectiveError(
        'overloaded',
        `Commit to block ${index} of inode ${inode}: it has ${BLOCK_SLICES_MAX} slices and must be folded first`,
        { details: { block: index } },
      );
    bytes += storedBytes(added.slices) - storedBytes(block.slices);
    dropped.push(...added.dropped);
    tx.put(BLOCKS, { version, slices: added.slices }, row.data, index);
    touched.set(index, version);
    size = Math.max(size, slice.offset + slice.length);
  }
  chunks.write(version);
  for (const piece of dropped) releaseChunk(tx, piece);
  requireQuota(context, row.realm, bytes - row.storedBytes);
  addStoredBytes(tx, row, bytes - row.storedBytes);
  return {
    row: { ...row, size, storedBytes: bytes, version },
    blocks: [...touched].map(([block, version]) => ({ block, version })),
  };
}

/** Prefetches the chunks by which it is judged what is covered firmly, where anything is covered. */
function needCovering(context: OperationContext, row: InodeRow, slices: readonly Slice[]): void {
  const keys = new Set<string>();
  for (const slice of slices) {
    const held = context.tx.get(BLOCKS, row.data, blockOf(slice.offset))?.slices ?? [];
    const piece = pieceOf(slice);
    if (!held.some((older) => overlaps(older, piece))) continue;
    for (const { chunk } of held) if (chunk.length === 16) keys.add(CHUNKS.key(chunkIdFromBytes(chunk)));
  }
  context.tx.need([...keys]);
}

/** Refuses when a block changed since the writer read it (F6). */
export function requireVersions(context: OperationContext, row: InodeRow, expected: readonly ExpectedBlock[]): void {
  for (const { block, version } of expected) {
    const found = context.tx.get(BLOCKS, row.data, block)?.version ?? 0;
    if (found !== version)
      throw new CollectiveError('stale', `Commit over block ${block}: it has version ${found}, not ${version}`);
  }
}

export interface CutResult {
  readonly row: InodeRow;
  /** Blocks beyond `size` are left: cut again. */
  readonly unfinished: boolean;
}

/** Makes a file shorter or longer. Shorter: whole blocks beyond go, the last one is cut. */
export function resize(context: OperationContext, row: InodeRow, inode: InodeNumber, size: number): CutResult {
  if (!Number.isInteger(size) || size < 0)
    throw new CollectiveError('invalid_argument', `Give a file the size ${size}`);
  if (size > FILE_BYTES_MAX)
    throw new CollectiveError(
      'too_large',
      `Give a file the size ${size}: at most ${FILE_BYTES_MAX} bytes (16 TiB) are allowed`,
    );
  const changed = { ...row, size, version: row.version + 1 };
  if (size >= row.size || row.storedBytes === 0) return { row: changed, unfinished: false };
  if (size === 0) return { row: { ...changed, ...abandonBlocks(context, row, inode) }, unfinished: false };

  const { tx } = context;
  const keep = blockOf(size - 1);
  const { bytes: cleared, unfinished } = clearBlocks(tx, row, keep + 1);
  let bytes = row.storedBytes - cleared;
  const last = unfinished ? undefined : tx.get(BLOCKS, row.data, keep);
  if (last !== undefined) {
    const cut = cutSlices(last.slices, size - keep * BLOCK_BYTES);
    bytes += storedBytes(cut.slices) - storedBytes(last.slices);
    tx.put(BLOCKS, { version: changed.version, slices: cut.slices }, row.data, keep);
    releaseChunks(tx, cut.dropped);
  }
  addStoredBytes(tx, row, bytes - row.storedBytes);
  return { row: { ...changed, size: unfinished ? row.size : size, storedBytes: bytes }, unfinished };
}

/** Lets go of all blocks at once: they keep their old name and become garbage in bounded steps, the file gets a new one. */
export function abandonBlocks(
  context: OperationContext,
  row: InodeRow,
  inode: InodeNumber,
): { data: number; storedBytes: number } {
  const { tx } = context;
  tx.put(DOOMED, { since: tx.now, inode, size: row.size, realm: row.realm }, row.data);
  addStoredBytes(tx, row, -row.storedBytes);
  return { data: tx.newInode(), storedBytes: 0 };
}

/** The bytes fit into the realm's quota. */
export function requireQuota(context: OperationContext, realm: number, moreBytes: number): void {
  if (moreBytes <= 0) return;
  const { limits, realms } = quotaOf(context.tx, realm);
  const { quotaBytes } = limits;
  if (quotaBytes === 0) return;
  const granted = realms.reduce((sum, each) => sum + context.grantedElsewhere(each), 0);
  const missing = (): number => quotaOf(context.tx, realm).used.bytes + granted + moreBytes - quotaBytes;
  if (missing() > 0) yieldTrash(context, realm, { bytes: missing(), inodes: 0 });
  if (missing() <= 0) return;
  if (granted > 0 && !context.roomWasAsked) throw new RoomFirst(realms);
  const { bytes, trashBytes } = quotaOf(context.tx, realm).used;
  throw new CollectiveError(
    'quota_exceeded',
    `Store ${moreBytes} bytes in realm ${realmPath(context.tx, limits)}: ${bytes} of its quota of ${quotaBytes} bytes are used, ${granted} are granted to others${trashHint(trashBytes)}`,
  );
}

export function requireInodeQuota(context: OperationContext, realm: number): void {
  const { limits } = quotaOf(context.tx, realm);
  const { quotaInodes } = limits;
  if (quotaInodes === 0) return;
  const missing = (): number => quotaOf(context.tx, realm).used.inodes + 1 - quotaInodes;
  if (missing() > 0) yieldTrash(context, realm, { bytes: 0, inodes: missing() });
  if (missing() <= 0) return;
  const { trashInodes } = quotaOf(context.tx, realm).used;
  throw new CollectiveError(
    'quota_exceeded',
    `Make a file in realm ${realmPath(context.tx, limits)}: all ${quotaInodes} inodes of its quota are used${trashHint(trashInodes, 'files')}`,
  );
}

function checkSlice(slice: Slice): void {
  const { offset, length, chunk } = slice;
  if (!Number.isInteger(offset) || offset < 0 || length < 1)
    throw new CollectiveError('invalid_argument', `Commit a slice of ${length} bytes at ${offset}`);
  if (offset + length > FILE_BYTES_MAX)
    throw new CollectiveError(
      'too_large',
      `Write up to byte ${offset + length}: a file has at most ${FILE_BYTES_MAX} bytes (16 TiB)`,
    );
  if ((offset % BLOCK_BYTES) + length > BLOCK_BYTES)
    throw new CollectiveError(
      'invalid_argument',
      `Commit a slice of ${length} bytes at ${offset}: it crosses a block of ${BLOCK_BYTES}`,
    );
  if (chunk.length !== 0 && chunk.length !== 16)
    throw new CollectiveError('invalid_argument', `Commit a slice with a chunk id of ${chunk.length} bytes`);
}

function pieceOf(slice: Slice): SlicePiece {
  return {
    offset: slice.offset % BLOCK_BYTES,
    length: slice.length,
    chunk: slice.chunk,
    chunkOffset: slice.chunkOffset,
  };
}

export function blockOf(offset: number): number {
  return Math.floor(offset / BLOCK_BYTES);
}
