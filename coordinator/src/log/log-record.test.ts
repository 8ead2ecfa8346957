import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogPosition } from '@collective/base/ids';
import fc from 'fast-check';
import {
  anyRecordIn,
  decodeRecord,
  decodeSegmentHeader,
  encodeRecord,
  encodeSegmentHeader,
  RECORD_HEADER_BYTES,
  RECORD_PAYLOAD_BYTES_MAX,
  recordBytes,
  SEGMENT_HEADER_BYTES,
  wasStableAfter,
} from './log-record.ts';

const at = (position: number): LogPosition => position as LogPosition;

function record(position: number, stableMark: number, payload = `payload ${position}`): Buffer {
  const fields = { position: at(position), stableMark: at(stableMark), epoch: { generation: 7, start: 1 } };
  return Buffer.concat(encodeRecord(fields, Buffer.from(payload)));
}

const GOLDEN_HEADER = [
  '434f4c4c4c4f4731', // magic "COLLLOG1"
  '01000000', // version 1
  'ebf7007d', // crc-32 of bytes 0..12 and 16..24
  'bc9a785634120000', // first position 0x123456789abc, little-endian
].join('');

const GOLDEN_RECORD = [
  '76e18a82', // crc-32 of everything behind it, without the padding
  '05000000', // payload length
  '0100000001000000', // position 2^32 + 1
  'ffffffff00000000', // stable mark 2^32 - 1
  '80ce5669', // generation 1767296640
  '03000000', // start counter
  '68656c6c6f', // payload "hello"
  '000000', // padding to 8
].join('');

test('a segment header has the bytes of format 1', () => {
  const header = encodeSegmentHeader(at(0x1234_5678_9abc));
  assert.equal(header.toString('hex'), GOLDEN_HEADER);
});

test('a record has the bytes of format 1', () => {
  const fields = {
    position: at(2 ** 32 + 1),
    stableMark: at(2 ** 32 - 1),
    epoch: { generation: 1_767_296_640, start: 3 },
  };
  const bytes = Buffer.concat(encodeRecord(fields, Buffer.from('hello')));
  assert.equal(bytes.toString('hex'), GOLDEN_RECORD);
  const { end, payload, ...decoded } = decodeRecord(Buffer.from(GOLDEN_RECORD, 'hex'), 0) ?? assert.fail('not read');
  assert.deepEqual(decoded, fields);
  assert.equal(payload.toString(), 'hello');
  assert.equal(end, 40);
});

test('a header of a newer format is refused, whatever its other bytes mean', () => {
  const header = encodeSegmentHeader(at(1));
  header.writeUInt32LE(2, 8);
  assert.throws(() => decodeSegmentHeader(header, '0000000001.log'), { code: 'version_too_new', message: /format 2/ });
});

test('a header that is cut at any byte, or has any bit flipped outside its version, is none', () => {
  const header = encodeSegmentHeader(at(77));
  for (let length = 0; length < SEGMENT_HEADER_BYTES; length++)
    assert.equal(decodeSegmentHeader(header.subarray(0, length), 'cut'), undefined, `cut to ${length}`);
  for (let bit = 0; bit < SEGMENT_HEADER_BYTES * 8; bit++) {
    const flipped = Buffer.from(header);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const inVersion = bit >> 3 >= 8 && bit >> 3 < 12;
    if (!inVersion) assert.equal(decodeSegmentHeader(flipped, 'flipped'), undefined, `bit ${bit}`);
    else
      assert.ok(
        isRefused(() => decodeSegmentHeader(flipped, 'flipped')),
        `bit ${bit} of the version`,
      );
  }
});

function isRefused(read: () => unknown): boolean {
  try {
    return read() === undefined;
  } catch (error) {
    return (error as { code?: string }).code === 'version_too_new';
  }
}

test('a record that is cut at any byte, or has any bit flipped before its padding, is none', () => {
  const whole = record(5, 4, 'some payload of 27 bytes...');
  const used = RECORD_HEADER_BYTES + 27;
  assert.equal(whole.length, recordBytes(27));
  for (let length = 0; length < used; length++)
    assert.equal(decodeRecord(whole.subarray(0, length), 0), undefined, `cut to ${length}`);
  for (let bit = 0; bit < used * 8; bit++) {
    const flipped = Buffer.from(whole);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.equal(decodeRecord(flipped, 0), undefined, `bit ${bit}`);
  }
});

test('a record without its padding is whole: nothing was lost', () => {
  assert.equal(decodeRecord(record(5, 4, 'x').subarray(0, RECORD_HEADER_BYTES + 1), 0)?.payload.toString(), 'x');
});

test('zeros and a length above the bound are no record', () => {
  assert.equal(decodeRecord(Buffer.alloc(64), 0), undefined);
  const long = record(1, 0);
  long.writeUInt32LE(RECORD_PAYLOAD_BYTES_MAX + 1, 4);
  assert.equal(decodeRecord(long, 0), undefined);
});

test('what is encoded is decoded, one record after the other', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ payload: fc.uint8Array({ maxLength: 100 }), mark: fc.nat(), generation: fc.nat() }), {
        minLength: 1,
        maxLength: 8,
      }),
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER - 8 }),
      (records, first) => {
        const bytes = Buffer.concat(
          records.flatMap(({ payload, mark, generation }, i) =>
            encodeRecord({ position: at(first + i), stableMark: at(mark), epoch: { generation, start: i } }, payload),
          ),
        );
        let offset = 0;
        for (const [i, { payload, mark, generation }] of records.entries()) {
          const decoded = decodeRecord(bytes, offset) ?? assert.fail(`record ${i} is not read`);
          assert.deepEqual(
            [decoded.position, decoded.stableMark, decoded.epoch.generation, decoded.epoch.start],
            [first + i, mark, generation, i],
          );
          assert.deepEqual(new Uint8Array(decoded.payload), payload);
          offset = decoded.end;
        }
        assert.equal(offset, bytes.length);
      },
    ),
  );
});

test('random bytes are never a record, and reading them never throws', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (random) => {
      const bytes = Buffer.from(random);
      for (let offset = 0; offset <= bytes.length; offset += 8) assert.equal(decodeRecord(bytes, offset), undefined);
      assert.equal(anyRecordIn(bytes), false);
      assert.equal(wasStableAfter(bytes, 0, at(0)), false);
    }),
  );
});

test('M2: a later record is a witness only if its mark reaches the position that is missing', () => {
  const bad = Buffer.alloc(recordBytes(10), 0xee);
  const with3 = (mark: number): Buffer => Buffer.concat([record(1, 0), bad, record(3, mark)]);
  const offset = record(1, 0).length;
  assert.equal(wasStableAfter(with3(2), offset, at(1)), true, 'position 2 was stable when 3 was written');
  assert.equal(wasStableAfter(with3(1), offset, at(1)), false, 'it was not');
  assert.equal(wasStableAfter(Buffer.concat([record(1, 0), bad]), offset, at(1)), false, 'nothing follows');
});

test('M2: an old record behind the end is no witness for new positions', () => {
  const offset = record(9, 8).length;
  const bytes = Buffer.concat([record(9, 8), Buffer.alloc(40, 0xee), record(4, 3), record(9, 8)]);
  assert.equal(wasStableAfter(bytes, offset, at(9)), false);
});

test('M2: a large torn tail is judged in the time of a read, not of checksums at every offset', () => {
  // Bytes that pass for lengths, positions and marks everywhere would make each offset cost a checksum of megabytes.
  const tail = Buffer.alloc(16 * 1024 * 1024);
  for (let i = 0; i < tail.length; i += 4) tail.writeUInt32LE(1_000_000 + (i % 4096), i);
  const startedMs = performance.now();
  assert.equal(wasStableAfter(tail, 0, at(5)), false);
  assert.ok(performance.now() - startedMs < 5_000);
});
