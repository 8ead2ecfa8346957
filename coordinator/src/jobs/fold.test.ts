import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, chunkIdFromBytes, type InodeNumber, type NodeName, parseChunkId } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import { BLOCK_SLICES_MAX } from '../ops/block-slices.ts';
import { DATA } from '../ops/context.ts';
import { blocks, commit, count, start, usedBytes } from '../ops/one-file.ts';
import { markStable } from '../ops/replica-stability.ts';
import { chunkOf, code, commitOp, type Piece, ROOT, replicaOf, testChunk } from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld, type WorldOptions } from '../session/session-harness.ts';
import { prefixEnd } from '../tables/table.ts';
import { BLOCKS, CHUNKS, GARBAGE } from '../tables/tables.ts';
import { ByteRates } from './byte-rates.ts';
import { FOLD_CANDIDATES_MAX, FOLD_HOT_SLICES, FOLD_QUIET_MS, FoldJob } from './fold.ts';
import { ScriptedOrders } from './scripted-orders.ts';

const round = { signal: new AbortController().signal, progress: () => undefined };
const idOf = (number: number): ChunkId => parseChunkId(testChunk(number).toString('hex'));

class Scene implements AsyncDisposable {
  readonly world: SessionWorld;
  client: ScriptedClient;
  readonly inode: number;
  readonly orders: ScriptedOrders;
  readonly recalled: number[] = [];
  bytesPerSecond = 2 ** 40;
  fold: FoldJob;

  static async open(options: WorldOptions = {}): Promise<Scene> {
    return new Scene(await start(options));
  }

  private constructor(parts: Awaited<ReturnType<typeof start>>) {
    this.world = parts.world;
    this.client = parts.client;
    this.inode = parts.inode;
    this.orders = new ScriptedOrders(this.world.clock);
    for (const node of ['n1', 'n2']) this.orders.add(node);
    this.fold = this.begin();
  }

  begin(): FoldJob {
    const { core, clock } = this.world;
    const fold = new FoldJob({
      clock,
      engine: core.engine,
      orders: this.orders,
      candidates: () =>
        [...this.orders.nodes].flatMap(([name, { isUp }]) => (isUp ? [{ name, zone: '', freeBytes: 1e12 }] : [])),
      drawChunkId: () => core.drawChunkId(),
      rates: new ByteRates({ clock, bytesPerSecond: () => this.bytesPerSecond }),
      recallData: async (inode) => {
        this.recalled.push(inode);
        await core.recallFromAll(inode, DATA);
      },
    });
    core.engine.watch(BLOCKS, (key, row) => void fold.noted(key, row));
    return fold;
  }

  /** One commit a piece: each becomes a slice. */
  async write(pieces: readonly Piece[], more: Parameters<typeof commit>[3] = {}): Promise<void> {
    for (let at = 0; at < pieces.length; at += 200) {
      const some = pieces.slice(at, at + 200);
      for (const { chunk } of some) for (const node of ['n1', 'n2']) this.orders.put(node, idOf(chunk ?? 0));
      await commit(this.client, this.inode, some, more);
    }
  }

  async quiet(): Promise<void> {
    await this.world.clock.advance(FOLD_QUIET_MS);
    await this.round();
  }

  round(): Promise<void> {
    return this.world.finish(this.fold.work(round));
  }

  async slices() {
    return (await blocks(this.client, this.inode)).blocks[0]?.slices ?? [];
  }

  run: SessionWorld['core']['engine']['run'] = (operation) => this.world.finish(this.world.core.engine.run(operation));

  count(table: Parameters<typeof count>[1]): Promise<number> {
    return count(this.world, table);
  }

  /** References of rows are what slices say; garbage is what has none. */
  async checkReferences(): Promise<void> {
    await this.run((tx) => {
      const named = new Map<string, number>();
      for (const { value } of tx.scan(BLOCKS, BLOCKS.prefix, prefixEnd(BLOCKS.prefix), 1_000))
        for (const { chunk } of value.slices)
          if (chunk.length === 16) named.set(chunk.toString('hex'), (named.get(chunk.toString('hex')) ?? 0) + 1);
      const garbage = new Set(
        tx.scan(GARBAGE, GARBAGE.prefix, prefixEnd(GARBAGE.prefix), 5_000).map(({ key }) => key.slice(1)),
      );
      for (const { key, value } of tx.scan(CHUNKS, CHUNKS.prefix, prefixEnd(CHUNKS.prefix), 5_000)) {
        const id = Buffer.from(key.slice(1), 'latin1').toString('hex');
        assert.equal(value.references, named.get(id) ?? 0, `references of ${id}`);
        assert.equal(garbage.has(key.slice(1)), value.references === 0, `garbage ${id}`);
      }
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.world[Symbol.asyncDispose]();
  }
}

const row = (slices: number, from = 1): Piece[] =>
  Array.from({ length: slices }, (_, i) => ({ offset: (from + i - 1) * 10, length: 10, chunk: from + i }));

test('D8: a quiet block of many slices becomes one, on all its replicas; nothing that a client sees changes but its map', async () => {
  await using scene = await Scene.open();
  const { client, inode, world } = scene;
  await scene.write(row(40));
  const before = {
    attributes: await client.stat(inode),
    used: await usedBytes(world),
    version: (await blocks(client, inode)).blocks[0]?.version,
  };
  await scene.round();
  assert.equal((await scene.slices()).length, 40, 'somebody may still be writing');
  await scene.quiet();
  const page = await blocks(client, inode);
  const [slice] = page.blocks[0]?.slices ?? [];
  assert.equal(page.blocks[0]?.slices.length, 1);
  assert.deepEqual([slice?.offset, slice?.length, slice?.chunkOffset], [0, 400, 0]);
  assert.deepEqual(
    { attributes: await client.stat(inode), used: await usedBytes(world), version: page.blocks[0]?.version },
    before,
  );
  const id = chunkIdFromBytes(slice?.chunk ?? Buffer.alloc(0));
  const made = await scene.run((tx) => tx.get(CHUNKS, id));
  assert.deepEqual(
    made?.replicas.map(({ node, stable }) => [node, stable, scene.orders.node(node).copies.has(id)]),
    [
      ['n1', true, true],
      ['n2', true, true],
    ],
  );
  assert.equal(await scene.count(GARBAGE), 40);
  await scene.checkReferences();
  assert.deepEqual(scene.fold.figures, { candidates: 0, folded: 1, slices: 40 });
});

test('M7: who keeps the block map is called back', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  await scene.world.clock.advance(FOLD_QUIET_MS);
  const reader = await scene.world.client({ caches: true });
  await blocks(reader, scene.inode);
  await scene.round();
  assert.deepEqual(scene.recalled, [scene.inode]);
  const kinds = reader.recalls.filter(({ inode }) => inode === scene.inode).map((recall) => recall.kinds);
  assert.deepEqual(kinds, [DATA]);
});

test('F6: a writer that expects the version of before is not told that somebody wrote', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  const version = (await blocks(scene.client, scene.inode)).blocks[0]?.version ?? 0;
  await scene.quiet();
  assert.equal((await scene.slices()).length, 1);
  await commit(scene.client, scene.inode, [{ offset: 5, length: 10, chunk: 99 }], {
    expected: [{ block: 0, version }],
  });
});

test('D8: what is written while a block is folded stays above the result', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  scene.orders.onOrder = async (order) => {
    if (order === 'fold') await scene.client.send(commitOp(scene.inode, [{ offset: 5, length: 10, chunk: 99 }]));
  };
  await scene.quiet();
  const slices = await scene.slices();
  assert.deepEqual(
    slices.map(({ offset, length }) => [offset, length]),
    [
      [0, 400],
      [5, 10],
    ],
  );
  assert.deepEqual(slices[1]?.chunk, testChunk(99));
  await scene.checkReferences();
});

test('D8: a block that has changed below is not swapped; the new chunk is condemned, and the next try is as good as the first', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  for (const node of ['n1', 'n2']) scene.orders.put(node, idOf(99));
  scene.orders.onOrder = async (order) => {
    // Covers one of the slices wholly, which therefore goes.
    if (order === 'fold') await scene.client.send(commitOp(scene.inode, [{ offset: 100, length: 10, chunk: 99 }]));
  };
  await scene.quiet();
  assert.equal((await scene.slices()).length, 40);
  const condemned = await scene.run((tx) =>
    tx.scan(GARBAGE, GARBAGE.prefix, prefixEnd(GARBAGE.prefix), 10).filter(({ value }) => value.condemned),
  );
  assert.equal(condemned.length, 1);
  await scene.checkReferences();
  scene.orders.onOrder = undefined;
  await scene.quiet();
  assert.equal((await scene.slices()).length, 1);
  await scene.checkReferences();
});

test('a file that goes while its block is folded takes the fold along', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  scene.orders.onOrder = async (order) => {
    if (order === 'fold')
      await scene.world.core.engine
        .run(() => undefined)
        .then(() => scene.client.unlink(ROOT, 'f').catch(() => undefined));
  };
  await scene.quiet();
  assert.equal(scene.fold.figures.folded, 0);
  scene.orders.onOrder = undefined;
  await scene.quiet();
  assert.equal(scene.fold.figures.candidates, 0, 'nothing to come back to');
});

test('a block that is written to all the time is folded when it has very many slices', async () => {
  await using scene = await Scene.open();
  await scene.write(row(FOLD_HOT_SLICES - 1));
  await scene.round();
  assert.equal((await scene.slices()).length, FOLD_HOT_SLICES - 1);
  await scene.write(row(1, FOLD_HOT_SLICES));
  await scene.round();
  assert.equal((await scene.slices()).length, 1);
});

test('D3: slices that are not firm yet stay, and are folded when they are', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  const unstable = ['n1', 'n2'].map((node) => replicaOf(node, { stable: false, sequence: 900 }));
  await scene.write(row(40, 41), { replicas: unstable });
  await scene.quiet();
  assert.equal((await scene.slices()).length, 41, 'one in the place of forty, and forty more');
  await scene.run((tx) => markStable(tx, { node: 'n1' as NodeName, disk: 'disk-n1', incarnation: 1 }, 900));
  await scene.quiet();
  await scene.quiet();
  assert.equal((await scene.slices()).length, 1);
  await scene.checkReferences();
});

test('D8: with fewer nodes than its realm wants a block is left as it is, and folded when they are back', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  scene.orders.node('n2').isUp = false;
  await scene.quiet();
  assert.equal((await scene.slices()).length, 40);
  assert.equal(scene.orders.record.length, 0);
  scene.orders.node('n2').isUp = true;
  scene.orders.node('n2').refuses = 'no_space';
  await scene.quiet();
  assert.equal((await scene.slices()).length, 40);
  scene.orders.node('n2').refuses = undefined;
  await scene.quiet();
  assert.equal((await scene.slices()).length, 1);
});

test('D8: folds keep to the rate of background work, all replicas counted', async () => {
  await using scene = await Scene.open();
  for (const block of [0, 1, 2])
    await scene.write(row(40, 1 + block * 40).map((piece, i) => ({ ...piece, offset: block * BLOCK_BYTES + i * 10 })));
  scene.bytesPerSecond = 100;
  await scene.world.clock.advance(FOLD_QUIET_MS);
  const beganMs = scene.world.clock.bootMs();
  await scene.round();
  const tookMs = scene.world.clock.bootMs() - beganMs;
  assert.equal(scene.fold.figures.folded, 3);
  // 800 bytes each: the first goes at once and owes 700, the last need not wait for its own.
  assert.ok(tookMs >= 14_000 && tookMs <= 17_000, `${tookMs} ms`);
});

test('what an earlier start has left is found by a survey', async () => {
  await using scene = await Scene.open();
  await scene.write(row(40));
  await scene.world.restart('kill');
  scene.client = await scene.world.client();
  scene.fold = scene.begin();
  await scene.round();
  assert.equal(scene.fold.figures.candidates, 1);
  await scene.quiet();
  assert.equal((await scene.slices()).length, 1);
});

test('D8: no more blocks are noted at once than a bound, however many are in many pieces', async () => {
  await using scene = await Scene.open();
  const slices = Array.from({ length: FOLD_HOT_SLICES }, (_, i) => ({
    offset: i,
    length: 1,
    chunk: testChunk(i + 1),
    chunkOffset: 0,
  }));
  for (let data = 1; data <= FOLD_CANDIDATES_MAX + 500; data++)
    scene.fold.noted(BLOCKS.key(data, 0), { version: 1, slices });
  assert.equal(scene.fold.figures.candidates, FOLD_CANDIDATES_MAX);
  // One that is folded by then makes room.
  scene.fold.noted(BLOCKS.key(1, 0), { version: 2, slices: slices.slice(0, 1) });
  scene.fold.noted(BLOCKS.key(FOLD_CANDIDATES_MAX + 500, 0), { version: 1, slices });
  assert.equal(scene.fold.figures.candidates, FOLD_CANDIDATES_MAX);
});

test('D8: a commit that finds no room pokes the fold, also right after a start, and finds room then', async () => {
  await using scene = await Scene.open();
  await scene.write(row(BLOCK_SLICES_MAX));
  await scene.world.restart('kill');
  await scene.client.attach();
  scene.client.replayed();
  scene.fold = scene.begin();
  const told: [number, number][] = [];
  scene.world.core.onCrowded((inode, block) => told.push([inode, block]));
  const piece = { offset: 50_000, length: 10, chunk: 9_999 };
  await assert.rejects(commit(scene.client, scene.inode, [piece]), code('overloaded'));
  assert.deepEqual(told, [[scene.inode, 0]]);
  await scene.world.finish(scene.fold.crowded(scene.inode as InodeNumber, 0));
  await scene.round();
  assert.equal((await scene.slices()).length, 1);
  await commit(scene.client, scene.inode, [piece]);
  await scene.checkReferences();
});

test('M9: gaps are not filled with zeros for which the quota has no room', async () => {
  for (const quotaBytes of [1_200, 1_000_000]) {
    await using world = await SessionWorld.start();
    await world.finish(
      world.core.createRealm({
        path: '/q',
        quotaBytes,
        quotaInodes: 0,
        replicas: 0,
        minReplicas: 0,
        compressionOff: false,
      } as never),
    );
    const client = await world.client();
    await world.subject('root', { admin: true });
    const admin = await world.client();
    await client.detach();
    const { inode: dir } = await admin.lookup(ROOT, 'q');
    const { inode } = await admin.make(dir, 'f');
    const orders = new ScriptedOrders(world.clock);
    for (const node of ['n1', 'n2']) orders.add(node);
    const pieces = Array.from({ length: 100 }, (_, i) => ({
      offset: Math.floor(i / 4) * 100 + (i % 4) * 10,
      length: 10,
      chunk: chunkOf(2, i + 1),
    }));
    for (const { chunk } of pieces) for (const node of ['n1', 'n2']) orders.put(node, idOf(chunk));
    const fold = new FoldJob({
      clock: world.clock,
      engine: world.core.engine,
      orders,
      candidates: () => ['n1', 'n2'].map((name) => ({ name, zone: '', freeBytes: 1e12 })),
      drawChunkId: () => world.core.drawChunkId(),
      rates: new ByteRates({ clock: world.clock, bytesPerSecond: () => 2 ** 40 }),
      recallData: () => Promise.resolve(),
    });
    world.core.engine.watch(BLOCKS, (key, blockRow) => void fold.noted(key, blockRow));
    await commit(admin, inode, pieces);
    await world.clock.advance(FOLD_QUIET_MS);
    await world.finish(fold.work(round));
    const slices = (await blocks(admin, inode)).blocks[0]?.slices.length;
    const used = await usedBytes(world, '/q');
    assert.deepEqual([slices, used], quotaBytes === 1_200 ? [25, 1_000] : [16, 1_000 + 9 * 60]);
    assert.equal((await admin.stat(inode)).storedBytes, used);
  }
});

for (const how of ['kill', 'power-loss'] as const)
  test(`a fold cut off anywhere by ${how} leaves the block as it was or as it should be`, async () => {
    for (let cutAfterMs = 0; cutAfterMs < 40; cutAfterMs += 3) {
      await using scene = await Scene.open();
      await scene.write(row(40));
      await scene.client.call({ $case: 'sync', value: { inode: scene.inode } }, 'empty');
      await scene.world.clock.advance(FOLD_QUIET_MS);
      const stop = new AbortController();
      const work = scene.fold.work({ signal: stop.signal, progress: () => undefined });
      work.catch(() => undefined);
      await scene.world.clock.advance(cutAfterMs);
      stop.abort(new Error('the process ends'));
      await scene.world.restart(how);
      scene.client = await scene.world.client();
      await scene.checkReferences();
      const slices = await scene.slices();
      assert.ok(slices.length === 40 || slices.length === 1);
      for (const { chunk } of slices)
        for (const node of ['n1', 'n2']) assert.ok(scene.orders.node(node).copies.has(chunkIdFromBytes(chunk)));
    }
  });
