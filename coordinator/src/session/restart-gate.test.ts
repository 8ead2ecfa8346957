import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import type { SessionId } from '@collective/base/ids';
import { PROMISE_LEASE_MS } from '@collective/base/limits';
import { RestartGate } from './restart-gate.ts';

const session = (id: number): SessionId => id as SessionId;

function passes(gate: RestartGate): () => boolean {
  let passed = false;
  gate.passed().then(
    () => {
      passed = true;
    },
    () => undefined,
  );
  return () => passed;
}

test('M6: the gate opens with the last session that was awaited, at once where none is', async () => {
  const clock = new FakeClock();
  assert.equal(new RestartGate(clock, []).open, true);
  const gate = new RestartGate(clock, [session(1), session(2)]);
  const passed = passes(gate);
  gate.settled(session(2));
  gate.settled(session(3));
  await clock.advance(100);
  assert.equal(passed(), false);
  gate.settled(session(1));
  await clock.settle();
  assert.equal(passed(), true);
});

test('M6: the gate opens one lease after the start for those who did not come', async () => {
  const clock = new FakeClock();
  const passed = passes(new RestartGate(clock, [session(1)]));
  await clock.advance(PROMISE_LEASE_MS - 1);
  assert.equal(passed(), false);
  await clock.advance(1);
  assert.equal(passed(), true);
});

test('M6: time in which the coordinator stood still is no time in which its clients could have come', async () => {
  const clock = new FakeClock();
  const machine = clock.process();
  const gate = new RestartGate(machine, [session(1)]);
  const passed = passes(gate);
  await clock.advance(3_500);
  machine.pause(60_000);
  await clock.advance(60_000);
  // What had been sent to it in the meantime is taken now.
  await clock.advance(500);
  assert.equal(passed(), false);
  gate.settled(session(1));
  await clock.settle();
  assert.equal(passed(), true);
});

test('waiting for the gate ends with its signal', async () => {
  const clock = new FakeClock();
  const gate = new RestartGate(clock, [session(1)]);
  const stop = new AbortController();
  const waiting = gate.passed(stop.signal);
  stop.abort(new Error('stopped'));
  await assert.rejects(waiting, /stopped/);
  gate.close();
  await clock.advance(PROMISE_LEASE_MS * 2);
  assert.equal(gate.open, false);
});
