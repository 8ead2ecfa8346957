import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { Backoffs } from './backoffs.ts';

const open = (clock: FakeClock): Backoffs<string> =>
  new Backoffs({ clock, firstMs: 1_000, longestMs: 3_000, entriesMax: 2 });

test('who fails again waits longer, up to a bound, and from the start again after a success', async () => {
  const clock = new FakeClock();
  const backoffs = open(clock);
  for (const waitMs of [1_000, 2_000, 3_000, 3_000]) {
    backoffs.failed('a');
    assert.equal(backoffs.nextInMs, waitMs);
    await clock.advance(waitMs - 1);
    assert.ok(backoffs.isWaiting('a'));
    await clock.advance(1);
    assert.ok(!backoffs.isWaiting('a'));
  }
  backoffs.succeeded('a');
  backoffs.failed('a');
  assert.equal(backoffs.nextInMs, 1_000);
});

test('many failures of what was tried at once are one', async () => {
  const clock = new FakeClock();
  const backoffs = open(clock);
  for (let i = 0; i < 5; i++) backoffs.failed('a');
  assert.equal(backoffs.nextInMs, 1_000);
  await clock.advance(1_000);
  for (let i = 0; i < 5; i++) backoffs.failed('a');
  assert.equal(backoffs.nextInMs, 2_000);
});

test('who is due is given out once, until it fails again', async () => {
  const clock = new FakeClock();
  const backoffs = open(clock);
  backoffs.failed('a');
  assert.deepEqual(backoffs.takeDue(10), []);
  await clock.advance(1_000);
  assert.deepEqual([backoffs.takeDue(10), backoffs.takeDue(10), backoffs.nextInMs], [['a'], [], undefined]);
  backoffs.failed('a');
  assert.equal(backoffs.nextInMs, 2_000);
});

test('there are never more than the bound: the one that failed first is forgotten', () => {
  const backoffs = open(new FakeClock());
  for (const key of ['a', 'b', 'c']) backoffs.failed(key);
  assert.deepEqual(
    ['a', 'b', 'c'].map((key) => backoffs.isWaiting(key)),
    [false, true, true],
  );
});

test('when all is forgiven everybody is due', () => {
  const backoffs = open(new FakeClock());
  backoffs.failed('a');
  backoffs.forgive();
  assert.deepEqual([backoffs.isWaiting('a'), backoffs.takeDue(10)], [false, ['a']]);
});
