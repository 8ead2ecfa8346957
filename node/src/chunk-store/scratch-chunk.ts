/** For tests only: chunks with known bytes, and what a store gives back as raw bytes. */
import { createCipheriv } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { type ChunkId, chunkIdOf, type Epoch, type InodeNumber } from '@collective/base/ids';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { FRAME_HEADER_BYTES, frameHeaders, readFrame } from '@collective/protocol/bulk/frame';
import type { ChunkFacts, ChunkStore } from './chunk-store.ts';

export const SCRATCH_EPOCH: Epoch = { generation: 0x65000000, start: 3 };

export interface ScratchChunk {
  readonly facts: ChunkFacts;
  readonly frames: readonly Buffer[];
  readonly raw: Buffer;
}

export function scratchId(number: number): ChunkId {
  return chunkIdOf(SCRATCH_EPOCH, number);
}

/** The same number and length give the same bytes; `text` compresses. */
export function scratchChunk(
  number: number,
  length: number,
  content: 'noise' | 'text' = 'noise',
  seed = number,
): ScratchChunk {
  return scratchChunkOf(number, content === 'noise' ? noise(seed, length) : Buffer.alloc(length, `chunk ${seed} `));
}

export function scratchChunkOf(number: number, raw: Buffer, compress = true): ScratchChunk {
  const { length } = raw;
  const encoded = encodeChunk([raw], { compress });
  const frames = splitFrames(Buffer.concat(encoded.frames));
  const facts = {
    chunk: scratchId(number),
    inode: (1000 + number) as InodeNumber,
    block: number % 7,
    rawLength: length,
    digest: encoded.digest,
    epoch: SCRATCH_EPOCH,
  };
  return { facts, frames, raw };
}

/** Reads as a client would, down to the raw bytes of the range. */
export async function readRaw(store: ChunkStore, chunk: ChunkId, offset: number, length: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let start: number | undefined;
  for await (const frames of store.read(chunk, offset, length)) {
    for (let at = 0; at < frames.length; ) {
      const header = readFrame(frames, at);
      const payload = frames.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + header.storedLength);
      start ??= header.rawOffset;
      pieces.push(header.zstd ? zstdDecompressSync(payload) : payload);
      at += FRAME_HEADER_BYTES + header.storedLength;
    }
  }
  const skipped = offset - (start ?? 0);
  return Buffer.concat(pieces).subarray(skipped, skipped + length);
}

/** Does not compress. */
function noise(seed: number, length: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** One buffer a frame, so that tests can leave one out. */
function splitFrames(frames: Buffer): Buffer[] {
  let at = 0;
  return [...frameHeaders(frames)].map((header) => {
    const start = at;
    at += FRAME_HEADER_BYTES + header.storedLength;
    return frames.subarray(start, at);
  });
}
