/**
 * What a crash may take and what it may not (D3, D4), on a disk that keeps apart what was written and what was synced. Each
 * test tries every point: every operation at which the process can die, every sync that can fail, many power losses.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type DiskOperation, type DiskVerdict, FakeDisk } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import { failsWith } from './chunk-store-contract.ts';
import { FileChunkStore } from './file-chunk-store.ts';
import { readRaw, type ScratchChunk, scratchChunk } from './scratch-chunk.ts';

const MiB = 1024 * 1024;
const SEGMENT_BYTES = 24 * 1024;

interface World {
  readonly platter: FakePlatter;
  readonly chunks: ScratchChunk[];
  /** Numbers of chunks that were answered as written, and those answered as stable. */
  readonly written: Set<number>;
  readonly stable: Set<number>;
}

function newWorld(): World {
  const lengths = [100, 9000, 1, 20_000, 3000, 500, 140_000, 4096, 12_000, 77];
  const chunks = lengths.map((length, i) => scratchChunk(i, length, i % 3 === 1 ? 'text' : 'noise'));
  return { platter: new FakePlatter({ capacityBytes: 64 * MiB }), chunks, written: new Set(), stable: new Set() };
}

function openStore(disk: FakeDisk): Promise<FileChunkStore> {
  // The clock stands still: a sync happens when somebody asks for it.
  return FileChunkStore.open({
    disk,
    clock: new FakeClock(),
    random: new SeededRandom(3),
    capacityBytes: 32 * MiB,
    reserveBytes: 1 * MiB,
    segmentBytes: SEGMENT_BYTES,
  });
}

/** Puts chunks, two at a time, makes some stable, restarts once in the middle and ends in order if `ends`. */
async function work(world: World, disk: () => FakeDisk, ends: boolean): Promise<void> {
  let store = await openStore(disk());
  for (let i = 0; i < world.chunks.length; i += 2) {
    const results = await Promise.all([i, i + 1].map((n) => putOne(world, store, n)));
    if (i % 4 === 0) {
      await store.whenStable(Math.max(...results));
      for (const n of world.written) world.stable.add(n);
    }
    if (i === 4) {
      await store[Symbol.asyncDispose]();
      for (const n of world.written) world.stable.add(n);
      store = await openStore(disk());
    }
  }
  if (!ends) return;
  await store[Symbol.asyncDispose]();
  for (const n of world.written) world.stable.add(n);
}

async function putOne(world: World, store: FileChunkStore, n: number): Promise<number> {
  const chunk = world.chunks[n];
  assert.ok(chunk !== undefined);
  const { sequence } = await store.put(chunk.facts, chunk.frames);
  world.written.add(n);
  return sequence;
}

/** Every chunk that must be there is, and whatever is there is right; what is not there can be put again. */
async function judge(world: World, store: FileChunkStore, mustHave: ReadonlySet<number>, what: string): Promise<void> {
  for (const [n, { facts, frames, raw }] of world.chunks.entries()) {
    if (mustHave.has(n)) assert.ok(store.has(facts.chunk), `${what}: chunk ${n} is lost`);
    if (!store.has(facts.chunk)) assert.equal((await store.put(facts, frames)).alreadyHere, false);
    assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw), `${what}: chunk ${n} has other bytes`);
    const { sequence, incarnation } = await store.describe(facts.chunk);
    assert.ok(
      incarnation < store.incarnation ? sequence <= store.stableSequence : sequence > incarnation * 2 ** 32,
      `${what}: sequence of chunk ${n}`,
    );
  }
  assert.equal(store.stats().chunkCount, world.chunks.length);
}

/** Runs `act` on a disk whose process dies at operation `at`; true if it got so far. */
async function dieAt(
  platter: FakePlatter,
  at: number,
  seed: number,
  act: (disk: FakeDisk) => Promise<void>,
): Promise<boolean> {
  const died = Promise.withResolvers<true>();
  let count = 0;
  const before = (_operation: DiskOperation): DiskVerdict => {
    if (count++ < at) return 'go';
    died.resolve(true);
    return 'stop';
  };
  const disk = new FakeDisk({ platter, before, random: new SeededRandom(seed) });
  return await Promise.race([act(disk).then(() => false), died.promise]);
}

describe('crashes of the chunk store', () => {
  test('D3: SIGKILL at any operation loses no chunk that was answered as written', async () => {
    let points = 0;
    for (let at = 0; ; at++) {
      const world = newWorld();
      const died = await dieAt(world.platter, at, at, (disk) => work(world, () => disk, true));
      const store = await openStore(new FakeDisk({ platter: world.platter }));
      await judge(world, store, world.written, `SIGKILL at operation ${at}`);
      await store[Symbol.asyncDispose]();
      if (!died) break;
      points = at;
    }
    assert.ok(points > 60, `${points} crash points`);
  });

  test('D3: power loss at any operation loses no chunk that was answered as stable', async () => {
    for (let at = 0; ; at++) {
      let died = true;
      for (const seed of [1, 2, 3]) {
        const world = newWorld();
        died = await dieAt(world.platter, at, seed, (disk) => work(world, () => disk, true));
        world.platter.powerLoss(new SeededRandom(1000 * at + seed));
        const store = await openStore(new FakeDisk({ platter: world.platter }));
        await judge(world, store, world.stable, `power loss at operation ${at}, seed ${seed}`);
        await store[Symbol.asyncDispose]();
      }
      if (!died) break;
    }
  });

  test('D3: the same test notices a disk that answers syncs and does nothing', async () => {
    let noticed = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const world = newWorld();
      world.platter.ignoreSyncs = true;
      const disk = new FakeDisk({ platter: world.platter });
      await work(world, () => disk, false);
      disk.powerLoss(new SeededRandom(seed));
      world.platter.ignoreSyncs = false;
      try {
        await judge(world, await openStore(new FakeDisk({ platter: world.platter })), world.stable, `seed ${seed}`);
      } catch (error) {
        assert.ok(error instanceof assert.AssertionError || error instanceof CollectiveError, String(error));
        noticed++;
      }
    }
    assert.ok(noticed >= 5, `${noticed} of 10 lost disks were noticed`);
  });

  test('D4: a crash of the start itself, at any operation, followed by power loss, loses nothing stable', async () => {
    for (let at = 0; ; at++) {
      const world = newWorld();
      const first = new FakeDisk({ platter: world.platter });
      await work(world, () => first, false);
      first.kill();
      let second: FakeDisk | undefined;
      const died = await dieAt(world.platter, at, at, async (disk) => {
        second = disk;
        await openStore(disk);
      });
      second?.kill();
      // What the first process had written is stable once a start has gone through.
      if (!died) for (const n of world.written) world.stable.add(n);
      world.platter.powerLoss(new SeededRandom(at));
      const store = await openStore(new FakeDisk({ platter: world.platter }));
      await judge(world, store, world.stable, `start died at operation ${at}`);
      await store[Symbol.asyncDispose]();
      if (!died) break;
    }
  });

  test('D4: whichever sync fails, nothing of it is called stable, the store takes no more, and a new start has all that was stable', async () => {
    let failures = 0;
    for (let failing = 0; ; failing++) {
      const world = newWorld();
      let syncs = 0;
      let failed = false;
      const before = ({ kind }: DiskOperation): DiskVerdict => {
        if (kind !== 'sync' || syncs++ !== failing) return 'go';
        failed = true;
        return 'fail';
      };
      const disk = new FakeDisk({ platter: world.platter, before, random: new SeededRandom(failing) });
      try {
        await work(world, () => disk, true);
      } catch (error) {
        assert.ok(error instanceof CollectiveError && error.code === 'disk_failed', String(error));
      }
      if (!failed) break;
      failures++;
      // The kernel has marked the pages clean and forgets them: only the disk is the truth.
      disk.kill();
      world.platter.evictCleanPages();
      const store = await openStore(new FakeDisk({ platter: world.platter }));
      await judge(world, store, world.stable, `sync ${failing} failed`);
      await store[Symbol.asyncDispose]();
    }
    assert.ok(failures > 10, `${failures} syncs failed in turn`);
  });

  test('D4: after a failed sync waiters and later puts fail with disk_failed, reads go on, and no sync is tried again', async () => {
    const platter = new FakePlatter({ capacityBytes: 64 * MiB });
    let syncsOfSegments = 0;
    const disk = new FakeDisk({
      platter,
      before: ({ kind, path }) => {
        if (kind === 'sync' && path.endsWith('.seg')) syncsOfSegments++;
        return 'go';
      },
    });
    const store = await openStore(disk);
    const [first, second, third] = [scratchChunk(1, 500), scratchChunk(2, 500), scratchChunk(3, 500)];
    await store.whenStable((await store.put(first.facts, first.frames)).sequence);
    const stable = store.stableSequence;
    const { sequence } = await store.put(second.facts, second.frames);
    disk.failNextSync();
    const before = syncsOfSegments;
    await failsWith('disk_failed', store.whenStable(sequence));
    assert.equal(store.failed.aborted, true);
    assert.equal(store.stableSequence, stable);
    await failsWith('disk_failed', store.put(third.facts, third.frames));
    await failsWith('disk_failed', store.whenStable(sequence));
    await failsWith('disk_failed', store.sync());
    assert.ok((await readRaw(store, first.facts.chunk, 0, 500)).equals(first.raw));
    await store[Symbol.asyncDispose]();
    assert.equal(syncsOfSegments, before + 1);
  });

  test('D3: a store syncs by itself within a second', async () => {
    const clock = new FakeClock();
    const store = await FileChunkStore.open({
      disk: new FakeDisk(),
      clock,
      random: new SeededRandom(3),
      capacityBytes: 1024 * MiB,
    });
    const { facts, frames } = scratchChunk(1, 500);
    const { sequence } = await store.put(facts, frames);
    assert.ok(store.stableSequence < sequence);
    await clock.until(() => store.stableSequence >= sequence, { withinMs: 1000 });
    await store[Symbol.asyncDispose]();
  });

  test('D4: one sync serves all that wait', async () => {
    let syncs = 0;
    const clock = new FakeClock();
    const disk = new FakeDisk({
      clock,
      latencyMs: ({ kind }) => (kind === 'sync' ? 5 : 0),
      before: ({ kind, path }) => {
        if (kind === 'sync' && path.endsWith('.seg')) syncs++;
        return 'go';
      },
    });
    const opening = FileChunkStore.open({ disk, clock, random: new SeededRandom(3), capacityBytes: 1024 * MiB });
    const store = await clock.finish(opening);
    const all = Promise.all(
      Array.from({ length: 100 }, async (_unused, i) => {
        const { facts, frames } = scratchChunk(i, 100);
        await store.whenStable((await store.put(facts, frames)).sequence);
      }),
    );
    await clock.finish(all);
    assert.ok(syncs <= 4, `${syncs} syncs for 100 chunks`);
    await clock.finish(store[Symbol.asyncDispose]());
  });
});
