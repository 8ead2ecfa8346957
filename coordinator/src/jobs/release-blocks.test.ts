import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, type InodeNumber, type NodeName, parseChunkId } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import { SeededRandom } from '@collective/base/random';
import {
  DOOMED_START,
  type DoomedCursor,
  RELEASE_FILES_MAX,
  RELEASE_SLICES_MAX,
  releaseDoomedBlocks,
} from '../ops/doomed-blocks.ts';
import { commit, count, start, usedBytes } from '../ops/one-file.ts';
import { doubtfulReplicas, settleDoubt } from '../ops/replica-stability.ts';
import { contentOf, type Piece, ROOT, replicaOf, testChunk } from '../session/scripted-operations.ts';
import type { SessionWorld } from '../session/session-harness.ts';
import { prefixEnd } from '../tables/table.ts';
import { BLOCKS, CHUNKS, DOOMED, GARBAGE } from '../tables/tables.ts';
import { Background } from './background.ts';
import { MAINTENANCE_DEFAULTS } from './maintenance.ts';
import { BlockRelease } from './release-blocks.ts';
import { ScriptedOrders } from './scripted-orders.ts';

const round = { signal: new AbortController().signal, progress: () => undefined };

async function release(world: SessionWorld): Promise<{ files: number; slices: number }> {
  const job = new BlockRelease(world.core.engine);
  await world.finish(job.work(round));
  return job.released;
}

/** Chunk, references, condemned: of all garbage. */
async function garbage(world: SessionWorld): Promise<[number, number, boolean][]> {
  return world.finish(
    world.core.engine.run((tx) => {
      const rows = tx.scan(GARBAGE, GARBAGE.prefix, prefixEnd(GARBAGE.prefix), 10_000);
      const ids = rows.map(({ key }) => parseChunkId(Buffer.from(key.slice(1), 'latin1').toString('hex')));
      tx.need(ids.map((id) => CHUNKS.key(id)));
      return rows.map(({ value }, i) => {
        const id = ids[i] as ChunkId;
        return [Number.parseInt(id.slice(16), 16), tx.get(CHUNKS, id)?.references ?? -1, value.condemned];
      });
    }),
  );
}

const spread = (blocks: number, each: number): Piece[] =>
  Array.from({ length: blocks * each }, (_, i) => ({
    offset: Math.floor(i / each) * BLOCK_BYTES + (i % each) * 10,
    length: 10,
    chunk: i + 1,
  }));

async function writeAll(client: Parameters<typeof commit>[0], inode: number, pieces: readonly Piece[]): Promise<void> {
  for (let at = 0; at < pieces.length; at += 200) await commit(client, inode, pieces.slice(at, at + 200));
}

test('D1: the blocks of a removed file are let go of, their chunks become garbage, and quota is given back once', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const before = await usedBytes(world);
  await writeAll(client, inode, spread(300, 2));
  await client.unlink(ROOT, 'f');
  assert.equal(await usedBytes(world), before, 'given back when the file went');
  assert.equal(await count(world, GARBAGE), 0);
  assert.deepEqual(await release(world), { files: 1, slices: 600 });
  assert.equal(await count(world, BLOCKS), 0);
  assert.equal(await count(world, DOOMED), 0);
  assert.equal(await count(world, GARBAGE), 600);
  assert.equal(await usedBytes(world), before);
  assert.deepEqual(await release(world), { files: 0, slices: 0 });
});

test('M3: a step lets go of a bounded number of slices, also within one block, and of a bounded number of files', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const { engine } = world.core;
  await writeAll(client, inode, spread(1, 1_000));
  await client.unlink(ROOT, 'f');
  const steps: number[] = [];
  let cursor: DoomedCursor | undefined = DOOMED_START;
  while (cursor !== undefined) {
    const from: DoomedCursor = cursor;
    const step = await world.finish(engine.run((tx) => releaseDoomedBlocks(tx, from)));
    steps.push(step.slices);
    cursor = step.next;
  }
  assert.deepEqual(steps, [RELEASE_SLICES_MAX, RELEASE_SLICES_MAX, 200]);
  assert.equal(await count(world, GARBAGE), 1_000);
  for (let i = 0; i < RELEASE_FILES_MAX + 10; i++) {
    await client.make(ROOT, `g${i}`, { content: contentOf([{ offset: 0, length: 10, chunk: 5_000 + i }]) });
    await client.unlink(ROOT, `g${i}`);
  }
  const first = await world.finish(engine.run((tx) => releaseDoomedBlocks(tx, DOOMED_START)));
  assert.deepEqual([first.files, first.slices], [RELEASE_FILES_MAX, RELEASE_FILES_MAX]);
  assert.deepEqual(await release(world), { files: 10, slices: 10 });
  assert.equal(await count(world, DOOMED), 0);
});

for (const how of ['kill', 'power-loss'] as const)
  test(`a release that is cut off by ${how} goes on after the next start, and nothing is let go of twice`, async () => {
    await using parts = await start();
    const { client, inode, world } = parts;
    await writeAll(client, inode, spread(500, 2));
    // Over the border of two blocks, so named twice (F7).
    const tail = { offset: 0, length: 20, chunk: 9_000 };
    await client.set(inode, { size: 500 * BLOCK_BYTES - 10 });
    await commit(client, inode, [tail], { append: true });
    await client.unlink(ROOT, 'f');
    let cursor: DoomedCursor | undefined = DOOMED_START;
    let rounds = 0;
    while (cursor !== undefined) {
      const from: DoomedCursor = cursor;
      const step = await world.finish(
        world.core.engine.run((tx) => releaseDoomedBlocks(tx, from), { durability: 'written' }),
      );
      await world.restart(how);
      // The cursor is gone with the process, and with the power perhaps the step.
      cursor = step.next === undefined && (await count(world, DOOMED)) === 0 ? undefined : DOOMED_START;
      assert.ok(++rounds < 100, 'it ends');
    }
    assert.ok(rounds > 2);
    assert.equal(await count(world, BLOCKS), 0);
    const all = await garbage(world);
    assert.equal(all.length, 1_001);
    assert.ok(all.every(([, references, condemned]) => references === 0 && !condemned));
  });

test('what an emptied file is given anew stays', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]);
  await client.set(inode, { size: 0 });
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 2 }]);
  assert.deepEqual(await release(world), { files: 1, slices: 1 });
  assert.deepEqual(await garbage(world), [[1, 0, false]]);
  assert.equal(await count(world, BLOCKS), 1);
});

test('D2, D3: a chunk that was lost before it was stable stays condemned when its removed file is let go of', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const { engine } = world.core;
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], {
    replicas: [replicaOf('n1', { stable: false })],
  });
  await client.set(inode, { size: 0 });
  const store = { node: 'n1' as NodeName, disk: 'disk-n1', incarnation: 2 };
  const asked = await world.finish(engine.run((tx) => doubtfulReplicas(tx, store)));
  await world.finish(engine.run((tx) => settleDoubt(tx, store, asked, new Set())));
  assert.deepEqual(await garbage(world), [[1, 0, true]]);
  await release(world);
  assert.deepEqual(await garbage(world), [[1, 0, true]]);
});

test('garbage knows what it occupies on all nodes together', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await commit(client, inode, [{ offset: 0, length: 1_000, chunk: 1 }]);
  await client.set(inode, { size: 0 });
  await release(world);
  const id = testChunk(1).toString('hex') as never;
  assert.equal(await world.finish(world.core.engine.run((tx) => tx.get(GARBAGE, id)?.storedBytes)), 2_000);
});

test('a removal pokes the release, and a start finishes what the one before has left', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]);
  await client.set(inode as InodeNumber, { size: 0 });
  const failures: unknown[] = [];
  const begin = (): Background =>
    new Background({
      clock: world.clock,
      random: new SeededRandom(1),
      engine: world.core.engine,
      orders: new ScriptedOrders(world.clock),
      drawChunkId: () => world.core.drawChunkId(),
      ownsChunk: () => false,
      onCrowded: () => undefined,
      recallData: () => Promise.resolve(),
      nodes: {
        get: () => undefined,
        stores: () => [],
        candidates: () => [],
        roomForNew: () => ({ capacityBytes: 1, freeBytes: 1, deadBytes: 0 }),
        picture: () => new Map(),
        wasDeaf: () => undefined,
      },
      change: (caller, operation, options) => world.core.change(caller, operation, options),
      settings: () => MAINTENANCE_DEFAULTS,
      replaysOver: () => Promise.resolve(),
      event: () => undefined,
      onFailure: (_job, error) => failures.push(error),
    });
  const background = begin();
  await world.clock.advance(400);
  assert.equal(await count(world, GARBAGE), 1);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 2 }]);
  await client.unlink(ROOT, 'f');
  await world.clock.advance(1_000);
  assert.equal(await count(world, GARBAGE), 2);
  assert.equal(await count(world, DOOMED), 0);
  await world.finish(background[Symbol.asyncDispose]());
  assert.deepEqual(failures, []);
});
