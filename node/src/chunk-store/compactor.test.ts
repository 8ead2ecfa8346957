/** Compaction beside everything else that a store does (D4): its own time, its pace, readers, a full disk, damage. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { type DiskSpace, readWhole } from '@collective/base/disk';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { FileDisk } from '@collective/base/disk/file-disk';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { ChunkStore } from './chunk-store.ts';
import { failsWith } from './chunk-store-contract.ts';
import { LEFT_ALONE_MAX_MS, QUIET_AFTER_MS } from './emptying-segments.ts';
import { FileChunkStore, type FileChunkStoreOptions } from './file-chunk-store.ts';
import { readRaw, type ScratchChunk, scratchChunk, scratchId } from './scratch-chunk.ts';
import { SEGMENT_FOLDER, SEGMENT_HEADER_BYTES, segmentPath } from './segment.ts';

const MiB = 1024 * 1024;

function openStore(options: Partial<FileChunkStoreOptions> = {}): Promise<FileChunkStore> {
  return FileChunkStore.open({
    disk: new FakeDisk(),
    clock: new FakeClock(),
    random: new SeededRandom(3),
    capacityBytes: 64 * MiB,
    reserveBytes: 2 * MiB,
    segmentBytes: 1 * MiB,
    ...options,
  });
}

async function putAll(store: ChunkStore, chunks: readonly ScratchChunk[]): Promise<void> {
  for (const { facts, frames } of chunks) await store.put(facts, frames);
}

function noise(count: number, length: number, first = 1): ScratchChunk[] {
  return Array.from({ length: count }, (_unused, i) => scratchChunk(first + i, length));
}

async function holds(store: ChunkStore, chunks: readonly ScratchChunk[]): Promise<void> {
  for (const { facts, raw } of chunks)
    assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw), `bytes of ${facts.chunk}`);
}

function idsOf(chunks: readonly ScratchChunk[]): ScratchChunk['facts']['chunk'][] {
  return chunks.map(({ facts }) => facts.chunk);
}

describe('compaction', () => {
  test('runs by itself soon after something was forgotten, and leaves alone what is not worth it', async () => {
    const clock = new FakeClock();
    const store = await openStore({ clock });
    const chunks = noise(40, 100_000);
    await putAll(store, chunks);
    await store.forget(idsOf(chunks).slice(0, 1));
    await clock.advance(10_000);
    assert.equal(store.stats().compactedSegments, 0, 'a tenth of a segment is dead');
    await store.forget(idsOf(chunks).slice(0, 25));
    await clock.until(() => store.stats().deadBytes < 1.25 * MiB, { withinMs: 60_000 });
    assert.ok(store.stats().compactedSegments >= 2);
    await holds(store, chunks.slice(25));
    await clock.finish(store[Symbol.asyncDispose]());
  });

  test('copies no more bytes a second than it may, and all at once when asked to', async () => {
    for (const asked of [false, true]) {
      const clock = new FakeClock();
      const store = await openStore({ clock, compactionBytesPerSecond: 100_000 });
      const chunks = noise(10, 90_000);
      await putAll(store, chunks);
      await store.forget(idsOf(chunks.slice(0, 3)));
      await putAll(store, noise(10, 90_000, 100));
      const beganMs = clock.bootMs();
      const compacted = asked ? store.compact() : undefined;
      await clock.until(() => store.stats().deadBytes < 50_000, { withinMs: 60_000 });
      await compacted;
      const tookMs = clock.bootMs() - beganMs;
      if (asked) assert.ok(tookMs < 100, `${tookMs} ms`);
      else {
        const copyingMs = tookMs - QUIET_AFTER_MS;
        assert.ok(copyingMs > 6_000 && copyingMs < 9_000, `${copyingMs} ms for 7 chunks of 90 kB`);
      }
      await holds(store, [...chunks.slice(3), ...noise(10, 90_000, 100)]);
      await clock.finish(store[Symbol.asyncDispose]());
    }
  });

  test('D4: what a drain empties is removed whole, and nothing of it is copied meanwhile', async () => {
    const clock = new FakeClock();
    const store = await openStore({ clock });
    const chunks = noise(40, 100_000);
    await putAll(store, chunks);
    for (const chunk of chunks.slice(0, 36)) {
      await store.forget([chunk.facts.chunk]);
      await clock.advance(QUIET_AFTER_MS / 2);
    }
    const { compactedSegments, compactedBytes } = store.stats();
    assert.ok(compactedSegments >= 3, `${compactedSegments} segments are gone`);
    assert.equal(compactedBytes, 0);
    await holds(store, chunks.slice(36));
    await clock.finish(store[Symbol.asyncDispose]());
  });

  test('D4: a segment that loses a record now and then, and is never quiet, is copied in the end', async () => {
    const clock = new FakeClock();
    const store = await openStore({ clock });
    // 250 records a segment; one goes every five seconds.
    const chunks = noise(600, 4_000);
    await putAll(store, chunks);
    const worn = chunks.slice(0, Math.ceil(LEFT_ALONE_MAX_MS / 5_000) + 40);
    for (const chunk of worn) {
      await store.forget([chunk.facts.chunk]);
      await clock.advance(5_000);
    }
    assert.ok(store.stats().compactedBytes > 0);
    await holds(store, chunks.slice(worn.length));
    await clock.finish(store[Symbol.asyncDispose]());
  });

  test('a read that is under way goes on when its chunk is moved', async () => {
    for (const content of ['noise', 'text'] as const) {
      const store = await openStore({ segmentBytes: 12 * MiB, reserveBytes: 24 * MiB });
      const chunks = [scratchChunk(1, 4 * MiB), scratchChunk(2, 4 * MiB, content), scratchChunk(3, 2 * MiB)] as const;
      await putAll(store, chunks);
      const { facts, frames } = chunks[1];
      const pieces: Buffer[] = [];
      for await (const piece of store.read(facts.chunk, 0, facts.rawLength)) {
        pieces.push(Buffer.from(piece));
        if (pieces.length !== 2) continue;
        await store.forget([chunks[0].facts.chunk]);
        await store.compact();
      }
      assert.ok(store.stats().compactedSegments > 0);
      assert.ok(Buffer.concat(pieces).equals(Buffer.concat(frames)), content);
      await store[Symbol.asyncDispose]();
    }
  });

  test('puts, forgets and reads go on while it works, and every byte is right', async () => {
    const random = new SeededRandom(17);
    const clock = new FakeClock();
    const disk = new FakeDisk({ clock, random, latencyMs: () => randomBelow(random, 3) });
    const options = { disk, clock, segmentBytes: 200_000, reserveBytes: 1 * MiB, compactionBytesPerSecond: 2 * MiB };
    const store = await clock.finish(openStore(options));
    const present = new Map<number, ScratchChunk>();
    const busy = new Set<number>();
    let breach: unknown;
    const act = async (n: number): Promise<void> => {
      const known = present.get(n);
      const chunk = scratchId(n);
      if (known === undefined) {
        const fresh = scratchChunk(
          n,
          1 + randomBelow(random, 30_000),
          n % 2 === 0 ? 'text' : 'noise',
          n + clock.bootMs(),
        );
        await store.put(fresh.facts, fresh.frames);
        present.set(n, fresh);
      } else if (randomBelow(random, 2) === 0) {
        await store.forget([chunk]);
        present.delete(n);
        await failsWith('chunk_missing', readRaw(store, chunk, 0, 1));
      } else {
        assert.ok((await readRaw(store, chunk, 0, known.raw.length)).equals(known.raw), `bytes of ${n}`);
      }
    };
    for (let step = 0; step < 4_000 && breach === undefined; step++) {
      const n = randomBelow(random, 150);
      if (!busy.has(n)) {
        busy.add(n);
        act(n).then(
          () => busy.delete(n),
          (error: unknown) => {
            breach = error;
          },
        );
      }
      if (step === 2_000) store.compact().catch((error: unknown) => (breach = error));
      await clock.advance(randomBelow(random, 4));
    }
    await clock.until(() => busy.size === 0 || breach !== undefined, { withinMs: 60_000 });
    if (breach !== undefined) throw breach;
    assert.ok(store.stats().compactedSegments > 20, `${store.stats().compactedSegments} segments`);
    assert.equal(store.stats().chunkCount, present.size);
    await clock.finish(store.compact());
    await clock.finish(holds(store, [...present.values()]));
    const { usedBytes } = store.stats();
    await clock.finish(store[Symbol.asyncDispose]());
    const again = await openStore({ disk: new FakeDisk({ platter: disk.platter }), segmentBytes: 200_000 });
    assert.deepEqual([again.stats().chunkCount, again.stats().usedBytes], [present.size, usedBytes]);
    await holds(again, [...present.values()]);
  });

  test('a store that was filled takes as much again when what it held is forgotten, without being told to', async () => {
    const clock = new FakeClock();
    const disk = new FakeDisk({ platter: new FakePlatter({ capacityBytes: 40 * MiB }) });
    const store = await openStore({ disk, clock });
    const fill = async (first: number): Promise<ScratchChunk[]> => {
      const put: ScratchChunk[] = [];
      for (let number = first; ; number++) {
        const chunk = scratchChunk(number, 300_000);
        try {
          await store.put(chunk.facts, chunk.frames);
          put.push(chunk);
        } catch (error) {
          assert.ok(error instanceof CollectiveError && error.code === 'no_space', String(error));
          return put;
        }
      }
    };
    const once = await fill(1);
    const usedBytes = store.stats().usedBytes;
    await store.forget(idsOf(once).filter((_id, i) => i % 2 === 0));
    await clock.until(() => store.stats().deadBytes < usedBytes * 0.05, { withinMs: 60_000 });
    await store.forget(idsOf(once));
    await clock.until(() => store.stats().usedBytes <= usedBytes * 0.02, { withinMs: 60_000 });
    assert.equal((await fill(1_000)).length, once.length);
    await clock.finish(store[Symbol.asyncDispose]());
  });

  test('a full store of the smallest chunks can be emptied in any order: tombstones leave room for compaction', async () => {
    const clock = new FakeClock();
    const random = new SeededRandom(5);
    const capacityBytes = 10 * MiB;
    const store = await openStore({ clock, capacityBytes, reserveBytes: 20_000, segmentBytes: 10_000 });
    const large = [...noise(2, 4 * MiB, 100_000), ...noise(1, 1.6 * MiB, 200_000)];
    await putAll(store, large);
    const left: ScratchChunk[] = [];
    for (let number = 1; store.stats().freeBytes > 1_000; number++) {
      const chunk = scratchChunk(number, 1);
      await store.put(chunk.facts, chunk.frames);
      left.push(chunk);
    }
    assert.ok(left.length > 1_500, `${left.length} chunks`);
    let refusals = 0;
    while (left.length > 0) {
      const at = randomBelow(random, left.length);
      const chunk = left[at]?.facts.chunk ?? assert.fail();
      try {
        await store.forget([chunk]);
        left.splice(at, 1);
      } catch (error) {
        assert.ok(error instanceof CollectiveError && error.code === 'no_space', String(error));
        assert.ok(++refusals < 5_000, 'it goes on');
        assert.equal(store.has(chunk), true);
        await clock.advance(1_000);
      }
      assert.ok(store.stats().usedBytes <= capacityBytes - 10_000 + 256, `${store.stats().usedBytes} used`);
    }
    assert.ok(refusals > 0, 'the reserve was used up to its half');
    await clock.until(() => store.stats().deadBytes < 20_000, { withinMs: 600_000 });
    await holds(store, large);
    await clock.finish(store[Symbol.asyncDispose]());
  });

  test('M10: when a compaction that was asked for has ended, the room that it gave back is there to write', async () => {
    const clock = new FakeClock();
    class SlowToTell extends FakeDisk {
      override async space(): Promise<DiskSpace> {
        await sleep(clock, 50);
        return super.space();
      }
    }
    const disk = new SlowToTell({ platter: new FakePlatter({ capacityBytes: 40 * MiB }) });
    const store = await clock.finish(openStore({ disk, clock }));
    const { freeBytes } = store.stats();
    const chunks = noise(12, 200_000);
    await clock.finish(putAll(store, chunks));
    await clock.finish(store.forget(idsOf(chunks)));
    await clock.finish(store.compact());
    assert.ok(freeBytes - store.stats().freeBytes < 10_000, `${store.stats().freeBytes} of ${freeBytes}`);
    await clock.finish(store[Symbol.asyncDispose]());
  });

  test('without room for a copy it takes nothing away, and tries again later', async () => {
    const clock = new FakeClock();
    const platter = new FakePlatter({ capacityBytes: 40 * MiB });
    const disk = new FakeDisk({ platter });
    const store = await openStore({ disk, clock });
    const chunks = noise(12, 200_000);
    await putAll(store, chunks);
    // Somebody else fills the disk.
    platter.makeFolders('other');
    const other = platter.create('other/file');
    other.truncate(platter.freeBytes - 100_000);
    const kept = chunks.filter((_chunk, i) => i % 2 === 0);
    await store.forget(idsOf(chunks.filter((_chunk, i) => i % 2 === 1)));
    await failsWith('no_space', store.compact());
    await clock.advance(120_000);
    assert.equal(store.failed.aborted, false);
    assert.equal(store.stats().compactedSegments, 0);
    await holds(store, kept);
    assert.deepEqual(
      (await disk.list(SEGMENT_FOLDER)).filter((name) => name.endsWith('.new')),
      [],
    );
    other.truncate(0);
    await clock.until(() => store.stats().deadBytes < 300_000, { withinMs: 120_000 });
    await holds(store, kept);
    await clock.finish(store[Symbol.asyncDispose]());
  });

  test('a record without a readable header keeps its segment until it is replaced; what else is worn goes on', async () => {
    const disk = new FakeDisk();
    const store = await openStore({ disk });
    const chunks = noise(16, 100_000);
    await putAll(store, chunks);
    const [first, second] = chunks;
    assert.ok(first !== undefined && second !== undefined);
    const { offset } = await placeOf(disk, 1, second);
    await flip(disk, 1, offset + 20);
    const gone = chunks.filter((_chunk, i) => i % 2 === 0);
    await store.forget(idsOf(gone));
    await store.compact();
    assert.deepEqual(store.damaged, [second.facts.chunk]);
    assert.equal(await disk.exists(segmentPath(1)), true);
    assert.equal(await disk.exists(segmentPath(2)), false);
    await failsWith('chunk_corrupt', store.verify(second.facts.chunk));
    assert.equal((await store.replace(second.facts, second.frames)).alreadyHere, false);
    await store.compact();
    assert.equal(await disk.exists(segmentPath(1)), false);
    await holds(
      store,
      chunks.filter((_chunk, i) => i % 2 === 1),
    );
    assert.equal(store.stats().deadBytes < 2_000, true);
    await store[Symbol.asyncDispose]();
  });

  test('a chunk with damaged frames is moved as it is: it stays damaged, and its whole frames can still be read', async () => {
    const disk = new FakeDisk();
    let store = await openStore({ disk });
    const chunks = [scratchChunk(1, 300_000), scratchChunk(2, 300_000)] as const;
    await putAll(store, chunks);
    await store.sync();
    const { offset } = await placeOf(disk, 1, chunks[1]);
    await flip(disk, 1, offset + 200_000);
    await store.forget([chunks[0].facts.chunk]);
    await store.compact();
    const check = async (): Promise<void> => {
      assert.deepEqual(store.damaged, [chunks[1].facts.chunk]);
      assert.equal(await disk.exists(segmentPath(1)), false);
      await failsWith('chunk_corrupt', readRaw(store, chunks[1].facts.chunk, 131_072, 10));
      assert.ok((await readRaw(store, chunks[1].facts.chunk, 0, 1000)).equals(chunks[1].raw.subarray(0, 1000)));
    };
    await check();
    await store[Symbol.asyncDispose]();
    store = await openStore({ disk });
    await check();
  });

  test('a damaged tombstone is written anew: what it covers stays away', async () => {
    const disk = new FakeDisk();
    let store = await openStore({ disk });
    const chunks = noise(22, 100_000);
    const [first] = chunks;
    assert.ok(first !== undefined);
    await putAll(store, chunks.slice(0, 11));
    // Its tombstone lies in segment 2, with chunks that go later.
    await store.forget([first.facts.chunk]);
    await putAll(store, chunks.slice(11));
    const { offset } = await placeOf(disk, 2, first);
    await flip(disk, 2, offset + 20);
    await store.forget(idsOf(chunks.slice(12)));
    await store.sync();
    // As by the store itself: segment 1 is not worn, so the dead record and its tombstone must stay.
    const clock = new FakeClock();
    await store[Symbol.asyncDispose]();
    store = await openStore({ disk, clock });
    await clock.until(() => store.stats().compactedSegments > 0, { withinMs: 60_000 });
    await clock.advance(60_000);
    assert.equal(await disk.exists(segmentPath(1)), true);
    assert.equal(await disk.exists(segmentPath(2)), false);
    await clock.finish(store[Symbol.asyncDispose]());
    store = await openStore({ disk });
    assert.equal(store.has(first.facts.chunk), false);
    await holds(store, chunks.slice(1, 12));
  });

  test('removed segments are not held open', async (t) => {
    if (process.platform !== 'linux') return t.skip('no /proc');
    const folder = await mkdtemp(join(tmpdir(), 'collective-store-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const store = await openStore({ disk: await FileDisk.at(folder), clock: new SystemClock() });
    const chunks = noise(30, 100_000);
    await putAll(store, chunks);
    await Promise.all([holds(store, chunks.slice(0, 20)), store.forget(idsOf(chunks.slice(20))), store.compact()]);
    await store.forget(idsOf(chunks.slice(0, 20)));
    await store.compact();
    const open: string[] = [];
    for (const fd of await readdir('/proc/self/fd'))
      open.push(await readlink(`/proc/self/fd/${fd}`).catch(() => 'closed meanwhile'));
    assert.deepEqual(
      open.filter((path) => path.startsWith(folder) && path.endsWith('(deleted)')),
      [],
    );
    assert.equal(store.stats().usedBytes, 0);
    await store[Symbol.asyncDispose]();
  });
});

/** Where the chunk's last record lies in a segment, found by its id. */
async function placeOf(disk: FakeDisk, segment: number, { facts }: ScratchChunk): Promise<{ offset: number }> {
  const bytes = (await readWhole(disk, segmentPath(segment), 64 * MiB)) ?? assert.fail(`no segment ${segment}`);
  const at = bytes.lastIndexOf(Buffer.from(facts.chunk, 'hex'));
  assert.ok(at > SEGMENT_HEADER_BYTES, `chunk ${facts.chunk} in segment ${segment}`);
  return { offset: at - 16 };
}

async function flip(disk: FakeDisk, segment: number, offset: number): Promise<void> {
  const found = disk.platter.files().find(({ path }) => path === segmentPath(segment));
  assert.ok(found !== undefined);
  found.content.flipBit(offset, 3);
}
