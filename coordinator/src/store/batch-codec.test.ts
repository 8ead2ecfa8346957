import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Change, decodeBatch, encodeBatch } from './batch-codec.ts';

const GOLDEN = [
  '01', // version 1
  '03000000', // three changes
  '01', // put
  '0300', // key length
  '02000000', // value length
  '49', // key: table letter I ...
  '00ff', // ... and two bytes
  'cafe', // value
  '02', // remove
  '0200', // key length
  '00000000', // no value
  '4401', // key
  '01', // put of an empty value
  '0100',
  '00000000',
  '4d',
].join('');

const CHANGES: readonly Change[] = [
  { key: 'I\0\xff', value: Buffer.from('cafe', 'hex') },
  { key: 'D\x01', value: undefined },
  { key: 'M', value: Buffer.alloc(0) },
];

test('a batch has the bytes of version 1', () => {
  assert.equal(encodeBatch(CHANGES).toString('hex'), GOLDEN);
  assert.deepEqual(decodeBatch(Buffer.from(GOLDEN, 'hex')), CHANGES);
});

test('a batch that is cut at any byte, or goes on after its end, is damaged', () => {
  const whole = Buffer.from(GOLDEN, 'hex');
  for (let length = 0; length < whole.length; length++)
    assert.throws(() => decodeBatch(whole.subarray(0, length)), { code: 'store_damaged' }, `cut to ${length}`);
  assert.throws(() => decodeBatch(Buffer.concat([whole, Buffer.alloc(1)])), {
    code: 'store_damaged',
    message: /1 bytes follow/,
  });
});

test('a batch of another version and a change of an unknown kind are refused', () => {
  const other = Buffer.from(GOLDEN, 'hex');
  other[0] = 2;
  assert.throws(() => decodeBatch(other), { code: 'version_too_new', message: /version 2/ });
  const unknown = Buffer.from(GOLDEN, 'hex');
  unknown[5] = 3;
  assert.throws(() => decodeBatch(unknown), { code: 'store_damaged', message: /kind 3/ });
  const removeWithValue = Buffer.from(GOLDEN, 'hex');
  removeWithValue[5] = 2;
  assert.throws(() => decodeBatch(removeWithValue), { code: 'store_damaged' });
});

test('a key above the bound of its length is refused, not cut', () => {
  assert.throws(() => encodeBatch([{ key: 'k'.repeat(65_536), value: undefined }]), RangeError);
});

test('what is encoded is decoded, from any offset of a larger buffer', () => {
  const change = fc.record(
    {
      key: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
      value: fc.option(fc.uint8Array({ maxLength: 300 }), { nil: undefined }),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(change, { maxLength: 20 }), fc.nat(9), (changes, shift) => {
      const bytes = Buffer.concat([Buffer.alloc(shift), encodeBatch(changes)]).subarray(shift);
      assert.deepEqual(
        decodeBatch(bytes).map(({ key, value }) => ({ key, value: value && new Uint8Array(value) })),
        changes,
      );
    }),
  );
});

test('random bytes are refused politely', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (random) => {
      // The version is right more often than chance would have it.
      if (random.length > 0) random[0] = random[0] === 0 ? 0 : 1;
      try {
        decodeBatch(random);
      } catch (error) {
        assert.ok(['store_damaged', 'version_too_new'].includes((error as { code: string }).code), String(error));
      }
    }),
    { numRuns: 1_000 },
  );
});
