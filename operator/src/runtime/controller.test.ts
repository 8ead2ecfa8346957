import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { FakeClock } from '@collective/base/fake-clock';
import { type Log, silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import { KubeError } from '../kube/kube-error.ts';
import type { ObjectKey } from '../kube/kube-object.ts';
import { Controller, type ControllerOptions, type Reconciled } from './controller.ts';
import { nameOf } from './object-store.ts';
import { WorkQueue } from './work-queue.ts';

const key = (name: string): ObjectKey => ({ namespace: 'members', name });

interface Bench {
  readonly clock: FakeClock;
  readonly queue: WorkQueue<ObjectKey>;
  readonly logged: string[];
  readonly results: string[];
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

function running(
  reconcile: (key: ObjectKey, signal: AbortSignal, clock: FakeClock) => Promise<Reconciled>,
  options: Partial<ControllerOptions> = {},
): Bench {
  const clock = new FakeClock();
  const logged: string[] = [];
  const results: string[] = [];
  const heard =
    (level: string) =>
    (_: object, event: string): void =>
      void logged.push(`${level} ${event}`);
  const log: Log = { ...silentLog, debug: heard('debug'), warn: heard('warn'), child: () => log };
  const queue = new WorkQueue<ObjectKey>({ clock, random: new SeededRandom(5), nameOf });
  const metrics = { reconciled: (result: string) => void results.push(result), workers: () => undefined };
  const controller = new Controller({
    name: 'member',
    queue,
    workers: 2,
    reconcile: (of, signal) => reconcile(of, signal, clock),
    clock,
    log,
    metrics,
    ...options,
  });
  const stop = new AbortController();
  return { clock, queue, logged, results, stop, ended: controller.run(stop.signal) };
}

test('a key is reconciled, and again when the reconcile asks for it', async () => {
  const times: number[] = [];
  const { clock, queue, results } = running(async () => {
    times.push(clock.elapsedMs);
    return times.length < 3 ? { requeueAfterMs: 10_000 } : {};
  });
  queue.add(key('alice'));
  await clock.advance(60_000);
  assert.deepEqual(times, [0, 10_000, 20_000]);
  assert.deepEqual(results, ['requeue_after', 'requeue_after', 'success']);
});

test('a key that fails comes again by the backoff and keeps nobody up', async () => {
  const seen: string[] = [];
  const { clock, queue, logged } = running(async ({ name }) => {
    seen.push(name);
    if (name === 'bad') throw new TypeError('a defect');
    return {};
  });
  queue.add(key('bad'));
  queue.add(key('good'));
  await clock.advance(1_000);
  queue.add(key('late'));
  await clock.settle();
  assert.ok(seen.filter((name) => name === 'bad').length >= 3);
  assert.ok(seen.includes('good') && seen.includes('late'));
  assert.equal(logged[0], 'warn reconcile failed');
});

test('a conflict is no news: it is tried again without a warning', async () => {
  let tries = 0;
  const { clock, queue, logged } = running(async () => {
    if (++tries === 1) throw new KubeError('Apply', { status: 409, reason: 'Conflict' });
    return {};
  });
  queue.add(key('alice'));
  await clock.advance(1_000);
  assert.deepEqual([tries, logged], [2, ['debug reconcile is tried again']]);
});

test('one key is never with two workers, two keys are', async () => {
  const now = new Map<string, number>();
  let most = 0;
  const bench = running(async ({ name }, signal, clock) => {
    now.set(name, (now.get(name) ?? 0) + 1);
    assert.equal(now.get(name), 1);
    most = Math.max(
      most,
      [...now.values()].reduce((sum, count) => sum + count, 0),
    );
    await sleep(clock, 100, signal);
    now.set(name, 0);
    return {};
  });
  for (let round = 0; round < 20; round++) {
    for (const name of ['a', 'b', 'c']) bench.queue.add(key(name));
    await bench.clock.advance(30);
  }
  await bench.clock.advance(1_000);
  assert.equal(most, 2);
  assert.equal(bench.logged.length, 0, bench.logged.join());
});

test('a reconcile has a deadline, and comes again after it', async () => {
  const reasons: unknown[] = [];
  const { clock, queue } = running(
    async (_key, signal, clock) => {
      await sleep(clock, 3_600_000, signal).catch((reason: unknown) => reasons.push(reason));
      signal.throwIfAborted();
      return {};
    },
    { reconcileWithinMs: 5_000 },
  );
  queue.add(key('slow'));
  await clock.advance(11_000);
  assert.equal(reasons.length, 2);
  assert.match(String(reasons[0]), /Reconcile members\/slow/);
});

test('stopped, it ends when its reconciles have ended, and takes no further key', async () => {
  const seen: string[] = [];
  const { clock, queue, stop, ended, results } = running(async ({ name }, signal, clock) => {
    seen.push(name);
    await sleep(clock, 1_000, signal);
    return {};
  });
  queue.add(key('a'));
  await clock.settle();
  stop.abort(new Error('stopping'));
  queue.add(key('b'));
  await clock.finish(ended);
  assert.deepEqual([seen, results], [['a'], []]);
});

test('stopped, it does not wait for ever for a reconcile that does not heed its signal', async () => {
  const { clock, queue, stop, ended, logged } = running(() => new Promise(() => undefined));
  queue.add(key('deaf'));
  await clock.settle();
  stop.abort(new Error('stopping'));
  await clock.finish(ended, { withinMs: 11_000 });
  assert.deepEqual(logged, ['warn reconciles did not end in time']);
});
