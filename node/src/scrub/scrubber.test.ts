/** The scrub over a real chunk store on a fake disk: what it finds, at which pace, and over restarts and compactions (D8). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Disk, type DiskFile, type OpenMode, readWhole, replaceWhole } from '@collective/base/disk';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import type { ChunkId } from '@collective/base/ids';
import { type Log, silentLog } from '@collective/base/log';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { failsWith } from '../chunk-store/chunk-store-contract.ts';
import { FileChunkStore } from '../chunk-store/file-chunk-store.ts';
import { readRaw, type ScratchChunk, scratchChunk } from '../chunk-store/scratch-chunk.ts';
import { SEGMENT_HEADER_BYTES, segmentPath, sidecarPath } from '../chunk-store/segment.ts';
import { Scrubber } from './scrubber.ts';

const MiB = 1024 * 1024;
const HOUR_S = 3_600;

class World {
  readonly clock = new FakeClock();
  readonly disk: Disk;
  store!: FileChunkStore;
  scrubber!: Scrubber;
  #log: Log = silentLog;

  constructor(disk: Disk = new FakeDisk()) {
    this.disk = disk;
  }

  /** `told`: warnings of the scrubber. */
  static async open(disk?: Disk, told: string[] = []): Promise<World> {
    const world = new World(disk);
    world.#log = Object.assign(Object.create(silentLog), { warn: (_facts: object, event: string) => told.push(event) });
    await world.start();
    return world;
  }

  async start(): Promise<void> {
    const { disk, clock } = this;
    const opening = FileChunkStore.open({
      disk,
      clock,
      random: new SeededRandom(3),
      capacityBytes: 256 * MiB,
      reserveBytes: 4 * MiB,
      segmentBytes: 2 * MiB,
    });
    this.store = await clock.finish(opening);
    const { store } = this;
    const damagedFound = (): number => store.stats().damagedFound;
    const source = store.segmentVerifier;
    this.scrubber = await clock.finish(Scrubber.open({ source, damagedFound, disk, clock, log: this.#log }));
  }

  async stop(): Promise<void> {
    await this.clock.finish(this.scrubber[Symbol.asyncDispose]());
    await this.clock.finish(this.store[Symbol.asyncDispose]());
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async put(chunks: readonly ScratchChunk[]): Promise<void> {
    for (const { facts, frames } of chunks) await this.clock.finish(this.store.put(facts, frames));
  }

  /** The whole pass that begins now, at full speed. */
  async pass(): Promise<void> {
    this.scrubber.beginNow();
    await this.clock.until(() => this.scrubber.report().passBegan === undefined, { withinMs: 600_000 });
  }
}

function chunksOf(count: number, length: number, first = 1): ScratchChunk[] {
  return Array.from({ length: count }, (_unused, i) =>
    scratchChunk(first + i, length + 97 * i, i % 5 === 0 ? 'text' : 'noise'),
  );
}

function idsOf(chunks: readonly ScratchChunk[]): ChunkId[] {
  return chunks.map(({ facts }) => facts.chunk);
}

describe('scrubber', () => {
  test('without a period and without being asked it reads nothing', async () => {
    const world = await World.open();
    await world.put(chunksOf(5, 1000));
    await world.clock.advance(100 * HOUR_S * 1000);
    assert.equal(world.scrubber.verifiedBytes, 0);
    const nothing = {
      passBegan: undefined,
      verifiedBytes: 0,
      totalBytes: 0,
      lastBegan: undefined,
      lastEnded: undefined,
      lastDamaged: 0,
      damaged: 0,
    };
    assert.deepEqual(world.scrubber.report(), nothing);
    await world.stop();
  });

  test('D8: a pass that is asked for reads all that counts once, in the open segment too, and takes no pauses', async () => {
    const world = await World.open();
    const chunks = chunksOf(60, 100_000);
    await world.put(chunks);
    await world.clock.finish(world.store.forget(idsOf(chunks).slice(0, 3)));
    const beganMs = world.clock.bootMs();
    await world.pass();
    assert.equal(world.clock.bootMs(), beganMs);
    const { usedBytes, deadBytes } = world.store.stats();
    const headers = SEGMENT_HEADER_BYTES * world.store.segmentVerifier.segments().length;
    // All but the tombstones.
    assert.equal(world.scrubber.verifiedBytes, usedBytes - deadBytes - 3 * 128);
    assert.ok(deadBytes >= headers);
    assert.deepEqual(world.scrubber.report().lastEnded, world.clock.now());
    assert.deepEqual(world.store.damaged, []);
    await world.stop();
  });

  test('D8: bits that flipped in a hundred chunks are all found, and nothing else', async () => {
    const random = new SeededRandom(21);
    const fake = new FakeDisk();
    const world = await World.open(fake);
    const chunks = chunksOf(300, 8_000);
    await world.put(chunks);
    await world.clock.finish(world.store.sync());
    const hit = new Set<ChunkId>();
    const files = fake.platter.files().filter(({ path }) => path.endsWith('.seg'));
    while (hit.size < 100) {
      const { facts, frames } = chunks[randomBelow(random, chunks.length)] ?? assert.fail();
      if (hit.has(facts.chunk)) continue;
      hit.add(facts.chunk);
      for (const { content } of files) {
        const bytes = Buffer.alloc(content.size);
        content.readInto(0, bytes);
        const header = bytes.indexOf(Buffer.from(facts.chunk, 'hex')) - 16;
        if (header < 0) continue;
        // In its header or in a frame, but for the frame's stream id, which means nothing.
        const stored = frames.reduce((sum, frame) => sum + frame.length, 0);
        const at = randomBelow(random, 136 + stored - 4);
        content.flipBit(header + (at < 136 ? at : at + 4), randomBelow(random, 8));
      }
    }
    world.scrubber.setPeriod(HOUR_S);
    await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: HOUR_S * 1000 });
    assert.deepEqual([...world.store.damaged].sort(), [...hit].sort());
    assert.equal(world.scrubber.report().damaged, 100);
    assert.equal(world.scrubber.report().lastDamaged, 100);
    assert.ok((world.scrubber.report().lastBegan?.seconds ?? 0) <= (world.scrubber.report().lastEnded?.seconds ?? 0));
    for (const { facts, frames } of chunks.filter((chunk) => hit.has(chunk.facts.chunk)))
      assert.equal((await world.clock.finish(world.store.replace(facts, frames))).alreadyHere, false);
    assert.deepEqual(world.store.damaged, []);
    await world.pass();
    assert.deepEqual(world.store.damaged, []);
    assert.equal(world.scrubber.report().damaged, 100, 'found since the disk was first used');
    assert.equal(world.scrubber.report().lastDamaged, 0, 'the second pass found nothing');
    await world.restart();
    assert.equal(world.scrubber.report().lastDamaged, 0);
    await world.stop();
  });

  test('D8: what rots on the disk is found while the kernel still remembers what it was', async () => {
    const disk = new RememberingDisk();
    const world = await World.open(disk);
    const chunks = chunksOf(12, 100_000);
    await world.put(chunks);
    await world.clock.finish(world.store.sync());
    const [, second = assert.fail(), third = assert.fail()] = chunks;
    disk.rot(second.facts.chunk);
    disk.rot(third.facts.chunk);
    assert.ok(
      (await world.clock.finish(readRaw(world.store, second.facts.chunk, 0, 1_000))).equals(
        second.raw.subarray(0, 1_000),
      ),
    );
    await world.clock.finish(world.store.verify(second.facts.chunk));
    await world.pass();
    assert.deepEqual([...world.store.damaged].sort(), [second.facts.chunk, third.facts.chunk].sort());
    assert.equal(world.scrubber.rememberedBytes, 0);
    await world.stop();
  });

  test('D8: on a file system that cannot read past the kernel, that is counted, and told once', async () => {
    const told: string[] = [];
    const world = await World.open(new FakeDisk({ readsDirectly: false }), told);
    await world.put(chunksOf(60, 100_000));
    await world.pass();
    await world.pass();
    assert.ok(world.scrubber.verifiedBytes > 8_000_000);
    assert.equal(world.scrubber.rememberedBytes, world.scrubber.verifiedBytes);
    assert.deepEqual(told, ['scrub may read what the kernel remembers: the file system cannot read past it']);
    await world.stop();
  });

  test('a pass takes most of its period, and one begins each period', async () => {
    const world = await World.open();
    await world.put(chunksOf(150, 200_000));
    const beganMs = world.clock.bootMs();
    world.scrubber.setPeriod(24);
    await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: 24_000 });
    const tookMs = world.clock.bootMs() - beganMs;
    assert.ok(tookMs > 0.7 * 24_000 && tookMs <= 24_000, `${tookMs} ms`);
    const once = world.scrubber.verifiedBytes;
    await world.clock.advance(23_500 - tookMs);
    assert.equal(world.scrubber.verifiedBytes, once, 'then it rests');
    await world.clock.advance(8.5 * 24_000);
    const passes = world.scrubber.verifiedBytes / once;
    assert.ok(passes > 9 && passes < 10, `${passes} passes in nine and a half periods, the last is under way`);
    await world.stop();
  });

  test('a pass of months can be waited for: no timer overflows', async () => {
    const world = await World.open();
    await world.put(chunksOf(3, 1000));
    world.scrubber.setPeriod(60 * 24 * HOUR_S);
    await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: 10_000 });
    const once = world.scrubber.verifiedBytes;
    await world.clock.advance(59 * 24 * HOUR_S * 1000);
    assert.equal(world.scrubber.verifiedBytes, once);
    await world.clock.advance(2 * 24 * HOUR_S * 1000);
    assert.equal(world.scrubber.verifiedBytes, 2 * once);
    await world.stop();
  });

  test('a restart goes on where the pass was', async () => {
    const world = await World.open();
    await world.put(chunksOf(100, 200_000));
    const { usedBytes } = world.store.stats();
    world.scrubber.setPeriod(60);
    await world.clock.advance(10_000);
    const first = world.scrubber.report();
    assert.ok(first.verifiedBytes > usedBytes * 0.1 && first.verifiedBytes < usedBytes * 0.9);
    await world.restart();
    const again = world.scrubber.report();
    assert.deepEqual(again.passBegan, first.passBegan);
    world.scrubber.setPeriod(60);
    await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: 60_000 });
    const both = first.verifiedBytes + world.scrubber.verifiedBytes;
    // The segment that was being read is read again.
    assert.ok(both > usedBytes * 0.99 && both < usedBytes + 3 * MiB, `${both} of ${usedBytes}`);
    const { lastEnded } = world.scrubber.report();
    await world.restart();
    assert.deepEqual(world.scrubber.report().lastEnded, lastEnded);
    await world.stop();
  });

  test('D8: a pass that was asked for is at full speed after a restart too', async () => {
    const world = await World.open();
    await world.put(chunksOf(100, 200_000));
    world.scrubber.beginNow();
    const asked = world.scrubber.report().passBegan;
    assert.ok(asked !== undefined);
    await world.restart();
    await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: 1_000 });
    assert.deepEqual(world.scrubber.report().lastBegan, asked, 'without a period, so only because somebody asked');
    await world.stop();
  });

  test('a period that is set to nothing stops a pass where it is, and a new one goes on', async () => {
    const world = await World.open();
    await world.put(chunksOf(100, 200_000));
    world.scrubber.setPeriod(60);
    await world.clock.advance(5_000);
    world.scrubber.setPeriod(0);
    await world.clock.advance(5_000);
    const { verifiedBytes, passBegan } = world.scrubber.report();
    await world.clock.advance(500_000);
    assert.deepEqual(
      [world.scrubber.report().verifiedBytes, world.scrubber.report().passBegan],
      [verifiedBytes, passBegan],
    );
    world.scrubber.setPeriod(600);
    await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: 600_000 });
    await world.stop();
  });

  test('what is forgotten or moved while it is read is no damage, and nothing is left out', async () => {
    const world = await World.open();
    const chunks = chunksOf(120, 100_000);
    await world.put(chunks);
    world.scrubber.setPeriod(30);
    for (let i = 0; i < 60; i++) {
      const { facts } = chunks[i * 2] ?? assert.fail();
      await world.clock.finish(world.store.forget([facts.chunk]));
      if (i % 20 === 19) await world.clock.finish(world.store.compact());
      await world.clock.advance(200);
    }
    await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: 30_000 });
    assert.deepEqual(world.store.damaged, []);
    await world.pass();
    const { usedBytes, deadBytes } = world.store.stats();
    assert.equal(world.store.stats().chunkCount, 60);
    assert.ok(world.scrubber.verifiedBytes >= usedBytes - deadBytes);
    assert.deepEqual(world.store.damaged, []);
    await world.stop();
  });

  test('bytes that the disk does not give are one damaged chunk, not a damaged segment', async () => {
    const fake = new FakeDisk();
    const bad = { from: 0, to: 0 };
    const world = await World.open(withBadSector(fake, bad));
    const chunks = chunksOf(20, 50_000);
    await world.put(chunks);
    const [, second] = chunks;
    assert.ok(second !== undefined);
    const bytes = (await readWhole(fake, segmentPath(1), 4 * MiB)) ?? assert.fail('no segment');
    bad.from = bytes.indexOf(Buffer.from(second.facts.chunk, 'hex')) + 9_000;
    bad.to = bad.from + 512;
    await world.pass();
    assert.deepEqual(world.store.damaged, [second.facts.chunk]);
    await failsWith('chunk_corrupt', readRaw(world.store, second.facts.chunk, 0, 50_000));
    const moved = await world.clock.finish(world.store.replace(second.facts, second.frames));
    assert.equal(moved.alreadyHere, false);
    assert.deepEqual(world.store.damaged, []);
    await world.stop();
  });

  test('a damaged sidecar is made again before a start needs it', async () => {
    const world = await World.open();
    await world.put(chunksOf(30, 100_000));
    await world.restart();
    const before = (await readWhole(world.disk, sidecarPath(1))) ?? assert.fail('no sidecar');
    await replaceWhole(world.disk, sidecarPath(1), Buffer.alloc(200, 7));
    await world.pass();
    assert.ok(before.equals((await readWhole(world.disk, sidecarPath(1))) ?? Buffer.alloc(0)));
    await world.stop();
  });

  test('a segment of which neither sidecar nor records can be listed is still verified', async () => {
    const fake = new FakeDisk();
    const world = await World.open(fake);
    const chunks = chunksOf(10, 100_000);
    await world.put(chunks);
    await world.restart();
    await replaceWhole(world.disk, sidecarPath(1), Buffer.alloc(200, 7));
    const file = fake.platter.files().find(({ path }) => path === segmentPath(1)) ?? assert.fail('no segment');
    const bytes = Buffer.alloc(file.content.size);
    file.content.readInto(0, bytes);
    const [, , third] = chunks;
    assert.ok(third !== undefined);
    file.content.flipBit(bytes.indexOf(Buffer.from(third.facts.chunk, 'hex')) + 3, 1);
    await world.pass();
    assert.deepEqual(world.store.damaged, [third.facts.chunk]);
    await world.stop();
  });

  test('a position that cannot be read is none', async () => {
    for (const content of ['', '{"form', 'null', '7', '{"format":2}', '{"format":1,"beganMs":"x","position":7}']) {
      const disk = new FakeDisk();
      await replaceWhole(disk, 'scrub.json', Buffer.from(content));
      const world = await World.open(disk);
      await world.put(chunksOf(3, 1000));
      world.scrubber.setPeriod(HOUR_S);
      await world.clock.until(() => world.scrubber.report().lastEnded !== undefined, { withinMs: 60_000 });
      assert.ok(world.scrubber.verifiedBytes > 2_000, content);
      await world.stop();
    }
  });
});

/** Who does not read past the kernel's memory is shown what was there before it rotted. */
class RememberingDisk extends FakeDisk {
  readonly #rotten: { readonly path: string; readonly at: number }[] = [];

  rot(chunk: ChunkId): void {
    for (const { path, content } of this.platter.files().filter((file) => file.path.endsWith('.seg'))) {
      const bytes = Buffer.alloc(content.size);
      content.readInto(0, bytes);
      const header = bytes.indexOf(Buffer.from(chunk, 'hex'));
      if (header < 0) continue;
      content.flipBit(header + 5_000, 0);
      this.#rotten.push({ path, at: header + 5_000 });
    }
  }

  override async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const file = await super.open(path, mode);
    if (file.isDirect) return file;
    const readInto = async (offset: number, into: Uint8Array): Promise<number> => {
      const count = await file.readInto(offset, into);
      for (const { at } of this.#rotten.filter((rotten) => rotten.path === path))
        if (at >= offset && at < offset + count) into[at - offset] = (into[at - offset] ?? 0) ^ 1;
      return count;
    };
    return { ...file, readInto };
  }
}

/** Reads that touch the bytes fail as a disk with a bad sector fails them. */
function withBadSector(disk: FakeDisk, bad: { from: number; to: number }): Disk {
  return new Proxy<Disk>(disk, {
    get(target, name) {
      if (name !== 'open') {
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      }
      return async (path: string, mode: Parameters<Disk['open']>[1]): Promise<DiskFile> => {
        const file = await target.open(path, mode);
        if (path !== segmentPath(1)) return file;
        const readInto = async (offset: number, into: Uint8Array): Promise<number> => {
          if (offset < bad.to && offset + into.length > bad.from)
            throw new CollectiveError('disk_failed', 'Read', {
              cause: Object.assign(new Error('EIO'), { code: 'EIO' }),
            });
          return file.readInto(offset, into);
        };
        return { ...file, readInto };
      };
    },
  });
}
