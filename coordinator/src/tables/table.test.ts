import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bigEndian, byteString, bytesOf, defineTable, prefixEnd, readBigEndian } from './table.ts';

test('numbers in keys are big-endian and of their width', () => {
  const hex = (value: number, bytes: 2 | 4 | 6 | 8): string => bytesOf(bigEndian(value, bytes)).toString('hex');
  assert.equal(hex(0x1234, 2), '1234');
  assert.equal(hex(0xfedc_ba98, 4), 'fedcba98');
  assert.equal(hex(0x1234_5678_9abc, 6), '123456789abc');
  assert.equal(hex(Number.MAX_SAFE_INTEGER, 8), '001fffffffffffff');
  assert.equal(hex(2 ** 48 - 1, 6), 'ffffffffffff');
});

test('a number that does not fit into its key is refused: cut, it would name another row', () => {
  for (const [value, bytes] of [
    [2 ** 48, 6],
    [2 ** 48 + 1, 6],
    [2 ** 32, 4],
    [65_536, 2],
    [2 ** 53, 8],
    [-1, 6],
    [1.5, 6],
    [Number.NaN, 8],
  ] as const)
    assert.throws(() => bigEndian(value, bytes), { code: 'range' }, `${value} in ${bytes} bytes`);
});

test('keys sort as their numbers do, and give them back', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (a, b) => {
      for (const bytes of [2, 4, 6, 8] as const) {
        const [x, y] = [a % 256 ** bytes, b % 256 ** bytes];
        const [left, right] = [bigEndian(x, bytes), bigEndian(y, bytes)];
        assert.equal(left < right, x < y);
        assert.equal(Buffer.compare(bytesOf(left), bytesOf(right)) < 0, x < y);
        assert.equal(readBigEndian(`k${left}`, 1, bytes), x);
      }
    }),
  );
});

test('the end of a prefix is above every key that begins with it, and not above others', () => {
  assert.equal(prefixEnd('A'), 'B');
  assert.equal(prefixEnd('D\0\0\xff\xff'), 'D\0\x01');
  const bytes = fc.uint8Array({ maxLength: 6 }).map(byteString);
  fc.assert(
    fc.property(bytes, bytes, (rest, other) => {
      const prefix = `K${rest}`;
      const end = prefixEnd(prefix);
      assert.ok(prefix + other < end);
      assert.equal(`K${other}` >= prefix && `K${other}` < end, `K${other}`.startsWith(prefix));
    }),
  );
  assert.throws(() => prefixEnd('\xff\xff'), /above/);
});

test('a row that its type cannot read is damage of the store, told with the table', () => {
  const table = defineTable(
    'thing',
    't',
    { encode: () => ({ finish: () => Buffer.alloc(0) }), decode: fail },
    () => '',
  );
  assert.throws(() => table.decode(Buffer.alloc(3)), { code: 'store_damaged', message: /table thing with 3 bytes/ });
});

function fail(): never {
  throw new RangeError('index out of range');
}
