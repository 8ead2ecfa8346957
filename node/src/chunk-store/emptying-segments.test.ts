import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { EmptyingSegments, LEFT_ALONE_MAX_MS, QUIET_AFTER_MS } from './emptying-segments.ts';

function scene() {
  const clock = new FakeClock();
  const segments = new EmptyingSegments(clock);
  const look = (...liveBytes: readonly number[]) => {
    const { emptying, againInMs } = segments.look(
      liveBytes.map((each, i) => ({ segment: i + 1, bytes: 1_000, liveBytes: each })),
    );
    return { emptying: [...emptying], againInMs };
  };
  return { clock, look };
}

test('D4: a segment out of which something went a moment ago is being emptied, until it has been quiet for a while', async () => {
  const { clock, look } = scene();
  look(900, 900);
  await clock.advance(QUIET_AFTER_MS);
  assert.deepEqual(look(900, 900), { emptying: [], againInMs: undefined });
  assert.deepEqual(look(800, 900), { emptying: [1], againInMs: QUIET_AFTER_MS });
  await clock.advance(QUIET_AFTER_MS - 1_000);
  assert.deepEqual(look(700, 900), { emptying: [1], againInMs: QUIET_AFTER_MS });
  await clock.advance(1_000);
  assert.deepEqual(look(700, 900), { emptying: [1], againInMs: QUIET_AFTER_MS - 1_000 });
  await clock.advance(QUIET_AFTER_MS - 1_000);
  assert.deepEqual(look(700, 900), { emptying: [], againInMs: undefined });
});

test('D4: it is left alone for so long only, and anew after it was quiet', async () => {
  const { clock, look } = scene();
  let live = 1_000_000;
  look(live);
  for (let tookMs = 5_000; tookMs < LEFT_ALONE_MAX_MS; tookMs += 5_000) {
    await clock.advance(5_000);
    assert.deepEqual(look(--live).emptying, [1], `after ${tookMs} ms`);
  }
  await clock.advance(5_000);
  assert.deepEqual(look(--live), { emptying: [], againInMs: undefined });
  await clock.advance(QUIET_AFTER_MS);
  assert.deepEqual(look(--live).emptying, [1]);
});

test('a segment that is gone is forgotten', async () => {
  const { clock, look } = scene();
  look(900, 900);
  await clock.advance(QUIET_AFTER_MS);
  look(900);
  assert.deepEqual(look(900, 900).emptying, [2]);
});
