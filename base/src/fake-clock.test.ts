import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from './clock.ts';
import { FakeClock } from './fake-clock.ts';

test('timers fire in the order of their time, then of their creation', async () => {
  const clock = new FakeClock();
  const fired: string[] = [];
  clock.setTimer(20, () => fired.push('b1'));
  clock.setTimer(10, () => fired.push('a'));
  clock.setTimer(20, () => fired.push('b2'));
  clock.setTimer(30, () => fired.push('late'));
  await clock.advance(20);
  assert.deepEqual(fired, ['a', 'b1', 'b2']);
  assert.equal(clock.bootMs(), 20);
});

test('all promises run between two events, however long their chain is', async () => {
  const clock = new FakeClock();
  const seen: string[] = [];
  clock.setTimer(1, async () => {
    for (let i = 0; i < 1000; i++) await Promise.resolve();
    seen.push('chain ended');
  });
  clock.setTimer(1, () => seen.push('second event'));
  await clock.advance(1);
  assert.deepEqual(seen, ['chain ended', 'second event']);
});

test('deferred work runs after the turn that deferred it, at the same moment', async () => {
  const clock = new FakeClock();
  const seen: string[] = [];
  clock.defer(() => seen.push('deferred'));
  seen.push('turn');
  await clock.settle();
  assert.deepEqual(seen, ['turn', 'deferred']);
  assert.equal(clock.elapsedMs, 0);
});

test('a cancelled timer never fires, and cancelling twice or late is safe', async () => {
  const clock = new FakeClock();
  let fired = 0;
  const first = clock.setTimer(1, () => fired++);
  const second = clock.setTimer(1, () => fired++);
  first.cancel();
  await clock.advance(5);
  first.cancel();
  second.cancel();
  assert.equal(fired, 1);
});

test('a thousand timers in mixed order fire sorted', async () => {
  const clock = new FakeClock();
  const fired: number[] = [];
  for (let i = 0; i < 1000; i++) {
    const atMs = (i * 7919) % 1009;
    clock.setTimer(atMs, () => fired.push(atMs));
  }
  await clock.advance(2000);
  assert.deepEqual(
    fired,
    fired.toSorted((a, b) => a - b),
  );
  assert.equal(fired.length, 1000);
});

test('finish moves time on as far as a promise needs, and fails when nothing can settle it', async () => {
  const clock = new FakeClock();
  await clock.finish(sleep(clock, 5_000));
  assert.equal(clock.elapsedMs, 5_000);
  await assert.rejects(clock.finish(new Promise(() => undefined)), /nothing is left to happen/);
  await assert.rejects(clock.finish(sleep(clock, 100), { withinMs: 50 }), /not within 50 ms/);
});

test('a process has its own wall time and drift; a wall jump leaves boot time and timers alone', async () => {
  const world = new FakeClock();
  const mine = world.process({ wallOffsetMs: 60_000, driftPpm: 1_000_000, bootedForMs: 500 });
  let firedAtMs = -1;
  mine.setTimer(1000, () => {
    firedAtMs = world.elapsedMs;
  });
  mine.jumpWall(-3_600_000);
  await world.advance(1000);
  assert.equal(firedAtMs, 500, 'a clock of double speed waits half as long');
  assert.equal(mine.bootMs(), 500 + 2000);
  assert.equal(mine.now().seconds, world.now().seconds + 1 + 60 - 3600);
});

test('a paused process gets everything late and in order', async () => {
  const world = new FakeClock();
  const mine = world.process();
  const seen: string[] = [];
  mine.setTimer(10, () => seen.push(`first ${world.elapsedMs}`));
  mine.setTimer(20, () => seen.push(`second ${world.elapsedMs}`));
  mine.setTimer(150, () => seen.push(`third ${world.elapsedMs}`));
  mine.pause(100);
  await world.advance(200);
  assert.deepEqual(seen, ['first 100', 'second 100', 'third 150']);
});

test('nothing reaches a process after its end', async () => {
  const world = new FakeClock();
  const mine = world.process();
  let fired = 0;
  mine.setTimer(10, () => fired++);
  mine.end();
  mine.setTimer(10, () => fired++);
  mine.defer(() => fired++);
  await world.advance(100);
  assert.equal(fired, 0);
});
