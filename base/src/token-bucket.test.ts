import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from './fake-clock.ts';
import { TokenBucket } from './token-bucket.ts';

const never = new AbortController().signal;

/** Takes as often as it may until `untilMs`; answers how many bytes went. */
async function takeAll(clock: FakeClock, bucket: TokenBucket, each: number, untilMs: number): Promise<number> {
  let taken = 0;
  const stop = new AbortController();
  const work = (async () => {
    for (;;) {
      await bucket.take(each, stop.signal);
      taken += each;
    }
  })();
  work.catch(() => undefined);
  await clock.advance(untilMs);
  stop.abort();
  await assert.rejects(work);
  return taken;
}

test('over time no more goes than the rate allows, and no less', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ clock, bytesPerSecond: () => 1_000 });
  const taken = await takeAll(clock, bucket, 70, 60_000);
  assert.ok(taken >= 60_000 && taken <= 61_200, `${taken} bytes in a minute and the second that lay ready`);
});

test('who takes more than a second has is let go, and those behind wait it out', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ clock, bytesPerSecond: () => 1_000 });
  await clock.finish(bucket.take(5_000, never));
  const before = clock.bootMs();
  await clock.finish(bucket.take(1, never));
  const waitedMs = clock.bootMs() - before;
  assert.ok(waitedMs >= 4_000 && waitedMs < 4_600, `it waited ${waitedMs} ms`);
});

test('a change of the rate is felt by those who wait', async () => {
  const clock = new FakeClock();
  let rate = 10;
  const bucket = new TokenBucket({ clock, bytesPerSecond: () => rate });
  await clock.finish(bucket.take(10_000, never));
  const second = bucket.take(1, never);
  await clock.advance(1_000);
  rate = 10_000;
  const before = clock.bootMs();
  await clock.finish(second);
  assert.ok(clock.bootMs() - before <= 2_000);
});

test('they go in the order in which they asked, and one that gives up does not hold the others', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ clock, bytesPerSecond: () => 1_000 });
  await clock.finish(bucket.take(2_000, never));
  const order: string[] = [];
  const stop = new AbortController();
  const first = bucket.take(500, stop.signal);
  first.catch(() => order.push('first gave up'));
  const others = ['second', 'third'].map((name) => bucket.take(500, never).then(() => order.push(name)));
  await clock.advance(100);
  stop.abort(new Error('no longer wanted'));
  await clock.finish(Promise.all(others));
  assert.deepEqual(order, ['first gave up', 'second', 'third']);
});
