/**
 * Forgets and compactions against crashes (D3, D4): the process dies or the power is lost at every disk operation of a script that
 * puts, forgets, puts again and compacts. What was acknowledged holds, and what was not is there whole or not at all.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Disk, DiskFile } from '@collective/base/disk';
import { type DiskOperation, type DiskVerdict, FakeDisk } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import { FileChunkStore } from './file-chunk-store.ts';
import { readRaw, type ScratchChunk, scratchChunk, scratchId } from './scratch-chunk.ts';

const MiB = 1024 * 1024;
const SEGMENT_BYTES = 12 * 1024;
const CHUNKS = 14;

/** Which version of a chunk may be found; 0 means that it is not there. */
type Possible = Map<number, Set<number>>;

class Expectations {
  readonly written: Possible = new Map();
  readonly stable: Possible = new Map();

  mayBecome(n: number, version: number): void {
    for (const possible of [this.written, this.stable]) {
      const versions = possible.get(n) ?? new Set([0]);
      possible.set(n, versions.add(version));
    }
  }

  is(n: number, version: number, how: 'written' | 'stable'): void {
    this.written.set(n, new Set([version]));
    if (how === 'stable') this.stable.set(n, new Set([version]));
  }

  /** All that is written now is stable. */
  allStable(): void {
    for (const [n, versions] of this.written) if (versions.size === 1) this.stable.set(n, new Set(versions));
  }
}

const made = new Map<number, ScratchChunk>();

/** Each version of a chunk has bytes of its own. */
function chunkOf(n: number, version: number): ScratchChunk {
  const seed = 1000 * version + n;
  const length = 100 + ((n * 7919 + version * 104_729) % 4_000);
  const chunk = made.get(seed) ?? scratchChunk(n, length, n % 3 === 1 ? 'text' : 'noise', seed);
  made.set(seed, chunk);
  return chunk;
}

/** The clock stands still unless the script moves it: nothing is synced or compacted in between. */
function openStore(disk: Disk, clock = new FakeClock()): Promise<FileChunkStore> {
  return FileChunkStore.open({
    disk,
    clock,
    random: new SeededRandom(3),
    capacityBytes: 32 * MiB,
    reserveBytes: 1 * MiB,
    segmentBytes: SEGMENT_BYTES,
  });
}

async function put(
  store: FileChunkStore,
  expect: Expectations,
  n: number,
  version: number,
  waits: boolean,
): Promise<void> {
  const { facts, frames } = chunkOf(n, version);
  expect.mayBecome(n, version);
  const { sequence } = await store.put(facts, frames);
  expect.is(n, version, 'written');
  if (!waits) return;
  await store.whenStable(sequence);
  expect.allStable();
}

async function forget(store: FileChunkStore, expect: Expectations, ...numbers: number[]): Promise<void> {
  for (const n of numbers) expect.mayBecome(n, 0);
  await store.forget(numbers.map(scratchId));
  for (const n of numbers) expect.is(n, 0, 'stable');
}

/** Compacts all, or, by itself, what is worn: then dead records stay, and their tombstones must. */
type Compaction = 'all' | 'worn';

async function script(disk: Disk, expect: Expectations, compaction: Compaction): Promise<void> {
  const clock = new FakeClock();
  let store = await openStore(disk, clock);
  const compact = (): Promise<void> => (compaction === 'all' ? store.compact() : clock.advance(60_000));
  for (let n = 0; n < CHUNKS; n++) await put(store, expect, n, 1, n % 3 === 0);
  await forget(store, expect, 1, 2, 4, 8);
  await put(store, expect, 2, 2, false);
  await compact();
  await forget(store, expect, 0, 2, 11);
  await put(store, expect, 0, 2, true);
  await put(store, expect, 4, 2, false);
  // The places of records change while they are forgotten.
  await Promise.all([compact(), forget(store, expect, 5, 9), put(store, expect, 8, 2, false)]);
  await store[Symbol.asyncDispose]();
  expect.allStable();
  store = await openStore(disk, clock);
  await forget(store, expect, 3, 4, 6);
  await compact();
  await put(store, expect, 6, 2, true);
  await forget(store, expect, 7, 8, 12);
  await compact();
}

/** Which version is there; its bytes are compared. */
async function versionOf(
  store: FileChunkStore,
  n: number,
  possible: ReadonlySet<number>,
  what: string,
): Promise<number> {
  const chunk = scratchId(n);
  if (!store.has(chunk)) {
    assert.ok(possible.has(0), `${what}: chunk ${n} is lost, it must be one of ${[...possible]}`);
    return 0;
  }
  const { digest, rawLength } = await store.verify(chunk);
  const bytes = await readRaw(store, chunk, 0, rawLength);
  for (const version of possible)
    if (version > 0 && chunkOf(n, version).facts.digest.equals(digest)) {
      assert.ok(bytes.equals(chunkOf(n, version).raw), `${what}: chunk ${n} has other bytes`);
      return version;
    }
  return assert.fail(`${what}: chunk ${n} is there, it must be one of ${[...possible]} (0: not there)`);
}

/** What is there may be there. */
async function judge(platter: FakePlatter, expected: Possible, what: string): Promise<void> {
  const store = await openStore(new FakeDisk({ platter }));
  const versions = await versionsOf(store, expected, what);
  assert.equal(store.stats().chunkCount, versions.filter((version) => version > 0).length, what);
  assert.deepEqual(store.damaged, [], what);
  await store[Symbol.asyncDispose]();
}

/** And it stays the same over compactions and restarts, and everything can be forgotten. */
async function judgeWell(platter: FakePlatter, expected: Possible, what: string): Promise<void> {
  let store = await openStore(new FakeDisk({ platter }));
  const versions = await versionsOf(store, expected, what);
  await store.compact();
  assert.deepEqual(await versionsOf(store, expected, what), versions, what);
  await store[Symbol.asyncDispose]();
  store = await openStore(new FakeDisk({ platter }));
  assert.deepEqual(await versionsOf(store, expected, what), versions, what);
  await store.forget(Array.from({ length: CHUNKS }, (_unused, n) => scratchId(n)));
  await store.compact();
  assert.deepEqual([store.stats().usedBytes, store.stats().deadBytes], [0, 0], what);
  await store[Symbol.asyncDispose]();
  assert.equal((await openStore(new FakeDisk({ platter }))).stats().chunkCount, 0, what);
}

async function versionsOf(store: FileChunkStore, expected: Possible, what: string): Promise<number[]> {
  const versions: number[] = [];
  for (let n = 0; n < CHUNKS; n++) versions.push(await versionOf(store, n, expected.get(n) ?? new Set([0]), what));
  return versions;
}

/** Runs `act` on a disk whose process dies before the operation number `at` of those that `counts`; true if it got so far. */
async function dieAt(
  platter: FakePlatter,
  at: number,
  act: (disk: FakeDisk) => Promise<void>,
  counts: (operation: DiskOperation) => boolean,
): Promise<boolean> {
  const died = Promise.withResolvers<true>();
  let count = 0;
  const before = (operation: DiskOperation): DiskVerdict => {
    if (!counts(operation) || count++ < at) return 'go';
    died.resolve(true);
    return 'stop';
  };
  const disk = new FakeDisk({ platter, before, random: new SeededRandom(at) });
  const reached = await Promise.race([act(disk).then(() => false), died.promise]);
  disk.kill();
  return reached;
}

function newWorld(): [FakePlatter, Expectations] {
  return [new FakePlatter({ capacityBytes: 64 * MiB }), new Expectations()];
}

/** Syncs of what `skips` names do nothing. */
function careless(disk: FakeDisk, skips: 'copies' | 'folders'): Disk {
  return new Proxy<Disk>(disk, {
    get(target, name) {
      if (name === 'syncDirectory' && skips === 'folders') return async () => undefined;
      if (name === 'open' && skips === 'copies')
        return async (path: string, mode: Parameters<Disk['open']>[1]): Promise<DiskFile> => {
          const file = await target.open(path, mode);
          return path.endsWith('.seg.new') ? { ...file, sync: async () => undefined } : file;
        };
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const isChange = ({ kind }: DiskOperation): boolean => kind !== 'read' && kind !== 'open';
const isFolderSync = ({ kind }: DiskOperation): boolean => kind === 'syncDirectory';

describe('crashes of a store that forgets and compacts', () => {
  for (const compaction of ['all', 'worn'] as const) {
    test(`D4: SIGKILL at any operation, compacting what is ${compaction}, loses nothing and brings nothing back`, async () => {
      let points = 0;
      for (let at = 0; ; at++) {
        const [platter, expect] = newWorld();
        const died = await dieAt(platter, at, (disk) => script(disk, expect, compaction), isChange);
        const judges = at % 3 === 0 || !died ? judgeWell : judge;
        await judges(platter, expect.written, `SIGKILL at operation ${at}`);
        if (!died) break;
        points = at;
      }
      assert.ok(points > 100, `${points} crash points`);
    });

    test(`D4: power loss at any operation, compacting what is ${compaction}, loses nothing stable and brings nothing back`, async () => {
      for (let at = 0; ; at++) {
        let died = true;
        for (const seed of [1, 2]) {
          const [platter, expect] = newWorld();
          died = await dieAt(platter, at, (disk) => script(disk, expect, compaction), isChange);
          platter.powerLoss(new SeededRandom(10 * at + seed));
          const judges = seed === 1 || !died ? judgeWell : judge;
          await judges(platter, expect.stable, `power loss at operation ${at}, seed ${seed}`);
        }
        if (!died) break;
      }
    });
  }

  test('D4: SIGKILL before a folder is synced and power loss before the next start has synced one lose nothing', async () => {
    let points = 0;
    for (let first = 0; ; first++) {
      let died = true;
      for (let second = 0; second < 8; second++) {
        const [platter, expect] = newWorld();
        died = await dieAt(platter, first, (disk) => script(disk, expect, 'all'), isFolderSync);
        const what = `killed before folder sync ${first}, without power before ${second} of the next start`;
        await dieAt(
          platter,
          second,
          async (disk) => {
            const store = await openStore(disk);
            // What a start has gone through is stable.
            for (const [n, version] of (await versionsOf(store, expect.written, what)).entries())
              expect.is(n, version, 'stable');
            await store.compact();
          },
          isFolderSync,
        );
        platter.powerLoss(new SeededRandom(100 * first + second));
        await judge(platter, expect.stable, what);
      }
      if (!died) break;
      points++;
    }
    assert.ok(points > 30, `${points} folder syncs`);
  });

  for (const skips of ['copies', 'folders'] as const)
    test(`D4: the same tests notice a compaction that does not sync its ${skips}`, async () => {
      let noticed = 0;
      for (let at = 60; at < 240; at += 3) {
        const [platter, expect] = newWorld();
        try {
          await dieAt(platter, at, (disk) => script(careless(disk, skips), expect, 'all'), isChange);
          platter.powerLoss(new SeededRandom(at));
          await judge(platter, expect.stable, `${skips}, ${at}`);
        } catch (error) {
          assert.ok(error instanceof assert.AssertionError || error instanceof CollectiveError, String(error));
          noticed++;
        }
      }
      assert.ok(noticed >= 5, `${noticed} of 60 power losses were noticed`);
    });

  test('D4: a damaged copy leaves the disk only when what replaced it is stable', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const platter = new FakePlatter({ capacityBytes: 64 * MiB });
      const store = await openStore(new FakeDisk({ platter }));
      const chunks = [chunkOf(1, 1), chunkOf(2, 1)] as const;
      for (const { facts, frames } of chunks) await store.put(facts, frames);
      await store[Symbol.asyncDispose]();
      const segment = platter.files().find(({ path }) => path.endsWith('.seg')) ?? assert.fail('no segment');
      segment.content.flipBit(64 + 20, 1);
      const clock = new FakeClock();
      const again = await openStore(new FakeDisk({ platter }), clock);
      const { facts, frames } = chunks[0];
      await assert.rejects(again.verify(facts.chunk), { code: 'chunk_corrupt' });
      // Compaction, which looks a second after something was forgotten, comes before the sync of the replacement.
      await clock.advance(2_000);
      await again.forget([chunks[1].facts.chunk]);
      await clock.advance(999);
      await again.replace(facts, frames);
      await clock.advance(1);
      assert.ok(
        platter.files().every(({ path }) => path !== segment.path),
        'the segment with the damaged copy is gone',
      );
      new FakeDisk({ platter }).powerLoss(new SeededRandom(seed));
      assert.equal((await openStore(new FakeDisk({ platter }))).has(facts.chunk), true, `seed ${seed}`);
    }
  });

  test('D4: whichever sync fails, the store takes no more, and a new start has all that was stable', async () => {
    let failures = 0;
    for (let failing = 0; ; failing++) {
      const [platter, expect] = newWorld();
      let syncs = 0;
      let failed = false;
      const before = ({ kind }: DiskOperation): DiskVerdict => {
        if (kind !== 'sync' || syncs++ !== failing) return 'go';
        failed = true;
        return 'fail';
      };
      const disk = new FakeDisk({ platter, before, random: new SeededRandom(failing) });
      try {
        await script(disk, expect, 'all');
      } catch (error) {
        assert.ok(error instanceof CollectiveError && error.code === 'disk_failed', String(error));
      }
      disk.kill();
      platter.evictCleanPages();
      await judgeWell(platter, expect.stable, `sync ${failing} failed`);
      if (!failed) break;
      failures++;
    }
    assert.ok(failures > 30, `${failures} syncs failed in turn`);
  });
});
