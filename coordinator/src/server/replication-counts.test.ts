import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkId } from '@collective/base/ids';
import { type EngineLife, EngineWorld } from '../engine/engine-world.ts';
import type { OperationRun } from '../engine/operation-run.ts';
import { EventLog } from '../events/event-log.ts';
import { countLosses, settleLosses } from '../ops/losses.ts';
import { noLongerForRepair, noteForRepair, noteToMove } from '../ops/replica-places.ts';
import { countReplication, KeptCounts } from './replication-counts.ts';

const chunk = (number: number): ChunkId => number.toString(16).padStart(32, '0') as ChunkId;
const counts = (life: EngineLife) => life.clock.finish(countReplication(life.engine));
const run = async <T>(life: EngineLife, operation: (tx: OperationRun) => T): Promise<T> =>
  (await life.execute(0, operation)).value;

test('D8: what is short, to be moved and without a sound copy is counted as it is noted, and no more when it is mended', async () => {
  const life = await new EngineWorld().start();
  await run(life, (tx) => {
    for (let i = 1; i <= 3; i++) noteForRepair(tx, chunk(i), i - 1, 10);
    noteToMove(tx, chunk(4), 0);
  });
  const { underReplicated, unreadable, toMove, unstable } = await counts(life);
  assert.deepEqual(
    { underReplicated, unreadable, toMove, unstable },
    {
      ...{ underReplicated: 3, unreadable: 1, toMove: 1, unstable: 0 },
    },
  );
  await run(life, (tx) => {
    for (let i = 1; i <= 3; i++) noLongerForRepair(tx, chunk(i));
  });
  const mended = await counts(life);
  assert.deepEqual([mended.underReplicated, mended.unreadable], [0, 0]);
  await life.close();
});

test('many figures cost one count, a mended chunk is shown after some seconds, and a store that hangs hides no other figure', async () => {
  const world = new EngineWorld();
  let storeMs = 1;
  const life = await world.start({ storeMs: () => storeMs, engine: { cacheEntriesMax: 4 } });
  const kept = new KeptCounts(world.clock, life.engine);
  const short = (): Promise<number> => world.clock.finish(kept.figure(({ underReplicated }) => underReplicated));
  await run(life, (tx) => {
    noteForRepair(tx, chunk(1), 1, 10);
    countLosses(tx, 1);
  });
  const { prefetches } = life.engine.counters;
  const lost = kept.figure(({ lost }) => lost);
  assert.deepEqual([await short(), await lost], [1, 1]);
  const cost = life.engine.counters.prefetches - prefetches;
  await run(life, (tx) => noLongerForRepair(tx, chunk(1)));
  const read = life.engine.counters.prefetches;
  assert.deepEqual([await short(), life.engine.counters.prefetches - read], [1, 0]);
  await world.clock.advance(5_000);
  assert.deepEqual([await short(), life.engine.counters.prefetches - read], [0, cost]);
  await world.clock.advance(5_000);
  storeMs = 60_000;
  assert.deepEqual(await world.clock.finish(Promise.all([short(), kept.figure(({ lost }) => lost)])), [
    ...[Number.NaN, Number.NaN],
  ]);
  storeMs = 1;
  await world.clock.advance(600_000);
  assert.deepEqual(await short(), 0);
  await life.close();
});

test('D3: losses count over restarts and whatever else happens, until they are settled; what came meanwhile is not settled with them', async () => {
  const world = new EngineWorld();
  const first = await world.start();
  assert.equal((await counts(first)).lost, 0);
  await run(first, (tx) => countLosses(tx, 2));
  const events = await world.clock.finish(
    EventLog.load({ clock: world.clock, engine: first.engine, onFailure: (error) => assert.fail(String(error)) }),
  );
  for (let i = 0; i < 50; i++) events.record('scrub-asked', 'a quiet day');
  await world.clock.advance(1_000);
  await first.close();

  const second = await world.start();
  const seen = await counts(second);
  assert.equal(seen.lost, 2);
  await run(second, (tx) => countLosses(tx, 1));
  assert.deepEqual(await run(second, (tx) => settleLosses(tx, seen.lost)), { settled: 2, left: 1 });
  const { lost, lostLast } = await counts(second);
  assert.deepEqual([lost, lostLast !== undefined], [1, true]);
  assert.deepEqual(await run(second, (tx) => settleLosses(tx, 5)), { settled: 1, left: 0 });
  assert.deepEqual(await run(second, (tx) => settleLosses(tx, 5)), { settled: 0, left: 0 });
  const settled = await counts(second);
  assert.deepEqual([settled.lost, settled.lostLast], [0, undefined]);
  await second.close();
});
