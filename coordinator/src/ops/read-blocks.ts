/** Where the content of a file lies: a page of its block map, and for each chunk its replicas. Tickets are added at the edge (D7). */
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes } from '@collective/base/ids';
import { BLOCK_BYTES, BLOCK_PAGE_MAX } from '@collective/base/limits';
import { type BlockPage, InodeType, type ReadBlocks } from '@collective/protocol/gen/session';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { BLOCKS, CHUNKS } from '../tables/tables.ts';
import { visibleRanges } from './block-slices.ts';
import { ATTRIBUTES, DATA, type OperationContext } from './context.ts';
import { attributesOf, loadInode, MAY_READ, requireDataAccess } from './inode.ts';

export interface BlockMap {
  /** `chunks` without tickets. */
  readonly page: BlockPage;
  readonly chunks: readonly { readonly id: ChunkId; readonly row: ChunkRow }[];
}

export function readBlocks(context: OperationContext, request: ReadBlocks): BlockMap {
  const { inode, row } = loadInode(context, request.inode);
  if (row.type === InodeType.DIRECTORY) throw new CollectiveError('is_directory', `Read directory ${inode} as a file`);
  requireDataAccess(context, row, MAY_READ, `Read inode ${inode}`);
  context.coherent(inode);
  const count = Math.min(Math.max(request.count, 1), BLOCK_PAGE_MAX);
  const end = Math.min(request.first + count, Math.ceil(row.size / BLOCK_BYTES));
  context.show(inode, ATTRIBUTES | DATA);
  const to = end > 0xffff_ffff ? prefixEnd(BLOCKS.key(row.data, 0).slice(0, -4)) : BLOCKS.key(row.data, end);
  const rows =
    end <= request.first || row.storedBytes === 0
      ? []
      : context.tx.scan(BLOCKS, BLOCKS.key(row.data, request.first), to, count);
  // Only chunks that a reader can see: a covered slice that is kept for D3 needs no location.
  const seen = new Set<ChunkId>();
  for (const { value } of rows)
    for (const { slice } of visibleRanges(value.slices)) {
      const piece = value.slices[slice];
      if (piece !== undefined) seen.add(chunkIdFromBytes(piece.chunk));
    }
  context.tx.need([...seen].map((id) => CHUNKS.key(id)));
  const chunks = [...seen].flatMap((id) => {
    const chunk = context.tx.get(CHUNKS, id);
    return chunk === undefined ? [] : [{ id, row: chunk }];
  });
  return {
    chunks,
    page: {
      blocks: rows.map(({ key, value }) => {
        const index = readBigEndian(key, key.length - 4, 4);
        return {
          index,
          version: value.version,
          slices: value.slices.map((piece) => ({ ...piece, offset: index * BLOCK_BYTES + piece.offset })),
        };
      }),
      chunks: [],
      attributes: attributesOf(inode, row),
      next: Math.max(end, request.first),
    },
  };
}
