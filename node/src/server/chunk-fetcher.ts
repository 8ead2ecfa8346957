/**
 * Gets chunks from other nodes and keeps them, as they are stored there: for repair, drain and rebalance (D8). Frames are
 * checked as they arrive and the whole by its digest before anything is written. A source that fails or has other bytes
 * costs a try of the next one.
 *
 * Few chunks at a time and on connections of their own, so that it never stands in the way of what clients write.
 */
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdEpoch, type InodeNumber } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import { ChunkDigest } from '@collective/protocol/bulk/encode-chunk';
import type { BulkExchange, GetRequest } from '@collective/protocol/bulk/exchange';
import { copyFrame, FRAME_HEADER_BYTES } from '@collective/protocol/bulk/frame';
import { Turnstile } from '@collective/protocol/bulk/turnstile';
import type { ChunkFacts, ChunkStore } from '../chunk-store/chunk-store.ts';
import type { PeerConnections } from './peer-connections.ts';

/** Chunks in memory at once: while some wait for the disk, which a sync may hold up, the others arrive. */
const CHUNKS_AT_ONCE = 8;
export const FETCH_CONNECTIONS_MAX = 2;

export interface FetchSource {
  readonly node: string;
  readonly ticket: Uint8Array;
  readonly ticketExpires: Timestamp;
}

export interface FetchRequest {
  readonly chunk: ChunkId;
  /** Raw bytes. */
  readonly length: number;
  readonly digest: Buffer;
  /** Hints (D1). */
  readonly inode: number;
  readonly block: number;
  readonly sources: readonly FetchSource[];
  /** The copy here is damaged. */
  readonly replace: boolean;
  readonly token: Uint8Array;
}

export interface Fetched {
  readonly sequence: number;
  readonly storedLength: number;
}

export interface ChunkFetcherOptions {
  readonly store: Pick<ChunkStore, 'put' | 'replace' | 'has' | 'describe'>;
  readonly peers: PeerConnections;
  /** Bytes that arrived, for metrics. */
  onFetched?(bytes: number): void;
}

export class ChunkFetcher {
  readonly #options: ChunkFetcherOptions;
  readonly #turns = new Turnstile(CHUNKS_AT_ONCE);
  readonly #buffers = new ChunkBuffers(CHUNKS_AT_ONCE);

  constructor(options: ChunkFetcherOptions) {
    this.#options = options;
  }

  /** Resolves when the chunk is written, not yet stable. Throws `no_space`, `chunk_conflict`, or what the last source answered. */
  async fetch(request: FetchRequest, signal: AbortSignal): Promise<Fetched> {
    const here = await this.#present(request);
    if (here !== undefined) return here;
    const leave = await this.#turns.enter(signal);
    try {
      return await this.#fromAny(request, signal);
    } finally {
      leave();
    }
  }

  async #present({ chunk, digest, replace }: FetchRequest): Promise<Fetched | undefined> {
    const { store } = this.#options;
    if (replace || !store.has(chunk)) return undefined;
    const { sequence, storedLength, digest: found } = await store.describe(chunk);
    if (!found.equals(digest))
      throw new CollectiveError('chunk_conflict', `Fetch chunk ${chunk}: it is here with another digest`);
    return { sequence, storedLength };
  }

  async #fromAny(request: FetchRequest, signal: AbortSignal): Promise<Fetched> {
    const { chunk, length, sources } = request;
    const storedMax = length + Math.ceil(length / FRAME_BYTES) * FRAME_HEADER_BYTES;
    let last = new CollectiveError('unavailable', `Fetch chunk ${chunk}: no node was named that has it`);
    for (const source of sources) {
      const memory = this.#buffers.take(storedMax);
      try {
        const frames = await this.#read(request, source, memory, signal);
        return await this.#keep(request, frames);
      } catch (error) {
        signal.throwIfAborted();
        last = toCollectiveError(error, `Fetch chunk ${chunk} from ${source.node}`, 'unavailable');
        // The fault is ours: no other source helps.
        if (last.code === 'no_space' || last.code === 'disk_failed' || last.code === 'shutting_down') throw last;
      } finally {
        this.#buffers.giveBack(memory);
      }
    }
    throw last;
  }

  /** The frames, one behind the other at the beginning of `memory`. */
  async #read(request: FetchRequest, source: FetchSource, memory: Buffer, signal: AbortSignal): Promise<Buffer> {
    const { chunk, length, digest, token } = request;
    const { node, ticket, ticketExpires } = source;
    const get: GetRequest = { token, ticket, ticketExpires, chunk, offset: 0, length };
    const found = new ChunkDigest();
    const take = async (exchange: BulkExchange): Promise<number> => {
      let end = 0;
      for await (const frame of exchange.getFrames(get, { signal })) {
        found.add(frame.crc);
        end = copyFrame(frame, memory, end);
      }
      return end;
    };
    const end = await this.#options.peers.use(node, signal, take);
    if (!found.finish(length).equals(digest))
      throw new CollectiveError(
        'chunk_corrupt',
        `Fetch chunk ${chunk} from ${node}: its frames do not give its digest`,
      );
    return memory.subarray(0, end);
  }

  async #keep({ chunk, length, digest, inode, block, replace }: FetchRequest, frames: Buffer): Promise<Fetched> {
    const { store, onFetched } = this.#options;
    const facts: ChunkFacts = {
      chunk,
      inode: inode as InodeNumber,
      block,
      rawLength: length,
      digest,
      epoch: chunkIdEpoch(chunk),
    };
    const { sequence } = await (replace ? store.replace(facts, [frames]) : store.put(facts, [frames]));
    onFetched?.(frames.length);
    return { sequence, storedLength: frames.length };
  }
}
