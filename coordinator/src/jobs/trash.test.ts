import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Timestamp } from '@collective/base/clock';
import { chunkIdFromBytes } from '@collective/base/ids';
import { TrashWorld } from '../ops/trash-world.ts';
import { chunkOf, contentOf, ROOT } from '../session/scripted-operations.ts';
import { bytesOf as bytesOfKey, prefixEnd } from '../tables/table.ts';
import { GARBAGE } from '../tables/tables.ts';
import { BlockRelease } from './release-blocks.ts';
import { TrashCollector } from './trash.ts';

const MiB = 1024 ** 2;
const NOW: Timestamp = { seconds: 1, nanos: 0 };
const bytesOf = (chunk: number, length = 100) => contentOf([{ offset: 0, length, chunk }]);

interface Collecting {
  round(): Promise<number>;
  /** Blocks of what went become garbage. */
  release(): Promise<void>;
  /** Garbage is collected; nodes give the room back by and by. */
  collect(): Promise<void>;
  room: { capacityBytes: number; freeBytes: number; deadBytes: number };
  readonly yielded: { files: number; bytes: number }[];
}

/** A life of the collector; `garbage`: what is known of it at the start, undefined before it was counted. */
function collecting(trash: TrashWorld, garbage: { walkedAt: Timestamp | undefined } = { walkedAt: NOW }): Collecting {
  const { world } = trash;
  const { engine } = world.core;
  const yielded: { files: number; bytes: number }[] = [];
  const state = {
    room: { capacityBytes: 1e15, freeBytes: 1e15, deadBytes: 0 },
    garbage: { ...garbage, storedBytes: 0, collectedBytes: 0 },
  };
  const collector = new TrashCollector({
    clock: world.clock,
    engine,
    change: (caller, operation) => world.core.change(caller, operation),
    room: () => state.room,
    garbage: () => state.garbage,
    onYielded: (what) => yielded.push(what),
  });
  const signal = new AbortController().signal;
  const rows = () =>
    world.finish(engine.run((tx) => tx.scan(GARBAGE, GARBAGE.prefix, prefixEnd(GARBAGE.prefix), 1_000)));
  const count = async (): Promise<void> => {
    state.garbage.storedBytes = (await rows()).reduce((sum, { value }) => sum + value.storedBytes, 0);
  };
  return Object.assign(state, {
    yielded,
    async round() {
      let seen = 0;
      const progress = (done: number): void => {
        seen = done;
      };
      if (state.garbage.walkedAt !== undefined) await count();
      await world.finish(collector.work({ signal, progress }));
      return seen;
    },
    async release() {
      await world.finish(new BlockRelease(engine).work({ signal, progress: () => undefined }));
    },
    async collect() {
      await count();
      state.garbage.collectedBytes += state.garbage.storedBytes;
      const all = await rows();
      await world.finish(
        engine.run((tx) => {
          for (const { key } of all) tx.remove(GARBAGE, chunkIdFromBytes(bytesOfKey(key.slice(1))));
        }),
      );
    },
  });
}

/** Sixty files of 1 MiB on two nodes, removed one after the other, in a realm whose trash yields. */
async function sixtyRemoved(trash: TrashWorld, held: (i: number) => boolean = () => false): Promise<void> {
  const client = await trash.client();
  for (let i = 0; i < 60; i++) {
    await client.make(ROOT, `f${i}`, { content: bytesOf(i + 1, MiB) });
    await client.unlink(ROOT, `f${i}`, { held: held(i) });
  }
  await trash.set({ trashYields: true });
}

const roomOf = (freeMiB: number, deadMiB = 0) => ({
  ...{ capacityBytes: 1_000 * MiB, freeBytes: freeMiB * MiB, deadBytes: deadMiB * MiB },
});

test('M8: what is older than its realm keeps it goes, and nothing that is younger', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const collector = collecting(trash);
  await trash.set({ trashSeconds: 700 });
  for (let i = 0; i < 250; i++) {
    await client.make(ROOT, `old${i}`, i % 50 === 0 ? { content: bytesOf(i + 1) } : {});
    await client.unlink(ROOT, `old${i}`);
  }
  await trash.world.clock.advance(600_000);
  // The session is gone: another one goes on.
  const later = await trash.client();
  await later.make(ROOT, 'young', { content: bytesOf(chunkOf(2, 999)) });
  await later.unlink(ROOT, 'young');
  assert.equal(await collector.round(), 0);
  await trash.world.clock.advance(101_000);
  assert.equal(await collector.round(), 250);
  assert.deepEqual(await trash.paths(), ['/young']);
  assert.deepEqual(await trash.usage(), { bytes: 100, inodes: 2, trashBytes: 100, trashInodes: 1 });
  // A realm that keeps nothing any more lets go of what it kept.
  await trash.set({ trashSeconds: -1 });
  assert.equal(await collector.round(), 1);
  assert.equal((await trash.rows()).trash, 0);
});

test('M8: what goes is read in a few goes a step, not one by one', async () => {
  await using trash = await TrashWorld.start({ core: { cacheEntriesMax: 100 } });
  const client = await trash.client();
  const collector = collecting(trash);
  const { engine } = trash.world.core;
  for (let i = 0; i < 300; i++) {
    await client.make(ROOT, `f${i}`, { content: bytesOf(i + 1) });
    await client.unlink(ROOT, `f${i}`);
  }
  await trash.set({ trashSeconds: -1 });
  await trash.world.clock.advance(1_000);
  const { prefetches } = engine.counters;
  assert.equal(await collector.round(), 300);
  const stops = engine.counters.prefetches - prefetches;
  assert.ok(stops <= 20, `${stops} stops for four steps of 100 entries`);
});

test('M8: when the nodes run out of room the oldest goes early, where the realm says so, and only as much as is missing', async () => {
  await using trash = await TrashWorld.start();
  const collector = collecting(trash);
  collector.room = roomOf(45);
  await sixtyRemoved(trash, (i) => i === 3);
  await trash.set({ trashYields: false });
  assert.equal(await collector.round(), 0);
  await trash.set({ trashYields: true });
  // 80 MiB shall be free, 35 are missing, each file lies on two nodes: one step of 20 files is enough.
  assert.equal(await collector.round(), 20);
  assert.equal((await trash.list()).length, 40);
  assert.deepEqual((await trash.paths()).slice(-2), ['/f21', '/f3']);
  assert.deepEqual(collector.yielded, [{ files: 20, bytes: 20 * MiB }]);
  // The room comes back when the garbage has been collected: until then no more goes.
  assert.equal(await collector.round(), 0);
  await collector.release();
  assert.equal(await collector.round(), 0);
  collector.room = roomOf(5);
  assert.equal(await collector.round(), 20);
  await collector.release();
  collector.room = roomOf(60);
  await trash.world.clock.advance(3_800_000);
  assert.equal(await collector.round(), 0);
  assert.equal((await trash.list()).length, 20);
});

test('M8: a coordinator that was started anew knows what is on its way to be free, and lets no more go for it', async () => {
  await using trash = await TrashWorld.start();
  await sixtyRemoved(trash);
  const first = collecting(trash);
  first.room = roomOf(45);
  assert.equal(await first.round(), 20);
  // Killed before the blocks were let go of, and again when they were.
  for (const step of ['doomed', 'garbage']) {
    const again = collecting(trash);
    again.room = roomOf(45);
    assert.equal(await again.round(), 0, step);
    await again.release();
  }
  // Before the garbage has been counted nothing is known.
  const early = collecting(trash, { walkedAt: undefined });
  early.room = roomOf(45);
  assert.equal(await early.round(), 0);
  // Collected, and not given back by the nodes yet: this life knows what it has collected, the next by what is dead on nodes.
  const late = collecting(trash);
  await late.collect();
  late.room = roomOf(45, 40);
  assert.equal(await late.round(), 0);
  const last = collecting(trash);
  last.room = roomOf(45, 40);
  assert.equal(await last.round(), 0);
  assert.equal((await trash.list()).length, 40);
  // What has not come back after an hour does not before a node is full.
  await trash.world.clock.advance(3_601_000);
  assert.equal(await last.round(), 20);
});
