import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatByteSize, formatDecimalByteSize, parseByteSize } from './byte-size.ts';
import { CollectiveError } from './errors/index.ts';

const good: { text: string; bytes: number }[] = [
  { text: '0', bytes: 0 },
  { text: '4096', bytes: 4096 },
  { text: '17B', bytes: 17 },
  { text: '500GB', bytes: 500e9 },
  { text: '1.5TB', bytes: 1.5e12 },
  { text: '1.1kB', bytes: 1100 },
  { text: '100MiB', bytes: 100 * 1024 ** 2 },
  { text: '20GiB', bytes: 20 * 1024 ** 3 },
  { text: '20gib', bytes: 20 * 1024 ** 3 },
  { text: '0.5 KiB', bytes: 512 },
  { text: ' 2TiB ', bytes: 2 * 1024 ** 4 },
];

for (const { text, bytes } of good) {
  test(`reads '${text}' as ${bytes} bytes`, () => assert.equal(parseByteSize(text), bytes));
}

const bad: { text: string; says: RegExp }[] = [
  { text: '5XB', says: /no unit 'XB'.*500GB/ },
  { text: '5G', says: /GB \(powers of 1000\) or GiB \(powers of 1024\)/ },
  { text: '10k', says: /kB \(powers of 1000\) or KiB/ },
  { text: '-1MB', says: /negative/ },
  { text: '', says: /not a number with a unit/ },
  { text: 'GB', says: /not a number/ },
  { text: '1,5GB', says: /not a number/ },
  { text: '1e9', says: /no unit|not a number/ },
  { text: '0x10', says: /not a number|no unit/ },
  { text: '1.5', says: /part of a byte/ },
  { text: '9000PiB', says: /larger than/ },
  { text: '5 GB x', says: /not a number/ },
];

for (const { text, says } of bad) {
  test(`refuses '${text}' and says what is wrong`, () => {
    assert.throws(
      () => parseByteSize(text, '--capacity'),
      (thrown) =>
        thrown instanceof CollectiveError &&
        thrown.code === 'invalid_argument' &&
        thrown.message.includes(`'${text}'`) &&
        thrown.message.includes('--capacity') &&
        says.test(thrown.message),
    );
  });
}

test('prints sizes with at most four digits and the right kind of unit', () => {
  assert.equal(formatByteSize(0), '0 B');
  assert.equal(formatByteSize(1023), '1023 B');
  assert.equal(formatByteSize(1024), '1.0 KiB');
  assert.equal(formatByteSize(1536 * 1024), '1.5 MiB');
  assert.equal(formatByteSize(1024 ** 2 - 1), '1.0 MiB');
  assert.equal(formatByteSize(20 * 1024 ** 3), '20.0 GiB');
  assert.equal(formatByteSize(700 * 1024 ** 3), '700 GiB');
  assert.equal(formatDecimalByteSize(500e9), '500 GB');
  assert.equal(formatDecimalByteSize(1500), '1.5 kB');
  assert.equal(formatByteSize(-2048), '-2.0 KiB');
});

test('what is printed can be read again within the digits that are shown', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 7.9 * 1024 ** 5 }), (bytes) => {
      const again = parseByteSize(formatByteSize(bytes));
      assert.ok(Math.abs(again - bytes) <= bytes * 0.06 + 0.5, `${bytes} -> ${formatByteSize(bytes)} -> ${again}`);
    }),
  );
});
