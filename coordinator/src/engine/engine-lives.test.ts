import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareEpochs, type Epoch } from '@collective/base/ids';
import { MemoryStoreDisk } from '../store/memory-store.ts';
import { type EngineLife, EngineWorld, session, TEXTS } from './engine-world.ts';

/** Puts n0, n1, ... and makes each stable and applied. */
async function putAll(life: EngineLife, count: number, from = 0): Promise<void> {
  for (let i = from; i < from + count; i++) {
    await life.put(1, `n${i}`, `${i}`);
    await life.settle();
  }
}

async function checkpointed(life: EngineLife): Promise<void> {
  const before = life.store.asked.checkpoint;
  await life.clock.advance(10_000);
  assert.equal(life.store.asked.checkpoint, before + 1);
  await life.clock.settle();
}

test('M2: the log is replayed into a view that a power loss took back, to any point since its checkpoint', async () => {
  const applied = new Set<number>();
  for (let seed = 1; seed <= 40; seed++) {
    const world = new EngineWorld();
    const life = await world.start({ segmentBytes: 300 });
    await putAll(life, 4);
    await checkpointed(life);
    await putAll(life, 4, 4);
    world.powerLoss(seed);
    applied.add(world.view.load().position);
    const next = await world.start();
    assert.equal(Object.keys(await next.texts()).length, 8, `seed ${seed}`);
    assert.equal(next.engine.recovered, 9);
  }
  assert.ok(applied.size >= 4, `the view came back at ${[...applied]}`);
});

test('M2: what a checkpoint made durable is let go of in the log; what it could not finish is kept', async () => {
  const world = new EngineWorld();
  const life = await world.start({ segmentBytes: 200 });
  await putAll(life, 10);
  const before = life.log.sizeBytes;
  const release = life.store.hold('checkpoint');
  await life.clock.advance(10_000);
  assert.equal(life.log.sizeBytes, before, 'not before the checkpoint has ended');
  release();
  await life.clock.settle();
  assert.ok(life.log.sizeBytes < before);
  await life.clock.advance(60_000);
  assert.equal(life.store.asked.checkpoint, 1, 'nothing new was applied, so nothing is to be checkpointed');
});

test('M2: a checkpoint that fails lets go of nothing and ends the engine', async () => {
  const world = new EngineWorld();
  const life = await world.start({ segmentBytes: 200 });
  await putAll(life, 10);
  const before = life.log.sizeBytes;
  life.store.fail('checkpoint', new Error('the disk is gone'));
  await life.clock.advance(10_000);
  assert.equal(life.fatal.length, 1);
  assert.equal(life.log.sizeBytes, before);
  await life.close();
  world.powerLoss(5);
  assert.equal(Object.keys(await (await world.start()).texts()).length, 10);
});

test('M2: a view that is ahead of its log refuses to start', async () => {
  const world = new EngineWorld();
  const life = await world.start();
  await putAll(life, 3);
  await life.close();
  const other = new EngineWorld();
  await (await other.start()).close();
  other.view = world.view;
  await assert.rejects(other.start(), { code: 'store_damaged', message: /applied position 4, the log ends at 1/ });
});

test('M2: a view that is older than its log refuses to start: a lost database is not taken for an empty one', async () => {
  const world = new EngineWorld();
  const life = await world.start({ segmentBytes: 200 });
  await putAll(life, 10);
  await checkpointed(life);
  world.kill();
  const { view } = world;
  world.view = new MemoryStoreDisk();
  await assert.rejects(world.start(), { code: 'store_damaged', message: /applied position 0, the log goes on at/ });
  world.view = view;
  assert.equal(Object.keys(await (await world.start()).texts()).length, 10);
});

test('M2: the same holds when the log is empty after it was let go of', async () => {
  const world = new EngineWorld();
  const life = await world.start({ segmentBytes: 1 });
  await putAll(life, 3);
  await checkpointed(life);
  await life.close();
  for (const { path } of world.platter.files()) if (!path.endsWith('5.log')) world.platter.remove(path);
  world.view = new MemoryStoreDisk();
  await assert.rejects(world.start(), { code: 'store_damaged' });
});

test('M2a: each start has an epoch above all before, over close, SIGKILL and power loss', async () => {
  const world = new EngineWorld();
  let last: Epoch = { generation: 0, start: 0 };
  for (let start = 1; start <= 30; start++) {
    const { engine } = await world.start();
    assert.ok(compareEpochs(engine.epoch, last) > 0, `${JSON.stringify(engine.epoch)} after ${JSON.stringify(last)}`);
    if (last.generation !== 0) assert.equal(engine.epoch.generation, last.generation, 'the generation is kept');
    last = engine.epoch;
    engine.tryExecute((tx) => tx.put(TEXTS, 'x', 'x'), { session: session(1) });
    if (start % 3 === 0) world.kill();
    else if (start % 3 === 1) world.powerLoss(start);
    else await world.clock.finish(engine.close());
  }
});

test('M2a: an epoch is stable before the start has ended', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const world = new EngineWorld();
    const { engine } = await world.start();
    world.powerLoss(seed);
    assert.ok(compareEpochs((await world.start()).engine.epoch, engine.epoch) > 0, `seed ${seed}`);
  }
});

test('M2a: a restore brings a generation of its own; a lower one than before is refused', async () => {
  const world = new EngineWorld();
  const first = await world.start({ engine: { generation: 1_000 } });
  assert.equal(first.engine.epoch.generation, 1_000);
  await first.close();
  const restored = await world.start({ engine: { generation: 2_000 } });
  assert.deepEqual(restored.engine.epoch, { generation: 2_000, start: 2 });
  await restored.close();
  await assert.rejects(world.start({ engine: { generation: 1_500 } }), { code: 'fenced' });
  assert.deepEqual((await world.start()).engine.epoch, { generation: 2_000, start: 3 });
});

test('M2a: no number is given twice, not after a lost tail and not over restarts', async () => {
  const kinds = ['inode', 'session', 'fence', 'promise', 'event'] as const;
  for (let seed = 1; seed <= 30; seed++) {
    const world = new EngineWorld();
    const given = new Set<string>();
    for (let start = 1; start <= 6; start++) {
      const life = await world.start();
      for (let i = 0; i < 3_000; i++) {
        const kind = kinds[i % kinds.length] ?? 'inode';
        const drawn = `${kind} ${life.engine.drawNumber(kind)}`;
        assert.ok(!given.has(drawn), `${drawn} was given twice (seed ${seed}, start ${start})`);
        given.add(drawn);
        // Some of it becomes stable, some is lost.
        if (i % 700 === 0) await life.clock.advance((seed * start) % 40);
      }
      if ((seed + start) % 3 === 0) world.kill();
      else world.powerLoss(seed * 10 + start);
    }
  }
});

test('M2a: a number comes only from a range that a stable batch reserved', async () => {
  const life = await new EngineWorld().start({ syncMs: 1_000 });
  // The start reserved one range; the next one is reserved when half of it is used, but is not stable yet.
  const draw = (): number => life.engine.drawNumber('session');
  const first = draw();
  for (let i = 1; i < 4_096; i++) draw();
  assert.throws(draw, { code: 'overloaded' });
  await life.settle();
  assert.equal(draw(), first + 4_096);
});

test('M2a: numbers do not run out while nothing is written', async () => {
  const life = await new EngineWorld().start();
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 1_000; i++) life.engine.drawNumber('session');
    await life.clock.advance(100);
  }
  assert.ok(life.engine.drawNumber('session') > 20_000);
});

test('M2a: an operation that throws or misses does not give its numbers to the next one', async () => {
  const life = await new EngineWorld().start();
  const drawn: number[] = [];
  for (let i = 0; i < 5; i++)
    await assert.rejects(
      life.engine.run((tx) => {
        drawn.push(tx.newInode());
        throw new RangeError('no');
      }),
    );
  assert.equal(new Set(drawn).size, 5);
});

test('a clock that was set far back refuses to start, one that was set back a little does not', async () => {
  const world = new EngineWorld();
  await world.clock.advance(3_600_000);
  await (await world.start()).close();
  const starting = (backMs: number) => {
    const clock = world.clock.process({ wallOffsetMs: -backMs });
    return world.start({ engine: { clock } });
  };
  await assert.rejects(starting(600_000), { code: 'clock_wrong', message: /2026-01-01T00:50/ });
  await (await starting(60_000)).close();
});
