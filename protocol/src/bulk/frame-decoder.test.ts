import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import fc from 'fast-check';
import { encodeChunk } from './encode-chunk.ts';
import { encodeControlFrame, FRAME_TYPES, type Frame, payloadOf, stampStream } from './frame.ts';
import { FrameDecoder } from './frame-decoder.ts';

interface Seen {
  readonly type: number;
  readonly stream: number;
  readonly payload: string;
}

const WAYS = ['push', 'fill'] as const;

/** Feeds the bytes in pieces that end at the cuts. */
function decode(
  bytes: Buffer,
  cuts: readonly number[],
  way: (typeof WAYS)[number],
): { seen: Seen[]; decoder: FrameDecoder } {
  const seen: Seen[] = [];
  const decoder = new FrameDecoder((frame) => {
    seen.push({ type: frame.type, stream: frame.stream, payload: payloadOf(frame).toString('hex') });
    frame.release();
  });
  const ends = [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
  let start = 0;
  for (const end of ends) {
    const piece = bytes.subarray(start, end);
    if (way === 'push') decoder.push(Buffer.from(piece));
    else fill(decoder, piece);
    start = end;
  }
  return { seen, decoder };
}

function fill(decoder: FrameDecoder, piece: Buffer): void {
  for (let at = 0; at < piece.length; ) {
    const space = decoder.space();
    const count = Math.min(space.length, piece.length - at);
    space.set(piece.subarray(at, at + count));
    decoder.filled(count);
    at += count;
  }
}

function sample(): { bytes: Buffer; want: Seen[] } {
  const chunk = encodeChunk([Buffer.alloc(300_000, 'compressible '), randomBytes(100_000)], {
    compress: true,
  });
  const data = chunk.frames.map((frames) => Buffer.from(frames));
  for (const frames of data) stampStream(frames, 9);
  const frames = [
    encodeControlFrame('HELLO', 0, Buffer.from('hello')),
    encodeControlFrame('PING', 0, Buffer.alloc(0)),
    ...data,
    encodeControlFrame('PUT_END', 9, Buffer.from('digest')),
  ];
  const bytes = Buffer.concat(frames);
  const whole: Seen[] = [];
  const decoder = new FrameDecoder((frame) =>
    whole.push({ type: frame.type, stream: frame.stream, payload: payloadOf(frame).toString('hex') }),
  );
  decoder.push(Buffer.from(bytes));
  return { bytes, want: whole };
}

describe('frame decoder', () => {
  test('a stream cut at any places gives the same frames, whichever way it comes in', () => {
    const { bytes, want } = sample();
    assert.equal(want.length, 7);
    assert.deepEqual(want.map(({ type }) => type).slice(0, 3), [FRAME_TYPES.HELLO, FRAME_TYPES.PING, FRAME_TYPES.DATA]);
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 40 }), fc.constantFrom(...WAYS), (cuts, way) => {
        assert.deepEqual(decode(bytes, cuts, way).seen, want);
      }),
      { numRuns: 60 },
    );
  });

  test('small frames in single bytes', () => {
    const bytes = Buffer.concat([
      encodeControlFrame('PONG', 3, Buffer.alloc(0)),
      encodeControlFrame('CANCEL', 4, Buffer.from('x')),
    ]);
    const cuts = Array.from({ length: bytes.length }, (_unused, i) => i);
    for (const way of WAYS)
      assert.deepEqual(
        decode(bytes, cuts, way).seen.map(({ stream }) => stream),
        [3, 4],
      );
  });

  test('every truncation is seen as bytes that wait for the rest', () => {
    const bytes = encodeControlFrame('PUT_END', 1, Buffer.from('12345678'));
    for (const way of WAYS)
      for (let length = 0; length <= bytes.length; length++) {
        const { seen, decoder } = decode(Buffer.from(bytes.subarray(0, length)), [], way);
        assert.equal(seen.length, length === bytes.length ? 1 : 0);
        assert.equal(decoder.pendingBytes, length === bytes.length ? 0 : length);
      }
  });

  test('D5: a damaged stream gives only frames that were sent, then an error, and nothing after', () => {
    const { bytes, want } = sample();
    const sent = new Set(want.map((frame) => JSON.stringify({ ...frame, stream: 0 })));
    fc.assert(
      fc.property(
        fc.nat(bytes.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.constantFrom(...WAYS),
        (at, change, way) => {
          const damaged = Buffer.from(bytes);
          damaged[at] = (damaged[at] ?? 0) ^ change;
          const seen: string[] = [];
          const decoder = new FrameDecoder((frame) =>
            seen.push(JSON.stringify({ type: frame.type, stream: 0, payload: payloadOf(frame).toString('hex') })),
          );
          try {
            if (way === 'push') decoder.push(damaged);
            else fill(decoder, damaged);
          } catch (error) {
            assert.ok(error instanceof CollectiveError && error.code === 'frame_invalid', String(error));
            assert.throws(() => decoder.push(Buffer.alloc(1)), { code: 'frame_invalid' });
          }
          for (const frame of seen) assert.ok(sent.has(frame), 'a frame that nobody sent');
        },
      ),
      { numRuns: 150 },
    );
  });

  test('any bytes at all end in frame_invalid or wait, never in another error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.constantFrom(...WAYS), (bytes, way) => {
        try {
          decode(Buffer.from(bytes), [7, 30], way);
        } catch (error) {
          assert.ok(error instanceof CollectiveError && error.code === 'frame_invalid', String(error));
        }
      }),
    );
  });

  test('pushed pieces are not copied; a filled frame is in one piece and its memory serves again', () => {
    const chunk = encodeChunk([randomBytes(60_000)], { compress: false });
    const bytes = Buffer.concat(chunk.frames);
    const pushed: Frame[] = [];
    const pieces = [Buffer.from(bytes.subarray(0, 20_000)), Buffer.from(bytes.subarray(20_000))];
    const pushing = new FrameDecoder((frame) => pushed.push(frame));
    for (const piece of pieces) pushing.push(piece);
    assert.deepEqual(
      pushed[0]?.payload.map((part) => part.buffer),
      pieces.map((piece) => piece.buffer),
    );

    const filled: Frame[] = [];
    const filling = new FrameDecoder((frame) => filled.push(frame));
    fill(filling, bytes);
    assert.equal(filled[0]?.payload.length, 1);
    filled[0]?.release();
    filled[0]?.release();
    fill(filling, bytes);
    fill(filling, bytes);
    assert.equal(filled[1]?.payload[0]?.buffer, filled[0]?.payload[0]?.buffer);
    assert.notEqual(filled[2]?.payload[0]?.buffer, filled[1]?.payload[0]?.buffer, 'released twice, given once');
  });
});
