/**
 * Makes one chunk of the pieces of many (D8): what a block shows after hundreds of small writes, read once and stored in one
 * piece. Pieces lie here or on other nodes; the result is kept here, and other nodes fetch it. Whether it takes the place
 * of the pieces is for the coordinator to decide, which knows whether the block changed meanwhile.
 */
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdEpoch, type InodeNumber } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { RangeReader } from '@collective/protocol/bulk/range-reader';
import { storedFrames } from '@collective/protocol/bulk/stored-frames';
import { Turnstile } from '@collective/protocol/bulk/turnstile';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';
import type { FetchSource } from './chunk-fetcher.ts';
import type { PeerConnections } from './peer-connections.ts';

export interface FoldPiece {
  readonly length: number;
  /** Undefined: zeros. */
  readonly chunk: ChunkId | undefined;
  readonly chunkOffset: number;
  readonly sources: readonly FetchSource[];
}

export interface FoldRequest {
  readonly chunk: ChunkId;
  readonly inode: number;
  readonly block: number;
  readonly compress: boolean;
  readonly pieces: readonly FoldPiece[];
  readonly token: Uint8Array;
}

export interface FoldedChunk {
  readonly sequence: number;
  readonly storedLength: number;
  readonly digest: Buffer;
  /** Raw bytes. */
  readonly length: number;
}

export class BlockFolder {
  readonly #store: Pick<ChunkStore, 'has' | 'read' | 'put'>;
  readonly #peers: PeerConnections;
  /** One block in memory at a time. */
  readonly #turn = new Turnstile(1);

  constructor(store: Pick<ChunkStore, 'has' | 'read' | 'put'>, peers: PeerConnections) {
    this.#store = store;
    this.#peers = peers;
  }

  /** Resolves when the chunk is written. Throws `invalid_argument`, `no_space`, or what kept a piece from being read. */
  async fold(request: FoldRequest, signal: AbortSignal): Promise<FoldedChunk> {
    const { chunk, inode, block, compress, pieces } = request;
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (length < 1 || length > BLOCK_BYTES)
      throw new CollectiveError('invalid_argument', `Fold into chunk ${chunk}: it would have ${length} bytes`);
    const leave = await this.#turn.enter(signal);
    try {
      const raw = Buffer.alloc(length);
      let at = 0;
      for (const piece of pieces) {
        await this.#fill(raw.subarray(at, at + piece.length), piece, request, signal);
        at += piece.length;
      }
      const encoded = encodeChunk([raw], { compress });
      const { digest, storedLength } = encoded;
      const facts = {
        chunk,
        inode: inode as InodeNumber,
        block,
        rawLength: length,
        digest,
        epoch: chunkIdEpoch(chunk),
      };
      const { sequence } = await this.#store.put(facts, encoded.frames);
      return { sequence, storedLength, digest, length };
    } finally {
      leave();
    }
  }

  async #fill(into: Buffer, piece: FoldPiece, { token }: FoldRequest, signal: AbortSignal): Promise<void> {
    const { chunk, chunkOffset: offset } = piece;
    if (chunk === undefined) return;
    let last = new CollectiveError('unavailable', `Read chunk ${chunk} to fold it: no node was named that has it`);
    try {
      if (this.#store.has(chunk)) return await this.#readHere(into, chunk, offset);
    } catch (error) {
      last = toCollectiveError(error, `Read chunk ${chunk} here to fold it`);
    }
    for (const { node, ticket, ticketExpires } of piece.sources) {
      try {
        const request = { token, ticket, ticketExpires, chunk, offset, length: into.length };
        await this.#peers.use(node, signal, async (exchange) => {
          for await (const { offset: at, bytes, release } of exchange.get(request, { signal })) {
            into.set(bytes, at - offset);
            release();
          }
        });
        return;
      } catch (error) {
        signal.throwIfAborted();
        last = toCollectiveError(error, `Read chunk ${chunk} on ${node} to fold it`, 'unavailable');
      }
    }
    throw last;
  }

  async #readHere(into: Buffer, chunk: ChunkId, offset: number): Promise<void> {
    const reader = new RangeReader(offset, into.length, `Read chunk ${chunk}`);
    for await (const frames of this.#store.read(chunk, offset, into.length))
      for (const frame of storedFrames(frames)) {
        reader.accept(frame);
        const piece = await reader.next();
        if (piece !== undefined) into.set(piece.bytes, piece.offset - offset);
      }
  }
}
