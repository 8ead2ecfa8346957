import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf, quantityBytes, quantityValue, roughQuantity } from './quantity.ts';

test('a quantity means what it means in Kubernetes', () => {
  const bytes: readonly (readonly [string, number])[] = [
    ['0', 0],
    ['1500', 1500],
    ['1k', 1000],
    ['1Ki', 1024],
    ['1.5Gi', 1.5 * 2 ** 30],
    ['.5M', 500_000],
    ['1e3', 1000],
    ['2E', 2e18],
    ['1500m', 2],
  ];
  for (const [text, value] of bytes) assert.equal(quantityBytes(text), value, text);
  assert.equal(quantityValue('250m'), 0.25);
});

test('what is no quantity is an error, or absent where it may be', () => {
  for (const text of ['', 'Gi', '1 Gi', '1GiB', '1e', 'many']) {
    assert.throws(() => quantityBytes(text), { code: 'invalid_argument' }, text);
    assert.equal(bytesOf(text), undefined);
  }
  assert.equal(bytesOf(undefined), undefined);
  assert.equal(bytesOf(7), undefined);
});

test('a size is told in steps of a tenth at most, so that it is not written all the time', () => {
  assert.equal(roughQuantity(0), '0');
  assert.equal(roughQuantity(10_239), '10239');
  assert.equal(roughQuantity(10 * 1024), '10Ki');
  assert.equal(roughQuantity(972 * 2 ** 20 + 5), '972Mi');
  assert.equal(roughQuantity(12.9 * 2 ** 40), '12Ti');
  for (const bytes of [3e4, 7e6, 1e9, 5e12]) {
    const told = quantityBytes(roughQuantity(bytes));
    assert.ok(told <= bytes && told > bytes * 0.9, `${bytes}: ${told}`);
  }
});
