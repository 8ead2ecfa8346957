import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Disk } from '@collective/base/disk';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { FileDisk } from '@collective/base/disk/file-disk';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { ChunkStore } from './chunk-store.ts';
import { type ChunkStoreUnderTest, chunkStoreContract, failsWith } from './chunk-store-contract.ts';
import { FileChunkStore, type FileChunkStoreOptions } from './file-chunk-store.ts';
import { readRaw, scratchChunk, scratchId } from './scratch-chunk.ts';

const MiB = 1024 * 1024;
const random = new SeededRandom(7);
const clock = new SystemClock();

function openOn(disk: Disk, options: Partial<FileChunkStoreOptions> = {}): Promise<FileChunkStore> {
  return FileChunkStore.open({
    disk,
    clock,
    random,
    capacityBytes: 72 * MiB,
    reserveBytes: 8 * MiB,
    ...options,
  });
}

async function subjectOn(openDisk: () => Promise<Disk>, cleanUp: () => Promise<void>): Promise<ChunkStoreUnderTest> {
  let store: ChunkStore = await openOn(await openDisk());
  return {
    store,
    reopen: async () => {
      await store[Symbol.asyncDispose]();
      store = await openOn(await openDisk());
      return store;
    },
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await cleanUp();
    },
  };
}

chunkStoreContract('files', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'collective-store-'));
  return subjectOn(
    () => FileDisk.at(folder),
    () => rm(folder, { recursive: true, force: true }),
  );
});

chunkStoreContract('fake disk', async () => {
  const disk = new FakeDisk({ platter: new FakePlatter({ capacityBytes: 200 * MiB }) });
  return subjectOn(
    async () => disk.again(),
    async () => undefined,
  );
});

describe('file chunk store', () => {
  test('chunks over many segments survive a restart, and a clean end leaves nothing to copy', async () => {
    await using place = await scratchFolder();
    let store = await openOn(await FileDisk.at(place.folder), { segmentBytes: 1 * MiB });
    for (let i = 1; i <= 30; i++) {
      const { facts, frames } = scratchChunk(i, 200_000);
      await store.put(facts, frames);
    }
    const used = store.stats().usedBytes;
    await store[Symbol.asyncDispose]();
    store = await openOn(await FileDisk.at(place.folder), { segmentBytes: 1 * MiB });
    assert.equal(store.stats().usedBytes, used);
    for (let i = 1; i <= 30; i++)
      assert.ok((await readRaw(store, scratchId(i), 0, 200_000)).equals(scratchChunk(i, 200_000).raw));
    await store[Symbol.asyncDispose]();
  });

  test('a folder has one store at a time', async () => {
    await using place = await scratchFolder();
    const store = await openOn(await FileDisk.at(place.folder));
    await failsWith('data_in_use', openOn(await FileDisk.at(place.folder)));
    await store[Symbol.asyncDispose]();
    await (await openOn(await FileDisk.at(place.folder)))[Symbol.asyncDispose]();
  });

  test('data of a newer format is refused and left alone', async () => {
    for (const file of ['disk.json', 'starts.json']) {
      await using place = await scratchFolder();
      await (await openOn(await FileDisk.at(place.folder)))[Symbol.asyncDispose]();
      const path = join(place.folder, file);
      const newer = (await readFile(path, 'utf8')).replace('"format":1', '"format":2');
      await writeFile(path, newer);
      await failsWith('version_too_new', openOn(await FileDisk.at(place.folder)), file);
      assert.equal(await readFile(path, 'utf8'), newer);
    }
  });

  test('identity files that are gone or damaged while chunks are there are damage, not a fresh start', async () => {
    for (const damage of ['disk.json', 'starts.json'])
      for (const how of ['removed', 'garbage'] as const) {
        await using place = await scratchFolder();
        const store = await openOn(await FileDisk.at(place.folder));
        const { facts, frames } = scratchChunk(1, 100);
        await store.put(facts, frames);
        await store[Symbol.asyncDispose]();
        if (how === 'removed') await rm(join(place.folder, damage));
        else await writeFile(join(place.folder, damage), '{"form');
        await failsWith('store_damaged', openOn(await FileDisk.at(place.folder)), `${damage} ${how}`);
      }
  });

  test('the real disk may be smaller than what the owner gives', async () => {
    const disk = new FakeDisk({ platter: new FakePlatter({ capacityBytes: 20 * MiB }) });
    const store = await openOn(disk);
    assert.ok(store.stats().capacityBytes <= 20 * MiB);
    const { facts, frames } = scratchChunk(1, 4 * MiB);
    await store.put(facts, frames);
    const second = scratchChunk(2, 4 * MiB);
    await store.put(second.facts, second.frames);
    await store.sync();
    const third = scratchChunk(3, 4 * MiB);
    await failsWith('no_space', store.put(third.facts, third.frames));
    await store[Symbol.asyncDispose]();
  });

  test('D7: a disk that somebody else has filled is found to have room again, though nothing could be put', async () => {
    const fake = new FakeClock();
    const platter = new FakePlatter({ capacityBytes: 200 * MiB });
    const store = await openOn(new FakeDisk({ platter }), { clock: fake });
    const [first, second] = [scratchChunk(1, 100_000), scratchChunk(2, 100_000)];
    await store.put(first.facts, first.frames);
    platter.capacityBytes = platter.usedBytes;
    await fake.until(() => store.stats().full, { withinMs: 15_000 });
    await failsWith('no_space', store.put(second.facts, second.frames));
    await failsWith('no_space', store.forget([first.facts.chunk]));
    platter.capacityBytes = 200 * MiB;
    await fake.until(() => !store.stats().full, { withinMs: 15_000 });
    await store.forget([first.facts.chunk]);
    await store.put(second.facts, second.frames);
    assert.deepEqual(store.list(undefined, 10), [second.facts.chunk]);
    await fake.finish(store[Symbol.asyncDispose]());
  });
});

async function scratchFolder(): Promise<AsyncDisposable & { folder: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-store-'));
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}
