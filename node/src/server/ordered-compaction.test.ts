import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import type { StoreStats } from '../chunk-store/chunk-store.ts';
import { OrderedCompaction } from './ordered-compaction.ts';

class World {
  readonly clock = new FakeClock();
  /** Compactions of the store that were begun. */
  readonly begun: PromiseWithResolvers<void>[] = [];
  stats = { deadBytes: 900, compactedBytes: 0, compactedSegments: 0, stuckSegments: 0 } as StoreStats;
  readonly compaction = new OrderedCompaction(
    {
      compact: () => {
        const compaction = Promise.withResolvers<void>();
        this.begun.push(compaction);
        return compaction.promise;
      },
      stats: () => this.stats,
    },
    this.clock,
  );

  order(run: string, withinMs = 2_000, signal = new AbortController().signal) {
    return this.clock.finish(this.compaction.work(run, withinMs, signal));
  }
}

test('D4: an order of a long compaction is answered soon, and the next of the same run finds it done', async () => {
  const world = new World();
  const first = await world.order('1');
  assert.deepEqual([world.clock.bootMs(), first.done, first.deadBytes], [2_000, false, 900]);
  world.stats = { ...world.stats, deadBytes: 300, compactedBytes: 5_000, compactedSegments: 2 };
  assert.deepEqual(await world.order('1'), {
    done: false,
    deadBytes: 300,
    copiedBytes: 5_000,
    removedSegments: 2,
    stuckSegments: 0,
  });
  world.clock.setTimer(500, () => world.begun[0]?.resolve());
  assert.equal((await world.order('1')).done, true);
  assert.equal(world.clock.bootMs(), 4_500, 'as soon as it is done');
  assert.equal((await world.order('1')).done, true, 'an order may come twice');
  assert.equal(world.begun.length, 1);
});

test('D4: another run is a compaction of its own', async () => {
  const world = new World();
  await world.order('1');
  world.begun[0]?.resolve();
  await world.order('1');
  assert.equal((await world.order('2')).done, false);
  assert.equal(world.begun.length, 2);
});

test('D4: who calls an order off does not end the compaction', async () => {
  const world = new World();
  const reason = new Error('the link ended');
  const off = new AbortController();
  const order = assert.rejects(world.compaction.work('1', 2_000, off.signal), reason);
  off.abort(reason);
  await order;
  world.begun[0]?.resolve();
  assert.equal((await world.order('1')).done, true);
  assert.equal(world.begun.length, 1);
});

test('D4: why a compaction failed is answered to each order of it', async () => {
  const world = new World();
  await world.order('1');
  const failure = new CollectiveError('no_space', 'Compact segments: the disk is full');
  world.begun[0]?.reject(failure);
  await assert.rejects(world.order('1'), failure);
  await assert.rejects(world.order('1'), failure);
});
