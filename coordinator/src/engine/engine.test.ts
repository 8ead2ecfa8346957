import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_REALM } from '@collective/base/ids';
import { EngineWorld, session, TEXTS } from './engine-world.ts';
import { OPERATION_KEYS_MAX } from './operation-run.ts';
import { NO_USAGE } from './usage-sums.ts';

test('M3: what an operation wrote is visible to the next one at once', async () => {
  const { engine } = await new EngineWorld().start();
  engine.tryExecute((tx) => tx.put(TEXTS, 'one', 'a'), { session: session(1) });
  const seen = engine.tryExecute((tx) => tx.get(TEXTS, 'a'), { session: session(2) });
  assert.equal(seen?.value, 'one');
  assert.ok(engine.writtenPosition < engine.lastPosition, 'before the disk has heard of it');
});

test('M3: an operation sees its own writes, also in a scan', async () => {
  const life = await new EngineWorld().start();
  await life.put(1, 'a', 'old');
  await life.put(1, 'b', 'old');
  const { value } = await life.execute(1, (tx) => {
    tx.put(TEXTS, 'new', 'a');
    tx.remove(TEXTS, 'b');
    tx.put(TEXTS, 'new', 'c');
    return [tx.get(TEXTS, 'a'), tx.get(TEXTS, 'b'), ...tx.scan(TEXTS, 't', 'u', 10).map(({ key }) => key)];
  });
  assert.deepEqual(value, ['new', undefined, 'ta', 'tc']);
});

test('M3: an operation that throws leaves nothing', async () => {
  const life = await new EngineWorld().start();
  const before = life.engine.lastPosition;
  const failing = life.engine.execute(
    (tx) => {
      tx.put(TEXTS, 'never', 'a');
      tx.addUsage(ROOT_REALM, { bytes: 5, inodes: 1 });
      throw new RangeError('changed my mind');
    },
    { session: session(1) },
  );
  await assert.rejects(failing, /changed my mind/);
  assert.equal(await life.get('a'), undefined);
  assert.equal(life.engine.usageOf(ROOT_REALM).bytes, 0);
  assert.equal(life.engine.lastPosition, before);
});

test('M3: an operation that stops for want of a key runs again with the same time and the same numbers', async () => {
  const world = new EngineWorld();
  const first = await world.start();
  for (const name of ['a', 'b', 'c']) await first.put(1, name, name);
  await first.close();
  const life = await world.start({ storeMs: () => 7 });
  const runs: string[] = [];
  const { value, draws } = await life.execute(1, (tx) => {
    const drawn = [tx.newInode(), tx.newInode()];
    runs.push(`${tx.now.seconds}.${tx.now.nanos} ${drawn}`);
    return [tx.get(TEXTS, 'a'), tx.get(TEXTS, 'b'), tx.scan(TEXTS, 'tc', 'u', 5).length].join(' ');
  });
  assert.equal(value, 'a b 1');
  assert.equal(runs.length, 4, 'three reads were missing');
  assert.equal(new Set(runs).size, 1, runs.join('; '));
  assert.equal(draws.inodes.length, 2);
});

test('M4: a replay is given the time and the numbers of its first run', async () => {
  const life = await new EngineWorld().start();
  const draws = { now: { seconds: 42, nanos: 7 }, inodes: [77 as never] };
  const outcome = life.engine.tryExecute((tx) => [tx.now.seconds, tx.newInode(), tx.newInode() > 77], {
    session: session(1),
    draws,
  });
  assert.deepEqual(outcome?.value, [42, 77, true]);
});

test('M3: prefetched keys stay pinned until the operation ends, however small the cache is', async () => {
  const world = new EngineWorld();
  const names = Array.from({ length: 40 }, (_, i) => `n${i}`);
  const first = await world.start();
  for (const name of names) await first.put(1, name, name);
  await first.close();
  const life = await world.start({ engine: { cacheEntriesMax: 4 } });
  const { value } = await life.execute(1, (tx) => names.map((name) => tx.get(TEXTS, name)));
  assert.deepEqual(value, names);
  assert.ok(life.engine.memory.cache <= 4);
  const { value: needed } = await life.execute(1, (tx) => {
    tx.need(names.map((name) => TEXTS.key(name)));
    return names.map((name) => tx.get(TEXTS, name));
  });
  assert.deepEqual(needed, names);
});

test('M3: the number of keys of an operation is limited', async () => {
  const life = await new EngineWorld().start();
  const tooMany = life.engine.execute(
    (tx) => {
      for (let i = 0; i <= OPERATION_KEYS_MAX; i++) tx.put(TEXTS, 'x', `${i}`);
    },
    { session: session(1) },
  );
  await assert.rejects(tooMany, { code: 'overloaded' });
  assert.deepEqual(await life.texts(), {});
});

test('M3: an overlay entry stays while a read that began before its batch was applied is outstanding', async () => {
  const world = new EngineWorld();
  const first = await world.start();
  await first.put(1, 'k', 'old');
  await first.close();
  const life = await world.start({ engine: { cacheEntriesMax: 2 } });
  const { clock, engine, store } = life;
  const release = store.hold('get');
  const reading = engine.execute((tx) => tx.get(TEXTS, 'k'), { session: session(2) });
  engine.tryExecute((tx) => tx.put(TEXTS, 'new', 'k'), { session: session(1) });
  await life.settle();
  // The cache holds two entries: had the overlay let go of the new value, these would have driven it out of memory.
  for (const name of ['x', 'y', 'z', 'x2', 'y2', 'z2']) {
    engine.tryExecute((tx) => tx.put(TEXTS, name, name), { session: session(1) });
    await life.settle();
  }
  release();
  const outcome = await clock.finish(reading);
  assert.equal(outcome.value, 'new', 'the read brought the old value, which the batch had replaced');
  assert.equal(await life.get('k'), 'new');
  assert.equal(await life.get('nothing'), undefined);
  await life.settle();
  assert.equal(engine.memory.overlay, 0, 'after the read the overlay is let go of');
});

test('M3: a read ahead of time does not bring back what a batch replaced meanwhile', async () => {
  const world = new EngineWorld();
  const first = await world.start();
  await first.put(1, 'k', 'old');
  await first.close();
  const life = await world.start({ engine: { cacheEntriesMax: 2 } });
  const release = life.store.hold('get');
  const reading = life.engine.prefetch([TEXTS.key('k')]);
  assert.equal(life.engine.knows([TEXTS.key('k')]), false);
  life.engine.tryExecute((tx) => tx.remove(TEXTS, 'k'), { session: session(1) });
  await life.settle();
  release();
  await life.clock.finish(reading);
  assert.equal(await life.get('k'), undefined);
});

test('M3: a scan over many rows that are removed in memory only takes few runs', async () => {
  const world = new EngineWorld();
  const first = await world.start();
  const names = Array.from({ length: 5_000 }, (_, i) => String(i).padStart(5, '0'));
  await first.execute(1, (tx) => {
    for (const name of names) tx.put(TEXTS, name, name);
  });
  await first.close();
  const life = await world.start();
  life.store.hold('apply');
  life.engine.tryExecute(
    (tx) => {
      for (const name of names.slice(0, -3)) tx.remove(TEXTS, name);
    },
    { session: session(1) },
  );
  const asked = life.store.asked.scan;
  const { value } = await life.execute(1, (tx) => tx.scan(TEXTS, 't', 'u', 1).map((row) => row.value));
  assert.deepEqual(value, ['04997']);
  assert.ok(life.store.asked.scan - asked < 12, `${life.store.asked.scan - asked} reads of the view`);
});

test('while the view is too far behind, operations wait; each ends when there is room', async () => {
  const world = new EngineWorld();
  const first = await world.start();
  await first.put(1, 'a', 'a');
  await first.put(1, 'b', 'b');
  await first.close();
  const life = await world.start({ engine: { overlayEntriesMax: 10 } });
  const { clock, engine, store } = life;
  const releaseGets = store.hold('get');
  const releaseApplies = store.hold('apply');
  // This one is between two reads when the overlay fills up: it holds a read, so it must not wait for room.
  const reading = engine.execute((tx) => [tx.get(TEXTS, 'a'), tx.get(TEXTS, 'b')], { session: session(2) });
  for (let i = 0; i < 11; i++) engine.tryExecute((tx) => tx.put(TEXTS, 'x', `x${i}`), { session: session(1) });
  assert.equal(
    engine.tryExecute((tx) => tx.put(TEXTS, 'x', 'y'), { session: session(1) }),
    undefined,
  );
  let ended = false;
  const waiting = engine
    .execute((tx) => tx.put(TEXTS, 'y', 'y'), { session: session(1) })
    .then(() => {
      ended = true;
    });
  await clock.advance(1_000);
  assert.equal(ended, false);
  releaseApplies();
  await clock.advance(1_000);
  assert.equal(ended, false, 'the outstanding read still keeps the overlay');
  releaseGets();
  assert.deepEqual((await clock.finish(reading)).value, ['a', 'b']);
  await clock.finish(waiting);
  assert.equal(await life.get('y'), 'y');
});

test('M4: a failure wakes the operations that wait for room', async () => {
  const life = await new EngineWorld().start({ engine: { overlayEntriesMax: 3 } });
  life.store.hold('apply');
  for (let i = 0; i < 4; i++) life.engine.tryExecute((tx) => tx.put(TEXTS, 'x', `${i}`), { session: session(1) });
  const waiting = life.engine.execute((tx) => tx.put(TEXTS, 'y', 'y'), { session: session(1) });
  life.disk.failNextSync();
  await assert.rejects(life.clock.finish(waiting), { code: 'disk_failed' });
  assert.equal(life.fatal.length, 1);
});

test('close loses nothing that was run, and refuses what comes later', async () => {
  const world = new EngineWorld();
  const life = await world.start({ syncMs: 20, writeMs: 5 });
  for (let i = 0; i < 100; i++) {
    life.engine.tryExecute((tx) => tx.put(TEXTS, `${i}`, `${i}`), { session: session(1) });
    if (i % 30 === 0) await life.clock.advance(3);
  }
  const closing = life.engine.close();
  assert.throws(() => life.engine.tryExecute(() => 1, { session: session(1) }), { code: 'shutting_down' });
  await assert.rejects(
    life.engine.run(() => 1),
    { code: 'shutting_down' },
  );
  await life.clock.finish(closing);
  await life.close();
  assert.deepEqual(life.fatal, []);
  world.powerLoss(1);
  assert.equal(Object.keys(await (await world.start()).texts()).length, 100);
});

test('a batch is bounded in bytes: large values make many batches, which all can be read again', async () => {
  const world = new EngineWorld();
  const life = await world.start({ writeMs: 50 });
  const before = life.engine.counters.batches;
  const value = 'v'.repeat(60_000);
  for (let i = 0; i < 100; i++) life.engine.tryExecute((tx) => tx.put(TEXTS, value, `${i}`), { session: session(1) });
  await life.close();
  assert.ok(life.engine.counters.batches - before >= 5, `${life.engine.counters.batches - before} batches`);
  assert.equal(Object.keys(await (await world.start()).texts()).length, 100);
});

test('usage is summed over batches and restarts', async () => {
  const world = new EngineWorld();
  for (let start = 1; start <= 3; start++) {
    const life = await world.start();
    await life.execute(1, (tx) => tx.addUsage(ROOT_REALM, { bytes: 10, inodes: 1 }));
    const { value } = await life.execute(1, (tx) => {
      tx.addUsage(ROOT_REALM, { bytes: -3 });
      return tx.usageOf(ROOT_REALM);
    });
    assert.deepEqual(value, { ...NO_USAGE, bytes: 7 * start, inodes: start });
    await life.close();
  }
});

test('a row that cannot be encoded ends the engine by onFatal, not the process by surprise', async () => {
  const life = await new EngineWorld().start();
  const outcome = life.engine.tryExecute((tx) => tx.put(TEXTS, undefined as never, 'x'.repeat(70_000)), {
    session: session(1),
  });
  assert.ok(outcome !== undefined);
  await life.clock.advance(100);
  assert.equal(life.fatal.length, 1);
  await assert.rejects(life.clock.finish(life.engine.run(() => 1)));
  await life.close();
});

test('M3: scans whose bounds are known ahead cost one read of the store together', async () => {
  const world = new EngineWorld();
  const first = await world.start();
  for (const name of ['a1', 'a2', 'b1', 'c1', 'c2']) await first.put(1, name, name);
  await first.close();
  const life = await world.start();
  const before = life.store.asked.scan;
  const range = (letter: string) => ({ from: `t${letter}`, to: `t${letter}~`, limit: 5 });
  const { value } = await life.execute(1, (tx) => {
    const ranges = ['a', 'b', 'c'].map(range);
    tx.needScans(ranges);
    return ranges.map(({ from, to, limit }) => tx.scan(TEXTS, from, to, limit).length);
  });
  assert.deepEqual(value, [2, 1, 2]);
  assert.equal(life.store.asked.scan - before, 1);
});

test('a listener hears of rows that were put into its table, and of none that an operation took back', async () => {
  const life = await new EngineWorld().start();
  const heard: string[] = [];
  life.engine.watch(TEXTS, (key, value) => heard.push(`${key}=${value}`));
  await life.put(1, 'a', 'one');
  await life.execute(1, (tx) => tx.remove(TEXTS, 'a'));
  await assert.rejects(
    life.execute(1, (tx) => {
      tx.put(TEXTS, 'never', 'b');
      throw new RangeError('changed my mind');
    }),
  );
  assert.deepEqual(heard, ['ta=one']);
});
