/**
 * Chunk ids as they are handed out (D2, D7): each session has a block of its own in each epoch, so that its token covers no
 * other session's ids, and so that only it may commit them first. The blocks are in the session's row before it hears of them:
 * after a restart it may still commit what it had put, and send again what was lost (M4). No id is given twice (M2a): blocks
 * begin with the epoch.
 */
import {
  type ChunkId,
  chunkIdEpoch,
  chunkIdFromBytes,
  chunkIdOf,
  chunkIdToBytes,
  type Epoch,
} from '@collective/base/ids';
import type { ChunkIdRange } from '../tables/gen/tables.ts';

export const CHUNKS_PER_GRANT_MAX = 4_096;
/** Chunk ids of one block; the epoch has 2^53 of them. */
export const CHUNK_BLOCK = 2 ** 24;
/** Blocks that a session remembers: it forgets the oldest, whose chunks were committed many restarts ago or never. */
export const CHUNK_RANGES_MAX = 16;

export interface ChunkIdBlock {
  readonly first: number;
  readonly last: number;
  next: number;
}

/** The ids of one session over all epochs. */
export class SessionChunkIds {
  /** Newest last. */
  #ranges: readonly { readonly first: ChunkId; readonly last: ChunkId }[];
  /** Of this epoch. */
  #block: ChunkIdBlock | undefined;

  constructor(ranges: readonly ChunkIdRange[]) {
    this.#ranges = ranges.map(({ first, last }) => ({ first: chunkIdFromBytes(first), last: chunkIdFromBytes(last) }));
  }

  get block(): ChunkIdBlock | undefined {
    return this.#block;
  }

  begin(epoch: Epoch, block: ChunkIdBlock): void {
    this.#block = block;
    const range = { first: chunkIdOf(epoch, block.first), last: chunkIdOf(epoch, block.last) };
    // What a restored coordinator's nodes were told to forget after the backup is not known to it (D9): ids of before are nobody's.
    const kept = this.#ranges.filter(({ first }) => chunkIdEpoch(first).generation === epoch.generation);
    this.#ranges = [...kept, range].slice(-CHUNK_RANGES_MAX);
  }

  /** Whether the id was handed to this session, in whatever epoch. */
  has(chunk: ChunkId): boolean {
    return this.#ranges.some(({ first, last }) => first <= chunk && chunk <= last);
  }

  rows(): ChunkIdRange[] {
    return this.#ranges.map(({ first, last }) => ({ first: chunkIdToBytes(first), last: chunkIdToBytes(last) }));
  }
}

/** Gives blocks of one epoch. */
export class ChunkIds {
  readonly epoch: Epoch;
  #blocks = 0;
  /** Blocks of the coordinator itself, the one in use last. */
  readonly #own: ChunkIdBlock[] = [];

  constructor(epoch: Epoch) {
    this.epoch = epoch;
  }

  /** The session has a block of this epoch from here on; its row is to be written before it hears of it. */
  begin(ids: SessionChunkIds): ChunkIdBlock {
    return ids.block ?? this.#newBlockFor(ids);
  }

  /** `isNew`: from a new block, so the session's row is to be written. */
  draw(ids: SessionChunkIds, count: number): { first: number; isNew: boolean } {
    const before = ids.block;
    const isNew = before === undefined || before.next + count > before.last + 1;
    const block = isNew ? this.#newBlockFor(ids) : before;
    const first = block.next;
    block.next += count;
    return { first, isNew };
  }

  /** For a chunk that the coordinator has made itself (D8). */
  drawOwn(): ChunkId {
    let block = this.#own.at(-1);
    if (block === undefined || block.next > block.last) {
      block = this.#newBlock();
      this.#own.push(block);
    }
    return chunkIdOf(this.epoch, block.next++);
  }

  isOwn(chunk: ChunkId): boolean {
    return this.#own.some(
      ({ first, last }) => chunkIdOf(this.epoch, first) <= chunk && chunk <= chunkIdOf(this.epoch, last),
    );
  }

  #newBlockFor(ids: SessionChunkIds): ChunkIdBlock {
    const block = this.#newBlock();
    ids.begin(this.epoch, block);
    return block;
  }

  #newBlock(): ChunkIdBlock {
    const at = this.#blocks++ * CHUNK_BLOCK;
    // Number 0 is nobody's.
    const first = Math.max(1, at);
    return { first, last: at + CHUNK_BLOCK - 1, next: first };
  }
}
