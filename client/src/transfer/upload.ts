/**
 * Stores the content of a file (D1, D2): blocks are encoded, put on their replicas several at once within a byte budget,
 * and committed in order. Nothing is committed before its chunk lies on its replicas.
 *
 * A file of few blocks becomes one operation, create-with-slices. A longer one is built in a hidden partial file beside its
 * target and takes the name at the end; the target's name shows old or new content, never a part. Encoded blocks are kept
 * until they are committed, as far as the budget for it reaches, to be stored again if their chunks cannot be committed.
 */
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES } from '@collective/base/limits';
import type { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import { type EncodedChunk, encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import type { Attributes, ChunkCommit, CommitSlices, Slice } from '@collective/protocol/gen/session';
import type { WriteSource } from '../api.ts';
import { expectResult } from '../session/operation-kinds.ts';
import type { Session } from '../session/session.ts';
import { type CutBlock, cutBlocks, isHole } from './block-cutter.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { ChunkPlace, ChunkWriter } from './chunk-writer.ts';

/** A file of at most so many blocks is created in one operation. */
export const WHOLE_FILE_BLOCKS_MAX = 4;
/** Slices in one commit of a growing file. */
const COMMIT_BLOCKS_MAX = 64;
const STORE_AGAIN_MAX = 3;
/** Made once: nobody sees it, and making an error costs more than sending a small file. */
const GIVEN_UP = new CollectiveError('interrupted', 'Store a block: the upload was given up');

export interface UploadPorts {
  readonly session: Session;
  readonly chunks: ChunkWriter;
  /** Blocks that are being encoded or put. */
  readonly inFlight: ByteBudget;
  /** Stored blocks whose bytes are kept until they are committed. */
  readonly kept: ByteBudget;
  /** Memory of encoded blocks, used again and again. */
  readonly buffers: ChunkBuffers;
}

/** A block whose chunk lies on its replicas; a hole has none. */
export interface StoredBlock {
  readonly offset: number;
  readonly length: number;
  commit: ChunkCommit | undefined;
  /** Unset: a hole, or there was no room to keep it. */
  encoded: EncodedChunk | undefined;
  readonly place: ChunkPlace;
}

export interface StoreOptions {
  readonly realm: number;
  readonly inode: number;
  readonly compress: boolean;
  readonly stable: boolean;
  readonly startBlock?: number;
  /** When the source breaks off: what was under way is yielded before that is thrown, so that it can be gone on with. */
  readonly keepsBroken?: boolean;
}

/** Stores the blocks of a source; yields them in order. Whoever takes them gives each to `forgetBytes` when it is committed. */
export async function* storeBlocks(
  ports: UploadPorts,
  source: WriteSource,
  options: StoreOptions,
  signal: AbortSignal,
): AsyncGenerator<StoredBlock, void, undefined> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const underWay: UnderWay[] = [];
  let inFlightBytes = 0;
  const settled = (bytes: number): void => {
    inFlightBytes -= bytes;
    ports.inFlight.release(bytes);
  };
  const begin = async (block: CutBlock): Promise<void> => {
    await ports.inFlight.acquire(block.length, both);
    inFlightBytes += block.length;
    const one: UnderWay = { stored: storeBlock(ports, block, options, both), done: false };
    const finished = (): void => {
      one.done = true;
      settled(block.length);
    };
    // A failure is looked at when its turn comes.
    one.stored.then(finished, finished);
    underWay.push(one);
  };
  try {
    for await (const block of cutBlocks(source, options.startBlock)) {
      // With own blocks under way, waiting for room would keep finished ones from being taken.
      while (underWay.length > 0 && inFlightBytes + block.length > ports.inFlight.maxBytes)
        yield await nextOf(underWay);
      await begin(block);
    }
    while (underWay.length > 0) yield await nextOf(underWay);
  } catch (error) {
    if (options.keepsBroken && !signal.aborted) while (underWay.length > 0) yield await nextOf(underWay);
    throw error;
  } finally {
    if (underWay.length > 0) stop.abort(GIVEN_UP);
    for (const outcome of await Promise.allSettled(underWay.map(({ stored }) => stored))) {
      if (outcome.status === 'fulfilled') forgetBytes(ports, outcome.value);
    }
  }
}

interface UnderWay {
  readonly stored: Promise<StoredBlock>;
  done: boolean;
}

async function nextOf(underWay: UnderWay[]): Promise<StoredBlock> {
  const [next] = underWay;
  if (next === undefined) throw new RangeError('Take a block of none');
  const block = await next.stored;
  underWay.shift();
  return block;
}

export async function storeBlock(
  ports: UploadPorts,
  block: CutBlock,
  options: StoreOptions,
  signal: AbortSignal,
): Promise<StoredBlock> {
  const { realm, inode, stable } = options;
  const place = { realm, inode, block: block.index, stable };
  const stored = { offset: block.index * BLOCK_BYTES, length: block.length, place };
  if (isHole(block)) return { ...stored, commit: undefined, encoded: undefined };
  const encoded = encodeChunk(block.pieces, { compress: options.compress, buffers: ports.buffers });
  const commit = await ports.chunks.store(encoded, place, signal);
  if (ports.kept.tryAcquire(encoded.storedLength)) return { ...stored, commit, encoded };
  releaseMemory(ports, encoded);
  return { ...stored, commit, encoded: undefined };
}

function releaseMemory(ports: UploadPorts, encoded: EncodedChunk): void {
  if (ports.chunks.isSent(encoded)) encoded.release();
}

/** Its commit is over, or there will be none: then its room is free for others (M10). */
export function forgetBytes(ports: UploadPorts, block: StoredBlock): void {
  if (block.commit !== undefined) ports.chunks.giveUp(block.commit);
  if (block.encoded === undefined) return;
  ports.kept.release(block.encoded.storedLength);
  releaseMemory(ports, block.encoded);
  block.encoded = undefined;
}

/** The commit was refused for its chunks, not for what it does: the same bytes may be committed as chunks of new ids (D2). */
export function mustStoreAgain(error: unknown): boolean {
  return error instanceof CollectiveError && ['chunk_condemned', 'chunk_foreign', 'chunk_missing'].includes(error.code);
}

/** Runs a commit of these blocks; stores them again when their chunks were condemned or lost meanwhile (D2, D3). */
export async function commitBlocks<T>(
  ports: UploadPorts,
  blocks: readonly StoredBlock[],
  commit: (slices: Slice[], chunks: ChunkCommit[]) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (let again = 0; ; again++) {
    try {
      const answer = await commit(slicesOf(blocks), chunksOf(blocks));
      for (const chunk of chunksOf(blocks)) ports.chunks.committed(chunk);
      return answer;
    } catch (error) {
      if (!mustStoreAgain(error) || again >= STORE_AGAIN_MAX || !blocks.every(canStoreAgain)) throw error;
    }
    for (const block of blocks) {
      if (block.encoded === undefined) continue;
      if (block.commit !== undefined) ports.chunks.giveUp(block.commit);
      block.commit = await ports.chunks.store(block.encoded, block.place, signal);
    }
  }
}

function canStoreAgain(block: StoredBlock): boolean {
  return block.commit === undefined || block.encoded !== undefined;
}

function slicesOf(blocks: readonly StoredBlock[]): Slice[] {
  return blocks.flatMap(({ offset, length, commit }) =>
    commit === undefined ? [] : [{ offset, length, chunk: commit.chunk, chunkOffset: 0 }],
  );
}

function chunksOf(blocks: readonly StoredBlock[]): ChunkCommit[] {
  return blocks.flatMap(({ commit }) => (commit === undefined ? [] : [commit]));
}

/** Adds blocks to a growing file, in order, one commit at a time with all that is ready. */
export class GrowingFile {
  readonly #ports: UploadPorts;
  readonly #inode: number;
  readonly #settings: Pick<CommitSlices, 'mtime'> & { readonly durability: 'stable' | 'written' };
  readonly #signal: AbortSignal;
  #ready: StoredBlock[] = [];
  #committing: Promise<void> | undefined;
  #error: unknown;
  #attributes: Attributes | undefined;

  constructor(options: {
    ports: UploadPorts;
    inode: number;
    mtime: CommitSlices['mtime'];
    durability: 'stable' | 'written';
    signal: AbortSignal;
  }) {
    this.#ports = options.ports;
    this.#inode = options.inode;
    this.#settings = { mtime: options.mtime, durability: options.durability };
    this.#signal = options.signal;
  }

  /** Waits only while a full commit is ahead. */
  async add(block: StoredBlock): Promise<void> {
    while (this.#ready.length >= COMMIT_BLOCKS_MAX && this.#committing !== undefined) await this.#committing;
    if (this.#error !== undefined) {
      forgetBytes(this.#ports, block);
      throw this.#error;
    }
    this.#ready.push(block);
    this.#committing ??= this.#commitAll();
  }

  /** All that was added is committed; the attributes after it. */
  async finish(): Promise<Attributes | undefined> {
    while (this.#committing !== undefined) await this.#committing;
    if (this.#error !== undefined) throw this.#error;
    return this.#attributes;
  }

  async #commitAll(): Promise<void> {
    try {
      while (this.#ready.length > 0 && this.#error === undefined) {
        const blocks = this.#ready.splice(0, COMMIT_BLOCKS_MAX);
        try {
          await this.#commit(blocks);
        } finally {
          for (const block of blocks) forgetBytes(this.#ports, block);
        }
      }
    } catch (error) {
      this.#error = error;
      for (const block of this.#ready) forgetBytes(this.#ports, block);
      this.#ready = [];
    } finally {
      this.#committing = undefined;
    }
  }

  async #commit(blocks: readonly StoredBlock[]): Promise<void> {
    const end = blocks.reduce((most, { offset, length }) => Math.max(most, offset + length), 0);
    this.#attributes = await commitBlocks(
      this.#ports,
      blocks,
      async (slices, chunks) => {
        const reply = await this.#ports.session.call(
          {
            $case: 'commitSlices',
            value: {
              inode: this.#inode,
              slices,
              chunks,
              mtime: this.#settings.mtime,
              append: false,
              sizeAtLeast: end,
              expected: [],
              clearSetId: false,
            },
          },
          { signal: this.#signal, durability: this.#settings.durability },
        );
        return expectResult(reply, 'committed').attributes;
      },
      this.#signal,
    );
  }
}
