import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { crc32 } from '@collective/base/crc';
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';
import fc from 'fast-check';
import { ChunkBuffers } from './chunk-buffers.ts';
import { type EncodedChunk, encodeChunk } from './encode-chunk.ts';
import { FRAME_HEADER_BYTES, type FrameHeader, readFrame } from './frame.ts';

function framesOf(chunk: EncodedChunk): { header: FrameHeader; payload: Buffer }[] {
  const bytes = Buffer.concat(chunk.frames);
  const frames: { header: FrameHeader; payload: Buffer }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const header = readFrame(bytes, at);
    const end = at + FRAME_HEADER_BYTES + header.storedLength;
    frames.push({ header, payload: bytes.subarray(at + FRAME_HEADER_BYTES, end) });
    at = end;
  }
  return frames;
}

function rawOf(chunk: EncodedChunk): Buffer {
  return Buffer.concat(
    framesOf(chunk).map(({ header, payload }) => (header.zstd ? zstdDecompressSync(payload) : payload)),
  );
}

describe('encode chunk', () => {
  test('any bytes in any pieces come back, in frames of 128 KiB', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(200_000), { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        fc.boolean(),
        (lengths, compress, random) => {
          const pieces = lengths.map((length, i) =>
            random ? randomBytes(length) : Buffer.alloc(length, `text ${i} `),
          );
          const raw = Buffer.concat(pieces);
          if (raw.length === 0) return;
          const chunk = encodeChunk(pieces, { compress });
          assert.ok(rawOf(chunk).equals(raw));
          assert.equal(chunk.rawLength, raw.length);
          assert.equal(chunk.storedLength, Buffer.concat(chunk.frames).length);
          framesOf(chunk).forEach(({ header }, i) => {
            assert.equal(header.rawOffset, i * FRAME_BYTES);
            assert.equal(header.rawLength, Math.min(FRAME_BYTES, raw.length - i * FRAME_BYTES));
            if (!compress) assert.equal(header.zstd, false);
          });
        },
      ),
      { numRuns: 40 },
    );
  });

  test('D5: what compresses is compressed, what does not is left, frame by frame', () => {
    const text = Buffer.alloc(BLOCK_BYTES, 'the same again ');
    assert.ok(encodeChunk([text], { compress: true }).storedLength < BLOCK_BYTES / 50);
    const noise = randomBytes(BLOCK_BYTES);
    assert.ok(framesOf(encodeChunk([noise], { compress: true })).every(({ header }) => !header.zstd));
    const half = encodeChunk([text.subarray(0, BLOCK_BYTES / 2), noise.subarray(0, BLOCK_BYTES / 2)], {
      compress: true,
    });
    assert.deepEqual(
      framesOf(half).map(({ header }) => header.zstd),
      Array.from({ length: 32 }, (_unused, i) => i < 16),
    );
  });

  test("D2: the digest is the checksum over the frames' checksums, then the raw length", () => {
    const chunk = encodeChunk([randomBytes(300_000)], { compress: false });
    const words = Buffer.concat(
      framesOf(chunk).map(({ header }) => {
        const word = Buffer.alloc(4);
        word.writeUInt32LE(header.crc);
        return word;
      }),
    );
    const want = Buffer.alloc(8);
    want.writeUInt32LE(crc32(words), 0);
    want.writeUInt32LE(300_000, 4);
    assert.deepEqual(chunk.digest, want);
  });

  test('the digest of a known chunk is golden', () => {
    assert.equal(
      encodeChunk([Buffer.from('collective')], { compress: true }).digest.toString('hex'),
      'c149e3600a000000',
    );
  });

  test('an empty chunk and one larger than a block are broken invariants', () => {
    assert.throws(() => encodeChunk([], { compress: true }), /Invariant broken/);
    assert.throws(
      () => encodeChunk([Buffer.alloc(BLOCK_BYTES), Buffer.alloc(1)], { compress: true }),
      /Invariant broken/,
    );
  });

  test('memory that was released serves the next chunk, once', () => {
    const buffers = new ChunkBuffers(1);
    const first = encodeChunk([randomBytes(3_000_000)], { compress: false, buffers });
    first.release();
    first.release();
    const second = encodeChunk([randomBytes(3_000_000)], { compress: false, buffers });
    const third = encodeChunk([randomBytes(3_000_000)], { compress: false, buffers });
    assert.equal(second.frames[0]?.buffer, first.frames[0]?.buffer);
    assert.notEqual(third.frames[0]?.buffer, second.frames[0]?.buffer);
  });
});
