import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { ByteRates, inOrders } from './byte-rates.ts';

const MiB = 1024 * 1024;

test('D8: an order brings a sixteenth of what goes in a second, and never more than 32 MiB', () => {
  let rate = 64 * MiB;
  const rates = new ByteRates({ clock: new FakeClock(), bytesPerSecond: () => rate });
  assert.equal(rates.bytesPerOrderMax, 4 * MiB);
  rate = 2 ** 40;
  assert.equal(rates.bytesPerOrderMax, 32 * MiB);
  rate = 64 * 1024;
  assert.equal(rates.bytesPerOrderMax, 4096);
});

test('an order holds at least one task, however large, and at most as many and as much as is said', () => {
  const sizes = [9, 4, 4, 4, 1, 1, 1, 1, 20, 1];
  const limits = { tasksMax: 3, bytesMax: 8, bytesOf: (size: number) => size };
  assert.deepEqual([...inOrders(sizes, limits)], [[9], [4, 4], [4, 1, 1], [1, 1], [20], [1]]);
});
