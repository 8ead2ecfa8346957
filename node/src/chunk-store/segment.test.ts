import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from '@collective/base/crc';
import fc from 'fast-check';
import { EntryList } from './entry-list.ts';
import { scratchId } from './scratch-chunk.ts';
import {
  decodeSegmentHeader,
  decodeSidecar,
  encodeSegmentHeader,
  encodeSidecar,
  parseSegmentName,
  type Sidecar,
  segmentPath,
  sidecarPath,
} from './segment.ts';

const DISK_ID = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const HEADER = {
  segment: 5,
  diskId: DISK_ID,
  firstSequence: 9 * 2 ** 32 + 1,
  incarnation: 9,
  salt: Buffer.from('a1a2a3a4a5a6a7a8', 'hex'),
};
const SIDECAR: Sidecar = {
  segment: 5,
  diskId: DISK_ID,
  segmentBytes: 4096,
  entries: EntryList.of([
    { kind: 'chunk', chunk: scratchId(1), offset: 64, rawLength: 100, storedLength: 124, sequence: 9 * 2 ** 32 + 1 },
    { kind: 'tombstone', chunk: scratchId(2), offset: 328, rawLength: 0, storedLength: 0, sequence: 9 * 2 ** 32 + 2 },
  ]),
};

describe('segment files', () => {
  test('D4: a segment header has the golden bytes', () => {
    assert.equal(
      encodeSegmentHeader(HEADER).toString('hex'),
      [
        '43534731', // magic 'CSG1'
        '01000000', // version
        '0500000000000000', // segment
        '000102030405060708090a0b0c0d0e0f', // disk
        '0100000009000000', // first sequence
        '09000000', // incarnation
        '00000000', // reserved
        'a1a2a3a4a5a6a7a8', // salt
        '00000000', // reserved
        '77e8b58a', // CRC-32 of the 60 bytes before
      ].join(''),
    );
  });

  test('D4: a sidecar has the golden bytes', () => {
    assert.equal(
      encodeSidecar(SIDECAR).toString('hex'),
      [
        '43495831', // magic 'CIX1'
        '01000000', // version
        '0500000000000000', // segment
        '000102030405060708090a0b0c0d0e0f', // disk
        '02000000', // records
        '00000000', // reserved
        '0010000000000000', // bytes of the segment
        '000000000000000000000000', // reserved
        '339d4cde', // CRC-32 of all else
        '65000000000000030000000000000001', // chunk
        '08000000', // offset / 8
        '64000000', // raw length
        '7c000000', // stored length
        '01000000', // a chunk
        '0100000009000000', // sequence
        '65000000000000030000000000000002',
        '29000000',
        '00000000',
        '00000000',
        '02000000', // a tombstone
        '0200000009000000',
      ].join(''),
    );
  });

  test('what is read is what was written', () => {
    assert.deepEqual(decodeSegmentHeader(encodeSegmentHeader(HEADER)), HEADER);
    for (const entries of [SIDECAR.entries, new EntryList()]) {
      const decoded = decodeSidecar(encodeSidecar({ ...SIDECAR, entries }));
      assert.deepEqual({ ...decoded, entries: [...(decoded?.entries ?? [])] }, { ...SIDECAR, entries: [...entries] });
    }
  });

  test('every truncation and every flipped bit is seen as damage', () => {
    for (const [bytes, decode] of [
      [encodeSegmentHeader(HEADER), decodeSegmentHeader],
      [encodeSidecar(SIDECAR), decodeSidecar],
    ] as const) {
      for (let length = 0; length < bytes.length; length++)
        assert.equal(decode(Buffer.from(bytes.subarray(0, length))), undefined);
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.equal(decode(flipped), undefined, `bit ${bit}`);
      }
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (random) => {
        assert.equal(decodeSegmentHeader(Buffer.from(random)), undefined);
        assert.equal(decodeSidecar(Buffer.from(random)), undefined);
      }),
    );
  });

  test('a whole file of a newer version is refused as such', () => {
    const segment = encodeSegmentHeader(HEADER);
    segment.writeUInt32LE(2, 4);
    segment.writeUInt32LE(crc32(segment.subarray(0, 60)), 60);
    assert.throws(() => decodeSegmentHeader(segment), { code: 'version_too_new' });
    const sidecar = encodeSidecar(SIDECAR);
    sidecar.writeUInt32LE(2, 4);
    sidecar.writeUInt32LE(crc32(sidecar.subarray(64), crc32(sidecar.subarray(0, 60))), 60);
    assert.throws(() => decodeSidecar(sidecar), { code: 'version_too_new' });
  });

  test('names of files are told from other names', () => {
    assert.equal(segmentPath(5), 'segments/00000005.seg');
    assert.equal(sidecarPath(123_456_789), 'segments/123456789.idx');
    assert.deepEqual(parseSegmentName('00000005.seg'), { segment: 5, kind: 'seg' });
    assert.deepEqual(parseSegmentName('123456789.idx'), { segment: 123_456_789, kind: 'idx' });
    for (const name of ['5.seg', '00000005.seg.new', '00000005.idx~', 'lost+found/', '0000000a.seg'])
      assert.equal(parseSegmentName(name), undefined);
  });
});
