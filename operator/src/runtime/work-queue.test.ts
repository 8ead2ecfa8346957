import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import { type QueueMetrics, WorkQueue } from './work-queue.ts';

const never = new AbortController().signal;

function queueOn(clock: FakeClock, metrics?: QueueMetrics): WorkQueue<string> {
  const random = new SeededRandom(3);
  return new WorkQueue({ clock, random, nameOf: (key) => key, ...(metrics === undefined ? {} : { metrics }) });
}

/** When the key can be taken next, in milliseconds from now; it is then with the caller. */
async function comesAfterMs(clock: FakeClock, queue: WorkQueue<string>, key: string): Promise<number> {
  const startedMs = clock.elapsedMs;
  assert.equal(await clock.finish(queue.get(never)), key);
  return clock.elapsedMs - startedMs;
}

test('a key that is added many times is there once, and keys come in the order in which they were added', async () => {
  const queue = queueOn(new FakeClock());
  for (const key of ['a', 'b', 'a', 'c', 'b']) queue.add(key);
  assert.equal(queue.depth, 3);
  assert.deepEqual([await queue.get(never), await queue.get(never), await queue.get(never)], ['a', 'b', 'c']);
});

test('a key is with one worker; added meanwhile it comes again once that one is done', async () => {
  const clock = new FakeClock();
  const queue = queueOn(clock);
  queue.add('a');
  await queue.get(never);
  queue.add('a');
  queue.add('a');
  assert.equal(queue.depth, 0);
  const second = queue.get(never);
  let came = false;
  void second.then(() => {
    came = true;
  });
  await clock.advance(60_000);
  assert.equal(came, false);
  queue.done('a', 'forget');
  assert.equal(await second, 'a');
  queue.done('a', 'forget');
  assert.equal(queue.depth, 0);
});

test('of two waiting times the earlier counts, and both are over once the key is taken', async () => {
  const clock = new FakeClock();
  const queue = queueOn(clock);
  queue.addAfter('a', 5_000);
  queue.addAfter('a', 9_000);
  queue.addAfter('a', 2_000);
  assert.equal(await comesAfterMs(clock, queue, 'a'), 2_000);
  queue.done('a', 'forget');
  assert.equal(clock.nextAtMs(), undefined);
});

test('what is added at once takes its waiting time along', async () => {
  const clock = new FakeClock();
  const queue = queueOn(clock);
  queue.addAfter('a', 60_000);
  queue.add('a');
  assert.equal(await comesAfterMs(clock, queue, 'a'), 0);
  queue.done('a', 'forget');
  assert.equal(clock.nextAtMs(), undefined);
});

test('a failing key comes later and later up to the bound, another one is not delayed, and success ends it', async () => {
  const clock = new FakeClock();
  const queue = queueOn(clock);
  queue.add('bad');
  await queue.get(never);
  for (const fullMs of [
    200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 300_000, 300_000,
  ]) {
    queue.done('bad', 'retry');
    const waitedMs = await comesAfterMs(clock, queue, 'bad');
    assert.ok(waitedMs >= fullMs / 2 && waitedMs <= fullMs, `${waitedMs} of ${fullMs}`);
  }
  queue.done('bad', 'retry');
  queue.add('good');
  assert.equal(await comesAfterMs(clock, queue, 'good'), 0);
  queue.done('good', 'forget');
  await comesAfterMs(clock, queue, 'bad');
  queue.done('bad', 'forget');
  queue.add('bad');
  await queue.get(never);
  queue.done('bad', 'retry');
  assert.ok((await comesAfterMs(clock, queue, 'bad')) <= 200);
});

test('who waits for a key is given up with the reason, and takes none with it', async () => {
  const queue = queueOn(new FakeClock());
  const reason = new Error('enough');
  const abort = new AbortController();
  const given = queue.get(abort.signal);
  const kept = queue.get(never);
  abort.abort(reason);
  await assert.rejects(given, reason);
  queue.add('a');
  assert.equal(await kept, 'a');
  await assert.rejects(queue.get(abort.signal), reason);
});

test('a stopped queue lets nothing come from timers any more', async () => {
  const clock = new FakeClock();
  const queue = queueOn(clock);
  queue.addAfter('a', 1_000);
  queue.stop();
  await clock.advance(10_000);
  assert.equal(queue.depth, 0);
});

test('it counts what is added, waits, is worked on and comes again', async () => {
  const clock = new FakeClock();
  const seen: string[] = [];
  const queue = queueOn(clock, {
    depth: (keys) => void seen.push(`depth ${keys}`),
    added: () => void seen.push('added'),
    taken: (waitedMs) => void seen.push(`waited ${waitedMs}`),
    finished: (workedMs) => void seen.push(`worked ${workedMs}`),
    retried: () => void seen.push('retried'),
  });
  queue.add('a');
  await clock.advance(30);
  await queue.get(never);
  await clock.advance(70);
  queue.done('a', 'retry');
  assert.deepEqual(seen, ['added', 'depth 1', 'depth 0', 'waited 30', 'worked 70', 'retried']);
});

test('more keys than the bound are refused', () => {
  const queue = queueOn(new FakeClock());
  for (let index = 0; index < 100_000; index++) queue.add(String(index));
  assert.throws(() => queue.add('one more'), { code: 'overloaded' });
});
