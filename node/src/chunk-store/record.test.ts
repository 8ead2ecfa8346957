import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import fc from 'fast-check';
import {
  type ChunkHeader,
  decodeRecordHeader,
  encodeRecordHeader,
  looksLikeRecord,
  plainStoredLength,
  RECORD_HEADER_BYTES_MAX,
  RECORD_HEADER_BYTES_MIN,
  recordBytes,
  recordBytesOf,
  recordHeaderBytes,
  recordPadding,
  TOMBSTONE_BYTES,
  type TombstoneHeader,
} from './record.ts';
import { scratchId } from './scratch-chunk.ts';

const RECORD: ChunkHeader = {
  kind: 'chunk',
  chunk: scratchId(0x1122334455),
  inode: 0x00aabbccddee as InodeNumber,
  block: 7,
  rawLength: 131_075,
  storedLength: 24 + 131_072 + 24 + 3,
  digest: Buffer.from('d1d2d3d4d5d6d7d8', 'hex'),
  time: { seconds: 1_700_000_001, nanos: 5 },
  epoch: { generation: 0x65000000, start: 3 },
  incarnation: 9,
  sequence: 9 * 2 ** 32 + 4,
  stableSequence: 9 * 2 ** 32 + 2,
  diskId: Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'),
  frameLengths: [131_072, 3],
  salt: Buffer.from('a1a2a3a4a5a6a7a8', 'hex'),
  offset: 0x01020304 * 8,
};

const GOLDEN = [
  '43435231', // magic 'CCR1'
  '01', // kind: chunk
  '01', // version
  '0200', // frames
  '88000000', // header length: 136
  'CRC_____', // CRC-32 of all else
  '65000000000000030000001122334455', // chunk id
  'eeddccbbaa000000', // inode
  '07000000', // block
  '03000200', // raw length: 131075
  '33000200', // stored length: 131123
  '04030201', // offset / 8
  'd1d2d3d4d5d6d7d8', // digest
  '01f1536500000000', // seconds
  '05000000', // nanoseconds
  '00000065', // generation of the coordinator
  '03000000', // start of the coordinator
  '09000000', // incarnation of the store
  '0400000009000000', // sequence
  '0200000009000000', // stable sequence
  '000102030405060708090a0b0c0d0e0f', // disk
  'a1a2a3a4a5a6a7a8', // salt of the segment
  '00000200', // stored bytes of frame 0
  '03000000', // stored bytes of frame 1
];

const TOMBSTONE: TombstoneHeader = {
  kind: 'tombstone',
  chunk: RECORD.chunk,
  time: RECORD.time,
  incarnation: 9,
  sequence: 9 * 2 ** 32 + 5,
  stableSequence: 9 * 2 ** 32 + 4,
  diskId: RECORD.diskId,
  salt: RECORD.salt,
  offset: 0x01020304 * 8,
};

const GOLDEN_TOMBSTONE = [
  '43435231', // magic 'CCR1'
  '02', // kind: tombstone
  '01', // version
  '0000', // frames
  '80000000', // header length: 128
  'CRC_____', // CRC-32 of all else
  '65000000000000030000001122334455', // chunk id
  '0000000000000000', // inode
  '00000000', // block
  '00000000', // raw length
  '00000000', // stored length
  '04030201', // offset / 8
  '0000000000000000', // digest
  '01f1536500000000', // seconds
  '05000000', // nanoseconds
  '00000000', // generation of the coordinator
  '00000000', // start of the coordinator
  '09000000', // incarnation of the store
  '0500000009000000', // sequence
  '0400000009000000', // stable sequence
  '000102030405060708090a0b0c0d0e0f', // disk
  'a1a2a3a4a5a6a7a8', // salt of the segment
];

describe('chunk record', () => {
  test('D4: a record header has the golden bytes', () => {
    const bytes = encodeRecordHeader(RECORD);
    const want = GOLDEN.join('').replace('CRC_____', '3bfbf939');
    assert.equal(bytes.toString('hex'), want);
  });

  test('D4: a tombstone has the golden bytes', () => {
    const bytes = encodeRecordHeader(TOMBSTONE);
    assert.equal(bytes.toString('hex'), GOLDEN_TOMBSTONE.join('').replace('CRC_____', '597b1b73'));
  });

  test('D4: what is read is what was written, whatever follows it', () => {
    for (const record of [RECORD, TOMBSTONE]) {
      const bytes = encodeRecordHeader(record);
      assert.deepEqual(decodeRecordHeader(bytes), record);
      assert.deepEqual(decodeRecordHeader(Buffer.concat([bytes, Buffer.alloc(500, 0xff)])), record);
    }
  });

  test('a whole record of a kind or a version that is not known is refused as newer', () => {
    for (const [at, value] of [
      [4, 3],
      [4, 0],
      [5, 2],
    ] as const) {
      const bytes = encodeRecordHeader(RECORD);
      bytes.writeUInt8(value, at);
      bytes.writeUInt32LE(crc32(bytes.subarray(16), crc32(bytes.subarray(0, 12))), 12);
      assert.throws(() => decodeRecordHeader(bytes), { code: 'version_too_new' });
    }
  });

  test('D4: a chunk without frames and a tombstone with some are damage', () => {
    for (const [record, kind] of [
      [RECORD, 2],
      [TOMBSTONE, 1],
    ] as const) {
      const bytes = encodeRecordHeader(record);
      bytes.writeUInt8(kind, 4);
      bytes.writeUInt32LE(crc32(bytes.subarray(16), crc32(bytes.subarray(0, 12))), 12);
      damaged(() => decodeRecordHeader(bytes));
    }
  });

  test('D4: a record is looked at only where it says that it lies', () => {
    const bytes = Buffer.concat([Buffer.alloc(8), encodeRecordHeader(RECORD)]);
    const { salt, offset } = RECORD;
    assert.equal(looksLikeRecord(bytes, 8, { salt, offset }), true);
    assert.equal(looksLikeRecord(bytes, 8, { salt, offset: offset + 8 }), false);
    for (let bit = 0; bit < 64; bit++) {
      const other = Buffer.from(salt);
      other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(looksLikeRecord(bytes, 8, { salt: other, offset }), false, `bit ${bit}`);
    }
  });

  test('D4: every truncation is refused politely', () => {
    for (const bytes of [encodeRecordHeader(RECORD), encodeRecordHeader(TOMBSTONE)])
      for (let length = 0; length < bytes.length; length++)
        damaged(() => decodeRecordHeader(Buffer.from(bytes.subarray(0, length))));
  });

  test('D4: every flipped bit of a header is found', () => {
    for (const bytes of [encodeRecordHeader(RECORD), encodeRecordHeader(TOMBSTONE)])
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        damaged(() => decodeRecordHeader(flipped));
      }
  });

  test('any bytes at all are refused as damage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (random, withMagic) => {
        const bytes = Buffer.from(random);
        if (withMagic && bytes.length >= 4) bytes.write('CCR1');
        damaged(() => decodeRecordHeader(bytes));
      }),
    );
  });

  test('header, frames and padding make a whole number of eight bytes', () => {
    assert.equal(RECORD_HEADER_BYTES_MIN, 128);
    assert.equal(TOMBSTONE_BYTES, 128);
    assert.equal(recordBytesOf({ rawLength: 0, storedLength: 0 }), TOMBSTONE_BYTES);
    assert.equal(recordBytesOf(RECORD), recordBytes(2, RECORD.storedLength));
    assert.equal(RECORD_HEADER_BYTES_MAX, 256);
    for (const frames of [1, 2, 31, 32])
      for (const stored of [25, 100, 131_096]) {
        assert.equal(recordBytes(frames, stored) % 8, 0);
        assert.equal(recordHeaderBytes(frames) + stored + recordPadding(frames, stored), recordBytes(frames, stored));
        assert.ok(recordPadding(frames, stored) < 8);
      }
    assert.equal(plainStoredLength(131_075), RECORD.storedLength);
  });
});

function damaged(act: () => unknown): void {
  assert.throws(
    act,
    (error) =>
      error instanceof CollectiveError &&
      error.code === 'store_damaged' &&
      /^Read a chunk record: /.test(error.message),
  );
}
