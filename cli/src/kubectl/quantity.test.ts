import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quantityBytes, quantityText, usedOf } from './quantity.ts';

test('quantities of Kubernetes are bytes; what is none stays as it came', () => {
  const bytes = ['10Gi', '500G', '1.5Ti', '1e12', '42', '128k', '10gb', undefined].map(quantityBytes);
  assert.deepEqual(bytes, [10 * 2 ** 30, 5e11, 1.5 * 2 ** 40, 1e12, 42, 128_000, undefined, undefined]);
  assert.equal(quantityText('10gb'), '10gb');
  assert.equal(quantityText(undefined), '-');
});

test('what is used is told with its share, which never shows full before it is', () => {
  assert.equal(usedOf('3Gi', '20Gi'), '3.0 GiB of 20.0 GiB (15%)');
  assert.equal(usedOf('19999Mi', '20000Mi'), '19.5 GiB of 19.5 GiB (99%)');
  assert.equal(usedOf(undefined, undefined), '-');
  assert.equal(usedOf('1Gi', '0'), '1.0 GiB of 0 B');
});
