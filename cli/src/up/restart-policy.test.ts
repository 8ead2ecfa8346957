import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RestartPolicy } from './restart-policy.ts';

test('a killed part is started again soon, then slower, and given up when it never stays', () => {
  const policy = new RestartPolicy();
  const waits: number[] = [];
  for (;;) {
    const decision = policy.decide({ exit: undefined, ranMs: 100, wasReady: true });
    if (decision.action === 'give-up') {
      assert.match(decision.why, /9 times in a row/);
      break;
    }
    waits.push(decision.afterMs);
  }
  assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
});

test('a part without room on its disk is tried again for as long as it takes, once it was ready', () => {
  const policy = new RestartPolicy();
  const decisions = Array.from({ length: 40 }, () => policy.decide({ exit: 6, ranMs: 100, wasReady: true }));
  assert.ok(decisions.every(({ action }) => action === 'restart'));
  assert.deepEqual(decisions.at(-1), { action: 'restart', afterMs: 15_000 });
  assert.equal(new RestartPolicy().decide({ exit: 6, ranMs: 100, wasReady: false }).action, 'give-up');
});

test('a part that ran for a minute starts the count anew', () => {
  const policy = new RestartPolicy();
  for (let i = 0; i < 20; i++) {
    assert.deepEqual(policy.decide({ exit: 69, ranMs: 61_000, wasReady: true }), { action: 'restart', afterMs: 250 });
  }
});

test('an end that a new start would not cure is given up at once: wrong setup, refused certificate, damaged data', () => {
  for (const exit of [2, 3, 4, 7]) {
    assert.equal(new RestartPolicy().decide({ exit, ranMs: 1, wasReady: true }).action, 'give-up', String(exit));
  }
});

test('a part that never was ready and fails in order is shown to the person, a crash is tried again', () => {
  assert.equal(new RestartPolicy().decide({ exit: 1, ranMs: 1, wasReady: false }).action, 'give-up');
  assert.equal(new RestartPolicy().decide({ exit: 1, ranMs: 1, wasReady: true }).action, 'restart');
  assert.equal(new RestartPolicy().decide({ exit: 70, ranMs: 1, wasReady: false }).action, 'restart');
  assert.equal(new RestartPolicy().decide({ exit: undefined, ranMs: 1, wasReady: false }).action, 'restart');
});
