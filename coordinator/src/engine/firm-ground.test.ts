import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DiskOperation } from '@collective/base/disk/fake-disk';
import { type EngineLife, EngineWorld, session, TEXTS } from './engine-world.ts';
import type { OperationRun } from './operation-run.ts';

/** How long after it was run the reply of an operation may leave, with writes of 5 ms and syncs of 20 ms. */
const WRITE_MS = 5;
const SYNC_MS = 20;

async function slowLife(prepare?: (life: EngineLife) => Promise<unknown>): Promise<EngineLife> {
  const world = new EngineWorld();
  const life = await world.start({ writeMs: WRITE_MS, syncMs: SYNC_MS });
  await prepare?.(life);
  await life.settle();
  return life;
}

async function leavesAfterMs(
  life: EngineLife,
  by: number,
  operation: (tx: OperationRun) => unknown,
  durability: 'written' | 'stable' = 'written',
): Promise<number> {
  const outcome = life.engine.tryExecute(operation, { session: session(by) }) ?? (await life.execute(by, operation));
  const startedMs = life.clock.elapsedMs;
  const firm = life.engine.firm(outcome, durability);
  if (firm !== undefined) await life.clock.finish(firm);
  return life.clock.elapsedMs - startedMs;
}

const put =
  (name: string, value = 'x') =>
  (tx: OperationRun) =>
    tx.put(TEXTS, value, name);
const get = (name: string) => (tx: OperationRun) => tx.get(TEXTS, name);
const remove = (name: string) => (tx: OperationRun) => tx.remove(TEXTS, name);
const scan = (limit: number) => (tx: OperationRun) => tx.scan(TEXTS, 't', 'u', limit);

test('M4: a reply waits until its own batch is written, one that must be stable until it is synced', async () => {
  assert.equal(await leavesAfterMs(await slowLife(), 1, put('k')), WRITE_MS);
  assert.equal(await leavesAfterMs(await slowLife(), 1, put('k'), 'stable'), WRITE_MS + SYNC_MS);
});

test('M4: a reply that changed nothing and read nothing new leaves at once', async () => {
  const life = await slowLife((before) => before.put(1, 'k', 'x'));
  const outcome = life.engine.tryExecute(get('k'), { session: session(2) }) ?? assert.fail();
  assert.equal(life.engine.firm(outcome, 'written'), undefined);
  assert.equal(life.engine.firm(outcome, 'stable'), undefined);
});

test('M4: what a session wrote itself it may read when it is written', async () => {
  const life = await slowLife();
  life.engine.tryExecute(put('k'), { session: session(1) });
  assert.equal(await leavesAfterMs(life, 1, get('k')), WRITE_MS);
});

const FOREIGN: { name: string; first: (tx: OperationRun) => unknown; second: (tx: OperationRun) => unknown }[] = [
  { name: 'reads a key', first: put('k', 'new'), second: get('k') },
  { name: 'finds a key absent', first: remove('k'), second: get('k') },
  { name: 'finds a new key', first: put('new'), second: get('new') },
  { name: 'overwrites a key without reading it', first: put('k', 'new'), second: put('k', 'newer') },
  { name: 'overwrites a removal', first: remove('k'), second: put('k', 'newer') },
  { name: 'removes a key', first: put('k', 'new'), second: remove('k') },
  { name: 'finds a key in a scan', first: put('k2'), second: scan(10) },
  { name: 'misses a key in a scan', first: remove('k'), second: scan(10) },
];

for (const { name, first, second } of FOREIGN) {
  test(`M4: a reply waits for stable when its operation ${name} that another session changed`, async () => {
    const life = await slowLife((before) => before.put(1, 'k', 'old'));
    life.engine.tryExecute(first, { session: session(1) });
    assert.equal(await leavesAfterMs(life, 2, second), WRITE_MS + SYNC_MS);
    await life.settle();
    assert.ok((await leavesAfterMs(life, 2, second)) <= WRITE_MS, 'once it is stable nobody waits for it');
  });
}

test('M4: a scan does not wait for what lies behind its last row', async () => {
  const life = await slowLife((before) => before.put(1, 'a', 'old'));
  await life.execute(2, scan(1));
  life.engine.tryExecute(put('z'), { session: session(1) });
  const outcome = await life.execute(2, scan(1));
  assert.equal(outcome.foreignThrough, 0);
});

test('M4: what builds on a foreign change by way of an own write waits for it too', async () => {
  const life = await slowLife();
  life.engine.tryExecute(put('a', '1'), { session: session(1) });
  // Session 2 builds on it; the key that it reads next was last changed by itself.
  life.engine.tryExecute((tx) => tx.put(TEXTS, `${tx.get(TEXTS, 'a')}+1`, 'b'), { session: session(2) });
  assert.equal(await leavesAfterMs(life, 2, get('b')), WRITE_MS + SYNC_MS);
});

test('M4: who waits for stable does not wait for the 50 ms timer, and one sync serves all', async () => {
  const syncs: DiskOperation[] = [];
  const world = new EngineWorld();
  const before = (operation: DiskOperation) => {
    if (operation.kind === 'sync') syncs.push(operation);
    return 'go' as const;
  };
  const life = await world.start({ writeMs: WRITE_MS, syncMs: SYNC_MS, before });
  syncs.length = 0;
  const all = Array.from({ length: 30 }, (_, i) => life.engine.run(put(`k${i}`)));
  const startedMs = life.clock.elapsedMs;
  await life.clock.finish(Promise.all(all));
  assert.equal(life.clock.elapsedMs - startedMs, WRITE_MS + SYNC_MS);
  assert.equal(syncs.length, 1);
});

/** Random puts of three sessions; what was acknowledged, and how firmly. */
async function workUntilTheEnd(
  life: EngineLife,
): Promise<{ written: Set<string>; stable: Set<string>; tried: string[] }> {
  const acknowledged = { written: new Set<string>(), stable: new Set<string>(), tried: [] as string[] };
  for (let i = 0; i < 24 && life.fatal.length === 0 && !life.disk.dead; i++) {
    const name = `n${String(i).padStart(2, '0')}`;
    const durability = i % 3 === 0 ? 'stable' : 'written';
    let outcome: ReturnType<typeof life.engine.tryExecute>;
    try {
      outcome = life.engine.tryExecute(put(name), { session: session(1 + (i % 2)) });
    } catch (error) {
      assert.ok(life.fatal.includes(error as Error), 'only a failure stops operations');
      break;
    }
    assert.ok(outcome !== undefined, 'a blind write needs no key');
    acknowledged.tried.push(name);
    const left = (): void => {
      acknowledged[durability].add(name);
    };
    const firm = life.engine.firm(outcome, durability);
    if (firm === undefined) left();
    else firm.then(left, (error) => assert.ok(life.fatal.includes(error)));
    await life.clock.advance(i % 4);
  }
  await life.clock.advance(200);
  return acknowledged;
}

function assertKept(
  found: Record<string, string>,
  tried: readonly string[],
  kept: Iterable<string>,
  what: string,
): void {
  const names = Object.keys(found);
  assert.deepEqual(names, tried.slice(0, names.length), `${what}: no later change without an earlier one`);
  for (const name of kept) assert.ok(found[name] !== undefined, `${what}: ${name} was acknowledged and is lost`);
}

test('M4: each disk operation failing in turn ends the engine once, and what was acknowledged as stable is kept', async () => {
  for (const kind of ['sync', 'write', 'create', 'syncDirectory'] as const) {
    for (let failAt = 1; ; failAt++) {
      const world = new EngineWorld();
      let count = 0;
      let begun = false;
      const before = (operation: DiskOperation) =>
        begun && operation.kind === kind && ++count === failAt ? ('fail' as const) : ('go' as const);
      const life = await world.start({ writeMs: 1, syncMs: 3, before, segmentBytes: 400 });
      begun = true;
      const { stable, tried } = await workUntilTheEnd(life);
      const what = `${kind} ${failAt} failed`;
      if (count < failAt) {
        assert.equal(life.fatal.length, 0);
        assert.ok(failAt > 2, `${kind} was tried ${failAt - 1} times`);
        break;
      }
      assert.equal(life.fatal.length, 1, what);
      await life.close();
      world.powerLoss(failAt);
      const next = await world.start();
      assertKept(await next.texts(), tried, stable, what);
    }
  }
});

test('M4: stopped before any disk operation, by SIGKILL or without power, a start finds all that was acknowledged', async () => {
  for (const end of ['kill', 'power'] as const) {
    for (let stopAt = 0, done = false; !done; stopAt++) {
      const world = new EngineWorld();
      let count = 0;
      let begun = false;
      const before = () => (begun && count++ === stopAt ? ('stop' as const) : ('go' as const));
      const life = await world.start({ writeMs: 1, syncMs: 3, before, segmentBytes: 400 });
      begun = true;
      const { written, stable, tried } = await workUntilTheEnd(life);
      done = !life.disk.dead;
      if (end === 'kill') world.kill();
      else world.powerLoss(stopAt);
      const next = await world.start();
      const kept = end === 'kill' ? [...written, ...stable] : stable;
      assertKept(await next.texts(), tried, kept, `${end} before operation ${stopAt}`);
      if (done) assert.ok(stopAt > 15, `there were ${stopAt} operations`);
    }
  }
});

test('M4: a view that fails to take a batch ends the engine, and takes none after it', async () => {
  const world = new EngineWorld();
  const life = await world.start();
  await life.put(1, 'a', '1');
  await life.settle();
  life.store.fail('apply', new Error('the disk is gone'));
  await life.put(1, 'b', '1');
  await life.clock.advance(100);
  assert.equal(life.fatal.length, 1);
  const asked = life.store.asked.apply;
  assert.throws(() => life.engine.tryExecute(put('c'), { session: session(1) }));
  await life.close();
  assert.equal(life.store.asked.apply, asked);
  assert.deepEqual(await (await world.start()).texts(), { a: '1', b: '1' });
});
