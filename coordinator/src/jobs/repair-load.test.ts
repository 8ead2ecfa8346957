import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, ROOT_REALM } from '@collective/base/ids';
import { SeededRandom } from '@collective/base/random';
import { REPAIR_PAGE } from '../ops/chunk-repair.ts';
import { noteForRepair } from '../ops/replica-places.ts';
import type { NodePicture, PicturedNode } from '../placement/node-picture.ts';
import { SessionWorld } from '../session/session-harness.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { CHUNKS, REPAIR_ORDER, UNDER_REPLICATED } from '../tables/tables.ts';
import type { MoveOutcome } from './chunk-mover.ts';
import { MISPLACED_MAX, MisplacedChunks } from './misplaced-chunks.ts';
import { CHUNKS_AT_ONCE, RepairJob } from './repair.ts';
import { chunkOf } from './repair-scene.ts';

const GiB = 1024 ** 3;
const round = { signal: new AbortController().signal, progress: () => undefined };

function nodeCalled(name: string, more: Partial<PicturedNode> = {}): [string, PicturedNode] {
  const room = { capacityBytes: 10 * GiB, usedBytes: GiB, freeBytes: 9 * GiB };
  const there = { incarnation: 1, heard: 'ready', duty: 'active', zone: '', awayForMs: 0, lost: false } as const;
  return [name, { name, disk: `disk-${name}`, ...room, ...there, ...more }];
}

function rowOn(...nodes: string[]): ChunkRow {
  const place = { stable: true, incarnation: 1, sequence: 1, damaged: false };
  const replicas = nodes.map((node) => ({ ...place, node, disk: `disk-${node}` }));
  const named = { wanted: 2, references: 1, inode: 9, block: 0, realm: ROOT_REALM };
  return { length: 10, storedLength: 10, digest: Buffer.alloc(8), replicas, ...named };
}

/** Chunks 1 to `count`, some rows an operation. */
async function put(world: SessionWorld, count: number, row: ChunkRow, isShort: boolean): Promise<void> {
  for (let from = 1; from <= count; from += 1_000)
    await world.finish(
      world.core.engine.run((tx) => {
        if (isShort) tx.need(Array.from({ length: 1_000 }, (_, i) => UNDER_REPLICATED.key(chunkOf(from + i))));
        for (let number = from; number < Math.min(from + 1_000, count + 1); number++) {
          tx.put(CHUNKS, row, chunkOf(number));
          if (isShort) noteForRepair(tx, chunkOf(number), 1, 10);
        }
      }),
    );
}

test('D8: however many chunks are endangered, some hundred are in memory at once, and in the end all are copied', async () => {
  await using world = await SessionWorld.start();
  const { clock, core } = world;
  const { engine } = core;
  const chunks = 2_000;
  await put(world, chunks, rowOn('n1', 'n2'), true);
  const picture: NodePicture = new Map([
    nodeCalled('n1'),
    nodeCalled('n2', { heard: 'away', lost: true }),
    nodeCalled('n3'),
  ]);
  const held = new Set<ChunkId>();
  const copied = new Set<ChunkId>();
  let most = 0;
  const answer = Promise.withResolvers<void>();
  const job = new RepairJob({
    clock,
    engine,
    outlook: () => ({ picture, random: new SeededRandom(1) }),
    mover: {
      begin: (chunk) => {
        held.add(chunk);
        most = Math.max(most, held.size);
        return true;
      },
      end: (chunk) => void held.delete(chunk),
      // A node that takes its time.
      copy: async (chunk): Promise<MoveOutcome> => {
        await answer.promise;
        await engine.run((tx) => tx.put(CHUNKS, rowOn('n1', 'n3'), chunk), { durability: 'written' });
        copied.add(chunk);
        return { state: 'done' };
      },
      drop: () => Promise.reject(new Error('Give a copy up: none is too many')),
      figures: { copiedChunks: 0, copiedBytes: 0, readBytes: 0, givenUp: 0, failures: 0 },
    },
    onNodeFailed: () => undefined,
    mayRemove: () => true,
  });
  const done = job.work(round);
  await clock.advance(10_000);
  assert.ok(held.size >= CHUNKS_AT_ONCE, `${held.size} are under way`);
  answer.resolve();
  await world.finish(done);
  assert.ok(most < CHUNKS_AT_ONCE + REPAIR_PAGE, `${most} were under way at once`);
  assert.equal(copied.size, chunks);
});

test('D8: of chunks that are committed to a node that is drained no more than a bound is kept, and a survey is asked for', async () => {
  await using world = await SessionWorld.start();
  const { engine } = world.core;
  const row = rowOn('n1', 'n2');
  const chunks = MISPLACED_MAX + 500;
  await put(world, chunks, row, false);
  const picture: NodePicture = new Map([nodeCalled('n1'), nodeCalled('n2', { duty: 'draining' }), nodeCalled('n3')]);
  const told = { found: 0, tooMany: 0 };
  const misplaced = new MisplacedChunks({
    engine,
    picture: () => picture,
    outlook: () => ({ picture, random: new SeededRandom(1) }),
    isUnderWay: () => false,
    onFound: () => {
      told.found += 1;
    },
    onTooMany: () => {
      told.tooMany += 1;
    },
  });
  for (let number = 1; number <= chunks; number++) misplaced.noted(CHUNKS.key(chunkOf(number)), row);
  assert.deepEqual(told, { found: MISPLACED_MAX, tooMany: 500 });
  await world.finish(misplaced.work(round.signal));
  const notes = await world.finish(
    engine.run((tx) => tx.scan(REPAIR_ORDER, REPAIR_ORDER.prefix, prefixEnd(REPAIR_ORDER.prefix), chunks)),
  );
  assert.equal(notes.length, MISPLACED_MAX);
});
