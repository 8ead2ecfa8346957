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

export interface EncodedChunk {
  /** Whole DATA frames in order, each in one buffer, stream id 0. */
  readonly frames: readonly Buffer[];
  readonly rawLength: number;
  /** Headers included. */
  readonly storedLength: number;
  readonly digest: Buffer;
}

/** `pieces` together are 1 byte to 4 MiB; they are not changed and not kept. */
export function encodeChunk(pieces: readonly Uint8Array[], options: { compress: boolean }): EncodedChunk {
  const rawLength = pieces.reduce((sum, piece) => sum + piece.length, 0);
  assert(rawLength > 0 && rawLength <= BLOCK_BYTES, `a chunk has 1 to ${BLOCK_BYTES} bytes, not ${rawLength}`);
  const source = new PieceReader(pieces);
  const digest = new ChunkDigest();
  const frames: Buffer[] = [];
  let storedLength = 0;
  const compress = options.compress && compressionPays(pieces, rawLength);
  for (let rawOffset = 0; rawOffset < rawLength; rawOffset += FRAME_BYTES) {
    const length = Math.min(FRAME_BYTES, rawLength - rawOffset);
    const plain = Buffer.allocUnsafe(FRAME_HEADER_BYTES + length);
    source.readInto(plain, FRAME_HEADER_BYTES, length);
    const smaller = compress ? compressedFrame(plain) : undefined;
    const frame = smaller ?? plain;
    digest.add(sealDataFrame(frame, { zstd: smaller !== undefined, rawLength: length, rawOffset }));
    frames.push(frame);
    storedLength += frame.length;
  }
  return { frames, rawLength, storedLength, digest: digest.finish(rawLength) };
}

/** 8 bytes: CRC-32 over the frames' checksums (little-endian, in order), then the raw length. */
export class ChunkDigest {
  readonly #word = Buffer.alloc(4);
  #crc = 0;

  add(frameCrc: number): void {
    this.#word.writeUInt32LE(frameCrc);
    this.#crc = crc32(this.#word, this.#crc);
  }

  finish(rawLength: number): Buffer {
    const digest = Buffer.alloc(DIGEST_BYTES);
    digest.writeUInt32LE(this.#crc, 0);
    digest.writeUInt32LE(rawLength, 4);
    return digest;
  }
}

function compressedFrame(plain: Buffer): Buffer | undefined {
  const raw = plain.subarray(FRAME_HEADER_BYTES);
  if (raw.length < COMPRESS_FROM_BYTES) return undefined;
  const packed = zstdCompressSync(raw, ZSTD_OPTIONS);
  if (packed.length > raw.length * KEEP_BELOW) return undefined;
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + packed.length);
  frame.set(packed, FRAME_HEADER_BYTES);
  return frame;
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
