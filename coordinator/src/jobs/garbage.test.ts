import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkId, NodeName } from '@collective/base/ids';
import { parseChunkId } from '@collective/base/ids';
import { SESSION_LEASE_MS } from '@collective/base/limits';
import { condemn, garbagePage } from '../ops/garbage.ts';
import { commit, count, start } from '../ops/one-file.ts';
import { noteForRepair } from '../ops/replica-places.ts';
import { doubtfulReplicas, settleDoubt } from '../ops/replica-stability.ts';
import { code, commitOp, contentOf, type Piece, ROOT, replicaOf, testChunk } from '../session/scripted-operations.ts';
import type { ScriptedClient, SessionWorld, WorldOptions } from '../session/session-harness.ts';
import { CHUNKS, GARBAGE, REPAIR_ORDER, UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';
import { dueGarbage, GarbageCollector } from './garbage.ts';
import { BlockRelease } from './release-blocks.ts';
import { ScriptedOrders } from './scripted-orders.ts';

/** Within the lease of a session. */
const GRACE_SECONDS = 30;
const idOf = (number: number): ChunkId => parseChunkId(testChunk(number).toString('hex'));

class Scene implements AsyncDisposable {
  readonly world: SessionWorld;
  readonly client: ScriptedClient;
  readonly inode: number;
  readonly orders: ScriptedOrders;
  readonly settings = { garbageGraceSeconds: GRACE_SECONDS, garbageWaits: false };
  /** Requests that were told to be done. */
  readonly collected: number[] = [];
  collector: GarbageCollector;

  static async open(nodes: readonly string[] = ['n1', 'n2'], options: WorldOptions = {}): Promise<Scene> {
    return new Scene(await start(options), nodes);
  }

  private constructor(parts: Awaited<ReturnType<typeof start>>, nodes: readonly string[]) {
    this.world = parts.world;
    this.client = parts.client;
    this.inode = parts.inode;
    this.orders = new ScriptedOrders(this.world.clock);
    for (const node of nodes) this.orders.add(node);
    this.collector = this.newCollector();
  }

  newCollector(): GarbageCollector {
    const { engine } = this.world.core;
    const release = new BlockRelease(engine);
    return new GarbageCollector({
      clock: this.world.clock,
      engine,
      orders: this.orders,
      diskOf: (node) => this.orders.nodes.get(node)?.disk,
      settings: () => this.settings,
      releaseBlocks: (round) => release.work(round),
      ownsChunk: (chunk) => this.world.core.ownsChunk(chunk),
      replaysOver: (signal) => this.world.core.replaysOver(signal),
      onCollected: (upTo) => this.collected.push(upTo),
    });
  }

  /** Chunks with these numbers, each covered by the next: all but the last are garbage. */
  async overwrite(numbers: readonly number[], nodes = ['n1', 'n2']): Promise<void> {
    for (const number of numbers) {
      for (const node of nodes) this.orders.put(node, idOf(number));
      const piece = { offset: 0, length: 10, chunk: number };
      await commit(this.client, this.inode, [piece], { replicas: nodes.map((node) => replicaOf(node)) });
    }
  }

  round(): Promise<void> {
    return this.world.finish(this.collector.work({ signal: new AbortController().signal, progress: () => undefined }));
  }

  later(seconds: number): Promise<void> {
    return this.world.clock.advance(seconds * 1_000);
  }

  held(node: string): number[] {
    return [...this.orders.node(node).copies.keys()]
      .map((id) => Number.parseInt(id.slice(16), 16))
      .sort((a, b) => a - b);
  }

  run: SessionWorld['core']['engine']['run'] = (operation) => this.world.finish(this.world.core.engine.run(operation));

  count(table: Parameters<typeof count>[1]): Promise<number> {
    return count(this.world, table);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.world[Symbol.asyncDispose]();
  }
}

test('D8: garbage is kept for the grace time, then its nodes forget it and its rows go', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.later(GRACE_SECONDS / 2);
  await scene.overwrite([3]);
  await scene.round();
  assert.deepEqual(scene.orders.record, []);
  assert.deepEqual([scene.collector.figures.chunks, scene.collector.figures.storedBytes], [2, 40]);
  await scene.later(GRACE_SECONDS / 2 + 10);
  await scene.round();
  assert.deepEqual(
    [scene.held('n1'), scene.held('n2')],
    [
      [2, 3],
      [2, 3],
    ],
  );
  assert.deepEqual([await scene.count(GARBAGE), await scene.count(CHUNKS)], [1, 2]);
  const { collectedChunks, collectedBytes, chunks, condemned } = scene.collector.figures;
  assert.deepEqual(
    { collectedChunks, collectedBytes, chunks, condemned },
    { collectedChunks: 1, collectedBytes: 20, chunks: 1, condemned: 0 },
  );
});

test('what becomes garbage after a walk is counted at once, and by the next walk once', async () => {
  await using scene = await Scene.open();
  scene.world.core.engine.watch(GARBAGE, (key, row) => scene.collector.noted(key, row));
  const counts = (): number[] => [scene.collector.figures.chunks, scene.collector.figures.storedBytes];
  await scene.round();
  assert.deepEqual(counts(), [0, 0]);
  await scene.overwrite([1, 2, 3]);
  assert.deepEqual(counts(), [2, 40], 'no walk is due for the grace time');
  await scene.later(GRACE_SECONDS / 2);
  scene.collector.ask(GRACE_SECONDS);
  await scene.round();
  assert.deepEqual(counts(), [2, 40]);
  await scene.overwrite([4]);
  assert.deepEqual(counts(), [3, 60]);
  await scene.later(GRACE_SECONDS / 2 + 10);
  await scene.round();
  assert.deepEqual(counts(), [1, 20], 'two were old enough');
});

test('while a walk goes on, what was known before it and what comes meanwhile is counted still', async () => {
  await using scene = await Scene.open();
  scene.world.core.engine.watch(GARBAGE, (key, row) => scene.collector.noted(key, row));
  await scene.round();
  await scene.overwrite([1, 2, 3]);
  await scene.later(GRACE_SECONDS);
  const seen: number[] = [];
  scene.orders.onOrder = async () => {
    if (seen.length > 0) return;
    seen.push(scene.collector.figures.storedBytes);
    // It lies above the place of the walk.
    await scene.world.core.engine.run((tx) =>
      tx.put(GARBAGE, { since: tx.now, condemned: false, storedBytes: 7, gone: false }, idOf(9_000)),
    );
    seen.push(scene.collector.figures.storedBytes);
  };
  await scene.round();
  assert.deepEqual(seen, [40, 47]);
  assert.equal(scene.collector.figures.storedBytes, 7);
});

test('D2: a node is told to forget only what is condemned, and that is stable by then', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.later(GRACE_SECONDS);
  const seen: unknown[] = [];
  scene.orders.onOrder = async () => {
    const { engine } = scene.world.core;
    assert.equal(engine.stablePosition, engine.lastPosition);
    seen.push(await engine.run((tx) => tx.get(GARBAGE, idOf(1))?.condemned));
  };
  await scene.round();
  assert.deepEqual(seen, [true, true]);
});

test('D2: garbage that a commit names again before it is condemned is not condemned', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.later(GRACE_SECONDS);
  const page = await scene.run((tx) => garbagePage(tx, undefined, 10));
  assert.deepEqual(
    page.map(({ chunk }) => chunk),
    [idOf(1)],
  );
  await commit(scene.client, scene.inode, [{ offset: 100, length: 10, chunk: 1 }], { chunks: [] });
  assert.deepEqual(await scene.run((tx) => condemn(tx, [idOf(1)], 0)), []);
  await scene.round();
  assert.deepEqual(scene.held('n1'), [1, 2]);
});

test('D2: while nodes are told, a commit that names the chunk is refused', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.later(GRACE_SECONDS);
  scene.orders.takesMs = 5_000;
  const round = scene.collector.work({ signal: new AbortController().signal, progress: () => undefined });
  await scene.world.clock.until(() => scene.orders.record.length === 2);
  await assert.rejects(
    commit(scene.client, scene.inode, [{ offset: 100, length: 10, chunk: 1 }], { chunks: [] }),
    code('chunk_condemned'),
  );
  await scene.world.finish(round);
  assert.deepEqual(scene.held('n1'), [2]);
});

test('a node that is away is told when it is back, and the others are not told again', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.later(GRACE_SECONDS);
  scene.orders.node('n2').isUp = false;
  await scene.round();
  assert.deepEqual(scene.held('n1'), [2]);
  const row = await scene.run((tx) => tx.get(CHUNKS, idOf(1)));
  assert.deepEqual(
    row?.replicas.map(({ node }) => node),
    ['n2'],
  );
  const { condemned, waitsFor, collectedChunks } = scene.collector.figures;
  assert.deepEqual([condemned, [...waitsFor.keys()], collectedChunks], [1, ['n2'], 0]);
  scene.orders.node('n2').isUp = true;
  scene.orders.record.length = 0;
  await scene.round();
  assert.deepEqual(scene.orders.record, ['forget n2 1']);
  assert.deepEqual(scene.held('n2'), [2]);
  assert.equal(await scene.count(GARBAGE), 0);
  assert.equal(scene.collector.figures.waitsFor.size, 0);
});

test('D10: what lies on a lost disk or a removed node keeps no garbage back', async () => {
  await using scene = await Scene.open(['n1', 'n2', 'n3']);
  await scene.overwrite([1, 2], ['n1', 'n2', 'n3']);
  await scene.later(GRACE_SECONDS);
  scene.orders.node('n2').disk = 'another-disk';
  scene.orders.nodes.delete('n3');
  await scene.round();
  assert.deepEqual(scene.orders.record, ['forget n1 1']);
  assert.deepEqual([await scene.count(GARBAGE), await scene.count(CHUNKS)], [0, 1]);
});

test('all rows of a chunk go with it: unstable replicas, its place in the order of repair', async () => {
  await using scene = await Scene.open();
  for (const node of ['n1', 'n2']) scene.orders.put(node, idOf(1));
  await commit(scene.client, scene.inode, [{ offset: 0, length: 10, chunk: 1 }], {
    replicas: [replicaOf('n1', { stable: false, sequence: 7 }), replicaOf('n2')],
  });
  await scene.client.set(scene.inode, { size: 0 });
  await scene.world.finish(
    new BlockRelease(scene.world.core.engine).work({ signal: new AbortController().signal, progress: () => undefined }),
  );
  await scene.run((tx) => noteForRepair(tx, idOf(1), 1));
  await scene.later(GRACE_SECONDS);
  await scene.round();
  for (const table of [GARBAGE, CHUNKS, UNSTABLE, UNDER_REPLICATED, REPAIR_ORDER])
    assert.equal(await scene.count(table as never), 0, table.name);
});

test('D2, D3: a chunk that was lost before it was stable goes, but stays refused', async () => {
  await using scene = await Scene.open();
  const { client, inode } = scene;
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], {
    replicas: [replicaOf('n1', { stable: false })],
  });
  const store = { node: 'n1' as NodeName, disk: 'disk-n1', incarnation: 2 };
  const asked = await scene.run((tx) => doubtfulReplicas(tx, store));
  await scene.run((tx) => settleDoubt(tx, store, asked, new Set()));
  await scene.round();
  assert.deepEqual([await scene.count(CHUNKS), await scene.count(GARBAGE)], [0, 1]);
  await assert.rejects(commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]), code('chunk_condemned'));
  await scene.round();
  assert.equal(await scene.count(GARBAGE), 1);
});

test('D2: the refusal of a chunk stays while a session lives that may commit it, or the coordinator may itself', async () => {
  await using scene = await Scene.open();
  const { world, client, inode } = scene;
  const ids = [idOf(5), world.core.drawChunkId()];
  await scene.run((tx) => {
    for (const id of ids) tx.put(GARBAGE, { since: tx.now, condemned: true, storedBytes: 0, gone: true }, id);
  });
  const walk = async (): Promise<void> => {
    scene.collector = scene.newCollector();
    await scene.round();
  };
  await walk();
  assert.equal(await scene.count(GARBAGE), 2);
  await assert.rejects(commit(client, inode, [{ offset: 0, length: 10, chunk: 5 }]), code('chunk_condemned'));
  await client.detach();
  await walk();
  assert.equal(await scene.count(GARBAGE), 1);
  const later = await world.client();
  await assert.rejects(commit(later, inode, [{ offset: 0, length: 10, chunk: 5 }]), code('chunk_foreign'));
  await world.restart('orderly');
  await walk();
  assert.equal(await scene.count(GARBAGE), 0, 'what an earlier start was making came to nothing');
});

test('D9: nothing is collected while a restored coordinator waits for a person', async () => {
  await using scene = await Scene.open();
  scene.settings.garbageWaits = true;
  await scene.overwrite([1, 2]);
  await scene.later(2 * GRACE_SECONDS);
  await scene.round();
  assert.throws(() => scene.collector.ask(0), code('not_permitted'));
  assert.deepEqual(scene.orders.record, []);
  scene.settings.garbageWaits = false;
  await scene.round();
  assert.deepEqual(scene.held('n1'), [2]);
});

test('who asks for all room now gets that of files that were just removed too, and is told', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.client.unlink(ROOT, 'f');
  const { due } = await scene.world.finish(dueGarbage(scene.world.core.engine, 0, undefined));
  assert.deepEqual(
    due.map(({ chunk, storedBytes }) => [chunk, storedBytes]),
    [[idOf(1), 20]],
  );
  assert.equal(scene.collector.ask(0), 1);
  await scene.round();
  assert.deepEqual([scene.held('n1'), scene.held('n2')], [[], []]);
  assert.deepEqual(scene.collected, [1]);
  assert.equal(scene.collector.figures.finished, 1);
});

test('a request that met a failure is not forgotten', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  scene.collector.ask(0);
  const stop = new AbortController();
  scene.orders.onOrder = () => stop.abort(new Error('stopped'));
  await assert.rejects(scene.world.finish(scene.collector.work({ signal: stop.signal, progress: () => undefined })));
  assert.equal(scene.collector.figures.finished, 0);
  scene.orders.onOrder = undefined;
  await scene.round();
  assert.equal(scene.collector.figures.finished, 1);
  assert.deepEqual(scene.held('n2'), [2]);
});

test('a walk is left out while nothing can be due', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.round();
  const { engine } = scene.world.core;
  const before = engine.counters.operations;
  await scene.round();
  assert.equal(engine.counters.operations, before);
  scene.settings.garbageGraceSeconds = 0;
  await scene.round();
  assert.deepEqual(scene.held('n1'), [2]);
});

test('D2, M4: garbage that a change names which was lost with the power is not condemned before that is made again', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 6; seed++) {
    await using scene = await Scene.open(['n1', 'n2'], { seed, syncMs: 40, writeMs: 0.1 });
    const { client, world, inode } = scene;
    await scene.overwrite([1, 2]);
    await scene.later(GRACE_SECONDS);
    const op = commitOp(inode, [{ offset: 100, length: 10, chunk: 1 }], { chunks: [] });
    const number = client.draw();
    const before = await client.reply(op, { number });
    await world.restart('power-loss');
    scene.collector = scene.newCollector();
    const round = scene.collector.work({ signal: new AbortController().signal, progress: () => undefined });
    await world.clock.advance(5_000);
    const { recoveredPosition } = await client.attach();
    if (before.position > recoveredPosition) {
      lost += 1;
      const again = await client.reply(op, { number, replay: before.drawn });
      assert.equal(again.result?.$case, 'committed');
    }
    client.replayed();
    await world.finish(round);
    assert.deepEqual(scene.held('n1'), [1, 2]);
  }
  assert.ok(lost > 0, 'some seed loses something');
});

test('M4: a client that does not come back holds the collection up for no longer than its lease', async () => {
  await using scene = await Scene.open();
  await scene.overwrite([1, 2]);
  await scene.later(GRACE_SECONDS);
  await scene.world.restart('kill');
  scene.collector = scene.newCollector();
  await scene.world.finish(
    scene.collector.work({ signal: new AbortController().signal, progress: () => undefined }),
    SESSION_LEASE_MS + 10_000,
  );
  assert.deepEqual(scene.held('n1'), [2]);
});

for (const how of ['kill', 'power-loss'] as const)
  test(`D2: a collection cut off anywhere by ${how} is finished by the next, and nothing that is named is forgotten`, async () => {
    await using scene = await Scene.open(['n1', 'n2', 'n3']);
    const { client, world, orders } = scene;
    const pieces = (from: number): Piece[] =>
      Array.from({ length: 30 }, (_, i) => ({ offset: i * 10, length: 10, chunk: from + i }));
    const nodes = ['n1', 'n2', 'n3'];
    const replicas = nodes.map((node) => replicaOf(node));
    const named: number[] = [];
    for (let file = 0; file < 6; file++) {
      const from = 1 + file * 30;
      for (const node of nodes) for (let i = 0; i < 30; i++) orders.put(node, idOf(from + i));
      await client.make(ROOT, `g${file}`, { content: contentOf(pieces(from), { replicas }) });
      if (file % 3 === 2) named.push(...Array.from({ length: 30 }, (_, i) => from + i));
      else await client.unlink(ROOT, `g${file}`);
    }
    await world.finish(
      new BlockRelease(world.core.engine).work({ signal: new AbortController().signal, progress: () => undefined }),
    );
    await scene.later(GRACE_SECONDS);
    scene.settings.garbageGraceSeconds = 0;
    // Nobody is to come back: the walk begins at once.
    await client.detach();
    let rounds = 0;
    for (let cutAfterMs = 0; (await scene.count(GARBAGE)) > 0 && rounds < 60; cutAfterMs += 1.5) {
      rounds += 1;
      scene.collector = scene.newCollector();
      const stop = new AbortController();
      const work = scene.collector.work({ signal: stop.signal, progress: () => undefined });
      work.catch(() => undefined);
      await world.clock.advance(cutAfterMs);
      stop.abort(new Error('the process ends'));
      await world.restart(how);
      for (const number of named)
        for (const node of nodes)
          assert.ok(orders.node(node).copies.has(idOf(number)), `chunk ${number} is on ${node}`);
    }
    assert.ok(rounds > 3, `it took ${rounds} tries`);
    for (const node of nodes) assert.deepEqual(scene.held(node), named);
    assert.deepEqual([await scene.count(GARBAGE), await scene.count(CHUNKS)], [0, named.length]);
  });
