import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrashWorld } from '../ops/trash-world.ts';
import { chunkOf, contentOf, ROOT } from '../session/scripted-operations.ts';
import { TrashCollector } from './trash.ts';

const MiB = 1024 ** 2;
const bytesOf = (chunk: number, length = 100) => contentOf([{ offset: 0, length, chunk }]);

interface Collecting {
  round(): Promise<number>;
  room: { capacityBytes: number; freeBytes: number };
  readonly yielded: { files: number; bytes: number }[];
}

function collecting(trash: TrashWorld): Collecting {
  const { world } = trash;
  const yielded: { files: number; bytes: number }[] = [];
  const state = { room: { capacityBytes: 1e15, freeBytes: 1e15 } };
  const collector = new TrashCollector({
    clock: world.clock,
    engine: world.core.engine,
    change: (caller, operation) => world.core.change(caller, operation),
    room: () => state.room,
    garbageGraceSeconds: () => 100,
    onYielded: (what) => yielded.push(what),
  });
  return Object.assign(state, {
    yielded,
    async round() {
      let seen = 0;
      const progress = (done: number): void => {
        seen = done;
      };
      await world.finish(collector.work({ signal: new AbortController().signal, progress }));
      return seen;
    },
  });
}

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

test('M8: when the nodes run out of room the oldest goes early, where the realm says so, and only as much as is missing', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const collector = collecting(trash);
  for (let i = 0; i < 60; i++) {
    await client.make(ROOT, `f${i}`, { content: bytesOf(i + 1, MiB) });
    await client.unlink(ROOT, `f${i}`, { held: i === 3 });
  }
  collector.room = { capacityBytes: 1_000 * MiB, freeBytes: 45 * MiB };
  assert.equal(await collector.round(), 0);
  await trash.set({ trashYields: true });
  // 80 MiB shall be free, 35 are missing, each file lies on two nodes: one step of 20 files is enough.
  assert.equal(await collector.round(), 20);
  assert.equal((await trash.list()).length, 40);
  assert.deepEqual((await trash.paths()).slice(-2), ['/f21', '/f3']);
  assert.deepEqual(collector.yielded, [{ files: 20, bytes: 20 * MiB }]);
  // The room comes back when the garbage has been collected: until then no more goes.
  assert.equal(await collector.round(), 0);
  collector.room = { capacityBytes: 1_000 * MiB, freeBytes: 5 * MiB };
  assert.equal(await collector.round(), 20);
  collector.room = { capacityBytes: 1_000 * MiB, freeBytes: 60 * MiB };
  await trash.world.clock.advance(3_800_000);
  assert.equal(await collector.round(), 0);
  assert.equal((await trash.list()).length, 20);
});
