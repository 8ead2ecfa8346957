import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FRAME_BYTES } from '@collective/base/limits';
import { frameHeaders } from '@collective/protocol/bulk/frame';
import { encodeRecordHeader, recordBytes, recordPadding } from './record.ts';
import { type ScratchChunk, scratchChunk, scratchId } from './scratch-chunk.ts';
import { type ExpectedRecord, isWholeRecord, verifyRecord } from './verify-record.ts';

const OFFSET = 8 * 1234;
/** Of a record of one frame. */
const HEADER_BYTES = 136;

function recordOf({ facts, frames }: ScratchChunk): { record: Buffer; expected: ExpectedRecord } {
  const stored = Buffer.concat(frames);
  const frameLengths = [...frameHeaders(stored)].map(({ storedLength }) => storedLength);
  const header = encodeRecordHeader({
    kind: 'chunk',
    ...facts,
    frameLengths,
    storedLength: stored.length,
    time: { seconds: 1_700_000_000, nanos: 0 },
    incarnation: 2,
    sequence: 2 * 2 ** 32 + 7,
    stableSequence: 2 * 2 ** 32,
    diskId: Buffer.alloc(16, 1),
    salt: Buffer.alloc(8, 2),
    offset: OFFSET,
  });
  const record = Buffer.concat([header, stored, Buffer.alloc(recordPadding(frameLengths.length, stored.length))]);
  assert.equal(record.length, recordBytes(frameLengths.length, stored.length));
  const { chunk, rawLength } = facts;
  return { record, expected: { chunk, offset: OFFSET, rawLength, storedLength: stored.length } };
}

/** What the slower look says. */
function isGood(record: Buffer, expected: ExpectedRecord): boolean {
  try {
    verifyRecord(record, expected);
    return true;
  } catch (error) {
    assert.ok(error instanceof CollectiveError, String(error));
    return false;
  }
}

for (const [name, chunk] of [
  ['one frame', scratchChunk(1, 500)],
  ['a compressed frame', scratchChunk(2, 900, 'text')],
  ['three frames', scratchChunk(3, 2 * FRAME_BYTES + 77)],
] as const)
  test(`D5: the quick look at a record of ${name} takes what the slow one takes, and no flipped bit`, () => {
    const { record, expected } = recordOf(chunk);
    assert.ok(isWholeRecord(record, expected) && isGood(record, expected));
    const step = record.length > 4_000 ? 4_093 : 1;
    const places = new Set(Array.from({ length: Math.ceil(record.length / step) }, (_unused, i) => i * step));
    for (let at = 0; at < 160; at++) places.add(at);
    let refused = 0;
    for (const at of places) {
      for (const bit of [0, 3, 7]) {
        const before = record.readUInt8(at);
        record.writeUInt8(before ^ (1 << bit), at);
        const good = isGood(record, expected);
        assert.equal(isWholeRecord(record, expected), good, `bit ${bit} of byte ${at}`);
        if (!good) refused++;
        record.writeUInt8(before, at);
      }
    }
    assert.ok(refused > 2.8 * places.size, 'only stream ids and padding may differ');
  });

test('D5: the quick look takes no other record, no part of one, and none that lies elsewhere', () => {
  const { record, expected } = recordOf(scratchChunk(1, 500));
  const others: ExpectedRecord[] = [
    { ...expected, chunk: scratchId(9) },
    { ...expected, offset: OFFSET + 8 },
    { ...expected, rawLength: 499 },
    { ...expected, storedLength: expected.storedLength - 1 },
  ];
  for (const other of others) assert.equal(isWholeRecord(record, other), false, JSON.stringify(other));
  for (let length = 0; length < HEADER_BYTES + expected.storedLength; length++)
    assert.equal(isWholeRecord(record.subarray(0, length), expected), false, `${length} bytes of it`);
});

test('D5: the quick look refuses whole frames of another content under a header that is right', () => {
  const [one, other] = [recordOf(scratchChunk(1, 500, 'noise', 1)), recordOf(scratchChunk(1, 500, 'noise', 2))];
  other.record.copy(one.record, HEADER_BYTES, HEADER_BYTES);
  assert.equal(isGood(one.record, one.expected), false);
  assert.equal(isWholeRecord(one.record, one.expected), false);
});
