import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteBudget } from './byte-budget.ts';

const never = new AbortController().signal;

test('who asks first is served first, and nobody overtakes by asking for less', async () => {
  const budget = new ByteBudget(10);
  await budget.acquire(8, never);
  const order: string[] = [];
  const large = budget.acquire(9, never).then(() => order.push('large'));
  const small = budget.acquire(1, never).then(() => order.push('small'));
  assert.equal(budget.tryAcquire(1), false);
  budget.release(8);
  await Promise.all([large, small]);
  assert.deepEqual(order, ['large', 'small']);
  assert.equal(budget.usedBytes, 10);
});

test('more than the whole budget is let through, alone', async () => {
  const budget = new ByteBudget(10);
  await budget.acquire(25, never);
  assert.equal(budget.tryAcquire(1), false);
  budget.release(25);
  assert.equal(budget.tryAcquire(1), true);
});

test('one that gives up makes room for those behind', async () => {
  const budget = new ByteBudget(10);
  await budget.acquire(8, never);
  const abort = new AbortController();
  const large = budget.acquire(9, abort.signal);
  const small = budget.acquire(2, never);
  abort.abort(new Error('enough'));
  await assert.rejects(large, /enough/);
  await small;
  assert.equal(budget.usedBytes, 10);
});

test('releasing what was not acquired breaks an invariant', () => {
  assert.throws(() => new ByteBudget(10).release(1), /Invariant broken/);
});
