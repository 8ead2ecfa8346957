/**
 * Raw bytes of a chunk become its frames (D5): 128 KiB each, zstd only where a sample says that it pays. The digest names the
 * frames as they are sent and stored: whoever has checked each frame's checksum needs only 4 bytes of each to check the whole.
 *
 * Copies per byte: one, into the frame. Measured for bytes that do not compress: the sample costs below 1% of a core per GB/s.
 */
import { constants, zstdCompressSync } from 'node:zlib';
import { assert } from '@collective/base/assert';
import { crc32 } from '@collective/base/crc';
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';
import type { ChunkBuffers } from './chunk-buffers.ts';
import { FRAME_HEADER_BYTES, sealDataFrame } from './frame.ts';

export const DIGEST_BYTES = 8;
/** Level 1: the level at which compression still keeps up with a network. */
const ZSTD_OPTIONS = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** Compression must save a tenth, or the reader's work is for nothing. */
const KEEP_BELOW = 0.9;
/** The sample: some pieces spread over the chunk, compressed together. */
const SAMPLE_PIECES = 4;
const SAMPLE_PIECE_BYTES = 4 * 1024;
/** Below this there is nothing to gain. */
const COMPRESS_FROM_BYTES = 512;
/** Frames are handed over in buffers of about this size: fewer writes, and a sender that must wait does so soon. */
const SEND_BYTES = 512 * 1024;

/** Only within one turn. */
const ONE_CRC = Buffer.alloc(4);

export interface EncodedChunk {
  /** The DATA frames in order, stream id 0; each buffer holds one or several whole frames. */
  readonly frames: readonly Buffer[];
  readonly rawLength: number;
  /** Headers included. */
  readonly storedLength: number;
  readonly digest: Buffer;
  /** Optional, when every put of it has ended: its memory may serve the next chunk. Saves a third of a client's work. */
  release(): void;
}

/** `pieces` together are 1 byte to 4 MiB; they are not changed and not kept. */
export function encodeChunk(
  pieces: readonly Uint8Array[],
  options: { compress: boolean; buffers?: ChunkBuffers },
): EncodedChunk {
  const rawLength = pieces.reduce((sum, piece) => sum + piece.length, 0);
  assert(rawLength > 0 && rawLength <= BLOCK_BYTES, `a chunk has 1 to ${BLOCK_BYTES} bytes, not ${rawLength}`);
  const lengthMax = rawLength + Math.ceil(rawLength / FRAME_BYTES) * FRAME_HEADER_BYTES;
  const memory = options.buffers?.take(lengthMax) ?? Buffer.allocUnsafe(lengthMax);
  const compress = options.compress && compressionPays(pieces, rawLength);
  const source = new PieceReader(pieces);
  const digest = new ChunkDigest();
  const frames: Buffer[] = [];
  let bufferStart = 0;
  let end = 0;
  for (let rawOffset = 0; rawOffset < rawLength; rawOffset += FRAME_BYTES) {
    const length = Math.min(FRAME_BYTES, rawLength - rawOffset);
    const payloadAt = end + FRAME_HEADER_BYTES;
    source.readInto(memory, payloadAt, length);
    const packed = compress ? compressed(memory.subarray(payloadAt, payloadAt + length)) : undefined;
    if (packed !== undefined) memory.set(packed, payloadAt);
    const frame = memory.subarray(end, payloadAt + (packed?.length ?? length));
    digest.add(sealDataFrame(frame, { zstd: packed !== undefined, rawLength: length, rawOffset }));
    end += frame.length;
    if (end - bufferStart >= SEND_BYTES || rawOffset + length === rawLength) {
      frames.push(memory.subarray(bufferStart, end));
      bufferStart = end;
    }
  }
  let released = false;
  const release = (): void => {
    if (!released) options.buffers?.giveBack(memory);
    released = true;
  };
  return { frames, rawLength, storedLength: end, digest: digest.finish(rawLength), release };
}

/** 8 bytes: CRC-32 over the frames' checksums (little-endian, in order), then the raw length. */
export class ChunkDigest {
  #crc = 0;

  add(frameCrc: number): void {
    ONE_CRC.writeUInt32LE(frameCrc);
    this.#crc = crc32(ONE_CRC, this.#crc);
  }

  /** What `finish` would give lies at `at`. */
  isAt(bytes: Buffer, at: number, rawLength: number): boolean {
    return bytes.readUInt32LE(at) === this.#crc && bytes.readUInt32LE(at + 4) === rawLength;
  }

  finish(rawLength: number): Buffer {
    const digest = Buffer.alloc(DIGEST_BYTES);
    digest.writeUInt32LE(this.#crc, 0);
    digest.writeUInt32LE(rawLength, 4);
    return digest;
  }
}

function compressed(raw: Buffer): Buffer | undefined {
  if (raw.length < COMPRESS_FROM_BYTES) return undefined;
  const packed = zstdCompressSync(raw, ZSTD_OPTIONS);
  return packed.length > raw.length * KEEP_BELOW ? undefined : packed;
}

function compressionPays(pieces: readonly Uint8Array[], rawLength: number): boolean {
  if (rawLength < COMPRESS_FROM_BYTES) return false;
  const sample = sampleOf(pieces, rawLength);
  return zstdCompressSync(sample, ZSTD_OPTIONS).length <= sample.length * KEEP_BELOW;
}

function sampleOf(pieces: readonly Uint8Array[], rawLength: number): Buffer {
  if (rawLength <= SAMPLE_PIECES * SAMPLE_PIECE_BYTES) return Buffer.concat(pieces);
  const sample = Buffer.allocUnsafe(SAMPLE_PIECES * SAMPLE_PIECE_BYTES);
  const source = new PieceReader(pieces);
  const stride = Math.floor((rawLength - SAMPLE_PIECE_BYTES) / (SAMPLE_PIECES - 1));
  for (let i = 0; i < SAMPLE_PIECES; i++) {
    source.skipTo(i * stride);
    source.readInto(sample, i * SAMPLE_PIECE_BYTES, SAMPLE_PIECE_BYTES);
  }
  return sample;
}

/** Reads on through a list of pieces as if they were one. */
class PieceReader {
  readonly #pieces: readonly Uint8Array[];
  #index = 0;
  #pieceStart = 0;
  #position = 0;

  constructor(pieces: readonly Uint8Array[]) {
    this.#pieces = pieces;
  }

  skipTo(position: number): void {
    assert(position >= this.#position, 'pieces are read forwards');
    this.#position = position;
  }

  readInto(into: Buffer, at: number, length: number): void {
    let done = 0;
    while (done < length) {
      const piece = this.#pieces[this.#index];
      assert(piece !== undefined, 'a piece for every byte of the chunk');
      const start = this.#position - this.#pieceStart;
      if (start >= piece.length) {
        this.#pieceStart += piece.length;
        this.#index++;
        continue;
      }
      const taken = Math.min(length - done, piece.length - start);
      into.set(piece.subarray(start, start + taken), at + done);
      done += taken;
      this.#position += taken;
    }
  }
}
