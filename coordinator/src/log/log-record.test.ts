import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogPosition } from '@collective/base/ids';
import fc from 'fast-check';
import {
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

const SALT = Buffer.from('5a17000000000001', 'hex');
const OTHER_SALT = Buffer.from('5a17000000000002', 'hex');

function record(position: number, stableMark: number, payload = `payload ${position}`, salt = SALT): Buffer {
  const fields = { position: at(position), stableMark: at(stableMark), epoch: { generation: 7, start: 1 } };
  return Buffer.concat(encodeRecord(salt, fields, Buffer.from(payload)));
}

const GOLDEN_HEADER = [
  '434f4c4c4c4f4731', // magic "COLLLOG1"
  '01000000', // version 1
  'afbb9b0a', // crc-32 of bytes 0..12 and 16..32
  'bc9a785634120000', // first position 0x123456789abc, little-endian
  '5a17000000000001', // salt, as it was drawn
].join('');

const GOLDEN_RECORD = [
  'fd59f233', // crc-32 of everything behind it, without the padding
  '05000000', // payload length
  '5a17000000000001', // salt of its segment
  '0100000001000000', // position 2^32 + 1
  'ffffffff00000000', // stable mark 2^32 - 1
  '80ce5669', // generation 1767296640
  '03000000', // start counter
  '68656c6c6f', // payload "hello"
  '000000', // padding to 8
].join('');

test('a segment header has the bytes of format 1', () => {
  const header = encodeSegmentHeader({ first: at(0x1234_5678_9abc), salt: SALT });
  assert.equal(header.toString('hex'), GOLDEN_HEADER);
  assert.deepEqual(decodeSegmentHeader(header, 'golden'), { first: 0x1234_5678_9abc, salt: SALT });
});

test('a record has the bytes of format 1', () => {
  const fields = {
    position: at(2 ** 32 + 1),
    stableMark: at(2 ** 32 - 1),
    epoch: { generation: 1_767_296_640, start: 3 },
  };
  const bytes = Buffer.concat(encodeRecord(SALT, fields, Buffer.from('hello')));
  assert.equal(bytes.toString('hex'), GOLDEN_RECORD);
  const { end, payload, ...decoded } =
    decodeRecord(Buffer.from(GOLDEN_RECORD, 'hex'), 0, SALT) ?? assert.fail('not read');
  assert.deepEqual(decoded, fields);
  assert.equal(payload.toString(), 'hello');
  assert.equal(end, 48);
});

test('a header of a newer format is refused, whatever its other bytes mean', () => {
  const header = encodeSegmentHeader({ first: at(1), salt: SALT });
  header.writeUInt32LE(2, 8);
  assert.throws(() => decodeSegmentHeader(header, '0000000001.log'), { code: 'version_too_new', message: /format 2/ });
});

test('a header that is cut at any byte, or has any bit flipped outside its version, is none', () => {
  const header = encodeSegmentHeader({ first: at(77), salt: SALT });
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
    assert.equal(decodeRecord(whole.subarray(0, length), 0, SALT), undefined, `cut to ${length}`);
  for (let bit = 0; bit < used * 8; bit++) {
    const flipped = Buffer.from(whole);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.equal(decodeRecord(flipped, 0, SALT), undefined, `bit ${bit}`);
  }
});

test('a record without its padding is whole: nothing was lost', () => {
  const bytes = record(5, 4, 'x').subarray(0, RECORD_HEADER_BYTES + 1);
  assert.equal(decodeRecord(bytes, 0, SALT)?.payload.toString(), 'x');
});

test('zeros and a length above the bound are no record', () => {
  assert.equal(decodeRecord(Buffer.alloc(64), 0, Buffer.alloc(8)), undefined);
  const long = record(1, 0);
  long.writeUInt32LE(RECORD_PAYLOAD_BYTES_MAX + 1, 4);
  assert.equal(decodeRecord(long, 0, SALT), undefined);
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
            encodeRecord(
              SALT,
              { position: at(first + i), stableMark: at(mark), epoch: { generation, start: i } },
              payload,
            ),
          ),
        );
        let offset = 0;
        for (const [i, { payload, mark, generation }] of records.entries()) {
          const decoded = decodeRecord(bytes, offset, SALT) ?? assert.fail(`record ${i} is not read`);
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
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ minLength: 8, maxLength: 8 }), (random, salt) => {
      const bytes = Buffer.from(random);
      for (let offset = 0; offset <= bytes.length; offset += 8)
        assert.equal(decodeRecord(bytes, offset, Buffer.from(salt)), undefined);
      assert.equal(wasStableAfter(bytes, 0, Buffer.from(salt), at(0)), false);
    }),
  );
});

test('M2: a record of another segment is none here, whichever bit of the salt tells them apart', () => {
  const bytes = record(5, 4);
  assert.notEqual(decodeRecord(bytes, 0, SALT), undefined);
  for (let bit = 0; bit < 64; bit++) {
    const salt = Buffer.from(SALT);
    salt[bit >> 3] = (salt[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.equal(decodeRecord(bytes, 0, salt), undefined, `bit ${bit}`);
  }
});

test('M2: a later record is a witness only if its mark reaches the position that is missing', () => {
  const bad = Buffer.alloc(recordBytes(10), 0xee);
  const with3 = (mark: number, salt = SALT): Buffer =>
    Buffer.concat([record(1, 0), bad, record(3, mark, undefined, salt)]);
  const offset = record(1, 0).length;
  assert.equal(wasStableAfter(with3(2), offset, SALT, at(1)), true, 'position 2 was stable when 3 was written');
  assert.equal(wasStableAfter(with3(1), offset, SALT, at(1)), false, 'it was not');
  assert.equal(wasStableAfter(with3(2, OTHER_SALT), offset, SALT, at(1)), false, 'it is of another segment');
  assert.equal(wasStableAfter(Buffer.concat([record(1, 0), bad]), offset, SALT, at(1)), false, 'nothing follows');
});

test('M2: an old record behind the end is no witness for new positions', () => {
  const offset = record(9, 8).length;
  const bytes = Buffer.concat([record(9, 8), Buffer.alloc(40, 0xee), record(4, 3), record(9, 8)]);
  assert.equal(wasStableAfter(bytes, offset, SALT, at(9)), false);
});

test('M2: a large torn tail is judged in the time of a read, also when its bytes were made to look like records', () => {
  // Whoever stores them knows everything but the salt: at each offset a length of megabytes, a position, a mark.
  const tail = Buffer.alloc(16 * 1024 * 1024);
  for (let i = 0; i < tail.length; i += 4) tail.writeUInt32LE(1_000_000 + (i % 4096), i);
  for (let i = 0; i + 48 < tail.length; i += 4096) record(6 + i, 5 + i, 'forged', OTHER_SALT).copy(tail, i);
  const startedMs = performance.now();
  assert.equal(wasStableAfter(tail, 0, SALT, at(5)), false);
  assert.ok(performance.now() - startedMs < 5_000);
});
