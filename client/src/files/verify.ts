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

interface Todo {
  readonly location: ChunkLocation;
  /** Of its block, in the file. */
  readonly offset: number;
}

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

  const readReplicas = async ({ location, offset }: Todo): Promise<ReplicaFinding[]> => {
    const chunk = chunkIdFromBytes(location.chunk);
    const found: ReplicaFinding[] = [];
    for (const replica of location.replicas) {
      try {
        const bytes = await reader.readOne(location, replica, signal);
        totals.bytesRead += bytes;
        options.onProgress?.({ bytesRead: totals.bytesRead });
      } catch (thrown) {
        signal.throwIfAborted();
        const error = toCollectiveError(thrown, `Read chunk ${chunk} on node ${replica.node}`, 'unavailable');
        found.push({ chunk, offset, node: replica.node, error });
      }
    }
    return found;
  };

  const seen = new Set<string>();
  const todo: Todo[] = [];
  const add = (page: BlockPage): void => {
    for (const each of chunksOf(page)) {
      const id = chunkIdFromBytes(each.location.chunk);
      if (!seen.has(id)) todo.push(each);
      seen.add(id);
    }
  };
  const verifyChunk = async (one: Todo): Promise<void> => {
    const { location, offset } = one;
    let found = await readReplicas(one);
    if (found.length > 0) {
      // The block may have been folded or written meanwhile, a replica moved: what no map names any more is nobody's loss.
      const block = Math.floor(offset / BLOCK_BYTES);
      const page = await readPage(session, attributes.inode, block, 1, signal, { fresh: true });
      const now = page.chunks.find(({ chunk }) => chunk.equals(location.chunk));
      if (now === undefined) {
        add(page);
        return;
      }
      found = found.filter(({ node }) => now.replicas.some((replica) => replica.node === node));
    }
    const good = location.replicas.length - found.length;
    bad.push(...found);
    totals.chunks++;
    totals.replicas += location.replicas.length;
    if (good < wanted) totals.underReplicated++;
    if (good === 0) totals.lost++;
  };

  let first = 0;
  while (first * BLOCK_BYTES < attributes.size) {
    const page = await readPage(session, attributes.inode, first, BLOCK_PAGE_MAX, signal, { fresh: true });
    add(page);
    while (todo.length > 0) await Promise.all(todo.splice(0, CHUNKS_AT_ONCE).map(verifyChunk));
    first = Math.max(page.next, first + 1);
  }
  return { path, ...totals, bad };
}

function chunksOf(page: BlockPage): Todo[] {
  const blocks = new Map<string, number>();
  for (const block of page.blocks) {
    for (const slice of block.slices) {
      const id = slice.chunk.toString('hex');
      if (!blocks.has(id)) blocks.set(id, block.index * BLOCK_BYTES);
    }
  }
  return page.chunks.map((location) => ({ location, offset: blocks.get(location.chunk.toString('hex')) ?? 0 }));
}
