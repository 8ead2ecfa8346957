import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';
import {
  CONTROL_PAYLOAD_BYTES_MAX,
  copyFrame,
  encodeControlFrame,
  FRAME_HEADER_BYTES,
  FRAME_TYPES,
  frameHeaders,
  readFrame,
  readFrameHeader,
  sealDataFrame,
  stampStream,
} from './frame.ts';

/** PING on stream 0x01020304 with the payload "hi". */
const GOLDEN_PING = Buffer.from(
  [
    '04030201', // stream
    '652c61e8', // CRC-32 of what follows
    '0d', // type 13: PING
    '00', // flags
    '0000', // reserved
    '02000000', // stored length
    '02000000', // raw length
    '00000000', // raw offset
    '6869', // payload
  ].join(''),
  'hex',
);

/** DATA of three bytes in the second frame of a chunk, not compressed. */
const GOLDEN_DATA = Buffer.from(
  [
    '00000000', // stream: 0 until it is sent
    '45035a0b', // CRC-32 of what follows
    '04', // type 4: DATA
    '00', // flags: not compressed
    '0000', // reserved
    '03000000', // stored length
    '03000000', // raw length
    '00000200', // raw offset: 131072
    '616263', // payload
  ].join(''),
  'hex',
);

describe('frame layout', () => {
  test('D5: a control frame has the golden bytes', () => {
    assert.equal(
      encodeControlFrame('PING', 0x01020304, Buffer.from('hi')).toString('hex'),
      GOLDEN_PING.toString('hex'),
    );
  });

  test('D5: a data frame has the golden bytes', () => {
    const frame = Buffer.alloc(FRAME_HEADER_BYTES + 3, 0xee);
    frame.set(Buffer.from('abc'), FRAME_HEADER_BYTES);
    const crc = sealDataFrame(frame, { zstd: false, rawLength: 3, rawOffset: FRAME_BYTES });
    assert.equal(frame.toString('hex'), GOLDEN_DATA.toString('hex'));
    assert.equal(crc, GOLDEN_DATA.readUInt32LE(4));
  });

  test('what is read is what was written', () => {
    assert.deepEqual(readFrame(GOLDEN_DATA), {
      stream: 0,
      crc: GOLDEN_DATA.readUInt32LE(4),
      type: FRAME_TYPES.DATA,
      zstd: false,
      storedLength: 3,
      rawLength: 3,
      rawOffset: FRAME_BYTES,
    });
    assert.equal(readFrame(GOLDEN_PING).stream, 0x01020304);
  });

  test('a received frame is copied into one piece, with stream 0, and its memory given back', () => {
    let released = 0;
    const payload = [GOLDEN_DATA.subarray(24, 25), GOLDEN_DATA.subarray(25)];
    const into = Buffer.alloc(40, 0xff);
    const end = copyFrame({ ...readFrame(GOLDEN_DATA), stream: 77, payload, release: () => released++ }, into, 5);
    assert.equal(end, 5 + GOLDEN_DATA.length);
    assert.deepEqual(into.subarray(5, end), GOLDEN_DATA);
    assert.equal(released, 1);
  });

  test('the headers of many frames are read without a look at their payloads', () => {
    const frames = Buffer.concat([GOLDEN_DATA, GOLDEN_PING, GOLDEN_DATA]);
    assert.deepEqual(
      [...frameHeaders(frames)].map(({ type }) => type),
      [FRAME_TYPES.DATA, FRAME_TYPES.PING, FRAME_TYPES.DATA],
    );
    for (let length = 1; length < GOLDEN_DATA.length; length++)
      refuses(() => [...frameHeaders(frames.subarray(0, length))], /Read a bulk frame/);
  });

  test('D5: the stream id is not covered by the checksum: a hop may change it', () => {
    const frames = Buffer.concat([GOLDEN_DATA, GOLDEN_PING, GOLDEN_DATA]);
    stampStream(frames, 4_000_000_000);
    for (const at of [0, GOLDEN_DATA.length, GOLDEN_DATA.length + GOLDEN_PING.length])
      assert.equal(readFrame(frames, at).stream, 4_000_000_000);
  });

  test('every truncation is refused and says what is missing', () => {
    for (const golden of [GOLDEN_PING, GOLDEN_DATA])
      for (let length = 0; length < golden.length; length++)
        refuses(
          () => readFrame(Buffer.from(golden.subarray(0, length))),
          length < FRAME_HEADER_BYTES ? /of a header/ : /of a payload/,
        );
  });

  test('D5: every flipped bit behind the stream id is found', () => {
    for (const golden of [GOLDEN_PING, GOLDEN_DATA])
      for (let bit = 32; bit < golden.length * 8; bit++) {
        const flipped = Buffer.from(golden);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        refuses(() => readFrame(flipped), /Read a bulk frame/);
      }
  });

  test('a checksum that does not fit names both and the place', () => {
    const damaged = Buffer.from(GOLDEN_DATA);
    damaged[26] = 0;
    refuses(
      () => readFrame(damaged),
      /DATA at raw offset 131072 carries checksum 0b5a0345, its bytes give [0-9a-f]{8}/,
    );
  });
});

describe('frame headers that no one should send', () => {
  const cases: readonly { name: string; change: (header: Buffer) => void; message: RegExp }[] = [
    { name: 'type 0', change: (h) => h.writeUInt8(0, 8), message: /type 0 is unknown/ },
    { name: 'type 15', change: (h) => h.writeUInt8(15, 8), message: /type 15 is unknown/ },
    { name: 'an unknown flag', change: (h) => h.writeUInt8(2, 9), message: /unknown flags 2/ },
    { name: 'reserved bytes in use', change: (h) => h.writeUInt16LE(1, 10), message: /1 in its reserved bytes/ },
    { name: 'no raw bytes', change: (h) => h.writeUInt32LE(0, 16), message: /says 0 raw bytes/ },
    {
      name: 'too many raw bytes',
      change: (h) => h.writeUInt32LE(FRAME_BYTES + 1, 16),
      message: /says 131073 raw bytes/,
    },
    { name: 'other stored than raw bytes', change: (h) => h.writeUInt32LE(2, 12), message: /2 stored but 3 raw/ },
    {
      name: 'compression that saves nothing',
      change: (h) => h.writeUInt8(1, 9),
      message: /compressed from 3 to 3 bytes/,
    },
    { name: 'a stored length of 4 GiB', change: (h) => h.writeUInt32LE(0xffffffff, 12), message: /4294967295 stored/ },
    { name: 'an offset between frames', change: (h) => h.writeUInt32LE(1, 20), message: /raw offset 1 / },
    {
      name: 'an offset behind the chunk',
      change: (h) => h.writeUInt32LE(BLOCK_BYTES, 20),
      message: /raw offset 4194304/,
    },
    {
      name: 'a control frame with a large payload',
      change: (h) => {
        h.writeUInt8(FRAME_TYPES.HELLO, 8);
        h.writeUInt32LE(CONTROL_PAYLOAD_BYTES_MAX + 1, 12);
      },
      message: /payload of 65537 bytes/,
    },
    {
      name: 'a control frame with an offset',
      change: (h) => h.writeUInt8(FRAME_TYPES.HELLO, 8),
      message: /HELLO has 3 stored bytes but says 3 raw at offset 131072/,
    },
  ];
  for (const { name, change, message } of cases)
    test(`${name} is refused before the payload is waited for`, () => {
      const header = Buffer.from(GOLDEN_DATA.subarray(0, FRAME_HEADER_BYTES));
      change(header);
      refuses(() => readFrameHeader(header), message);
    });

  test('a control frame that would be too large is not made', () => {
    refuses(() => encodeControlFrame('PUT_OUTCOME', 1, Buffer.alloc(CONTROL_PAYLOAD_BYTES_MAX + 1)), /more than 65536/);
  });

  test('the golden checksums are those of zlib', () => {
    assert.equal(crc32(GOLDEN_PING.subarray(8)), GOLDEN_PING.readUInt32LE(4));
    assert.equal(crc32(GOLDEN_DATA.subarray(8)), GOLDEN_DATA.readUInt32LE(4));
  });
});

function refuses(act: () => unknown, message: RegExp): void {
  assert.throws(
    act,
    (error) => error instanceof CollectiveError && error.code === 'frame_invalid' && message.test(error.message),
  );
}
