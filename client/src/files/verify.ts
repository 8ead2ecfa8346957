/** Reads every replica of every chunk of a file, so that a person learns which node lacks or damaged what. */
import { toCollectiveError } from '@collective/base/errors';
import { chunkIdFromBytes } from '@collective/base/ids';
import { BLOCK_BYTES, BLOCK_PAGE_MAX } from '@collective/base/limits';
import type { BlockPage, ChunkLocation, Attributes as WireAttributes } from '@collective/protocol/gen/session';
import type { ReplicaFinding, VerifyReport } from '../api.ts';
import { readPage } from '../transfer/download.ts';
import { type FileContext, NEVER_ABORTED } from './file-context.ts';

/** Chunks whose replicas are read at once: with two replicas 16 MiB in flight. */
const CHUNKS_AT_ONCE = 2;

export async function verifyFile(
  context: FileContext,
  path: string,
  attributes: WireAttributes,
  options: {
    readonly signal?: AbortSignal;
    readonly onProgress?: (progress: { readonly bytesRead: number }) => void;
  },
): Promise<VerifyReport> {
  const signal = options.signal ?? NEVER_ABORTED;
  const wanted = context.replicasOf(attributes.realm);
  const bad: ReplicaFinding[] = [];
  const totals = { chunks: 0, replicas: 0, bytesRead: 0, underReplicated: 0, lost: 0 };
  const { session, reader } = context.download;

  const verifyChunk = async (location: ChunkLocation, offset: number): Promise<void> => {
    const chunk = chunkIdFromBytes(location.chunk);
    let good = 0;
    for (const replica of location.replicas) {
      totals.replicas++;
      try {
        const bytes = await reader.readOne(location, replica, signal);
        totals.bytesRead += bytes;
        good++;
        options.onProgress?.({ bytesRead: totals.bytesRead });
      } catch (thrown) {
        signal.throwIfAborted();
        const error = toCollectiveError(thrown, `Read chunk ${chunk} on node ${replica.node}`, 'unavailable');
        bad.push({ chunk, offset, node: replica.node, error });
      }
    }
    totals.chunks++;
    if (good < wanted) totals.underReplicated++;
    if (good === 0) totals.lost++;
  };

  const seen = new Set<string>();
  let first = 0;
  while (first * BLOCK_BYTES < attributes.size) {
    const page: BlockPage = await readPage(session, attributes.inode, first, BLOCK_PAGE_MAX, signal, { fresh: true });
    const todo = chunksOf(page).filter(({ location }) => {
      const id = chunkIdFromBytes(location.chunk);
      return !seen.has(id) && seen.add(id);
    });
    for (let from = 0; from < todo.length; from += CHUNKS_AT_ONCE)
      await Promise.all(
        todo.slice(from, from + CHUNKS_AT_ONCE).map(({ location, offset }) => verifyChunk(location, offset)),
      );
    first = Math.max(page.next, first + 1);
  }
  return { path, ...totals, bad };
}

function chunksOf(page: BlockPage): { location: ChunkLocation; offset: number }[] {
  const blocks = new Map<string, number>();
  for (const block of page.blocks) {
    for (const slice of block.slices) {
      const id = slice.chunk.toString('hex');
      if (!blocks.has(id)) blocks.set(id, block.index * BLOCK_BYTES);
    }
  }
  return page.chunks.map((location) => ({ location, offset: blocks.get(location.chunk.toString('hex')) ?? 0 }));
}
