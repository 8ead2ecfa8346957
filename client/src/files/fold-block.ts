/**
 * A block that was written in very many pieces becomes one piece again (D1). The coordinator folds in the background; a
 * writer that is faster than that is told which block has no room for another slice, and folds it itself. What others
 * write meanwhile is not lost: the fold is refused if the block has changed, and made again.
 */
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES } from '@collective/base/limits';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { readPage, readWhole } from '../transfer/download.ts';
import { mustStoreAgain } from '../transfer/upload.ts';
import type { FileContext } from './file-context.ts';

const FOLD_TRIES_MAX = 5;
/** With fewer, somebody else has folded it just now. */
const FOLD_FROM_SLICES = 64;

/** The block that an error says must be folded first. */
export function blockToFold(error: unknown): number | undefined {
  if (!(error instanceof CollectiveError) || error.code !== 'overloaded') return undefined;
  const block = Number(error.details.block ?? Number.NaN);
  return Number.isSafeInteger(block) ? block : undefined;
}

export async function foldBlock(
  context: FileContext,
  inode: number,
  block: number,
  signal: AbortSignal,
): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await foldOnce(context, inode, block, signal);
      return;
    } catch (error) {
      const changed = error instanceof CollectiveError && error.code === 'stale';
      if ((!changed && !mustStoreAgain(error)) || tries >= FOLD_TRIES_MAX) throw error;
    }
  }
}

async function foldOnce(context: FileContext, inode: number, block: number, signal: AbortSignal): Promise<void> {
  const { session } = context;
  const { blocks, attributes } = await readPage(session, inode, block, 1, signal, { fresh: true });
  const before = blocks[0];
  if (before === undefined || attributes === undefined || before.slices.length < FOLD_FROM_SLICES) return;
  const offset = block * BLOCK_BYTES;
  const end = Math.min(attributes.size, offset + BLOCK_BYTES);
  const content = await readWhole(context.download, { inode, offset, end }, signal);
  if (content.length < end - offset)
    throw new CollectiveError('stale', `Fold block ${block} of inode ${inode}: it was cut short meanwhile`);
  const { realm } = attributes;
  const encoded = encodeChunk([content], { compress: context.compresses(realm) });
  const { chunks } = context.upload;
  const chunk = await chunks.store(encoded, { realm, inode, block, stable: true }, signal);
  try {
    await session.call(
      {
        $case: 'commitSlices',
        value: {
          inode,
          slices: [{ offset, length: encoded.rawLength, chunk: chunk.chunk, chunkOffset: 0 }],
          chunks: [chunk],
          // The content is what it was.
          mtime: attributes.mtime,
          append: false,
          sizeAtLeast: 0,
          expected: [{ block, version: before.version }],
          clearSetId: false,
        },
      },
      { signal },
    );
    chunks.committed(chunk);
  } finally {
    chunks.giveUp(chunk);
  }
}
