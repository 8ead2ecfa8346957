/** What was written lately is read for the first time within one period, over restarts and compactions (D8). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replaceWhole } from '@collective/base/disk';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { FakeClock } from '@collective/base/fake-clock';
import { silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import { FileChunkStore } from '../chunk-store/file-chunk-store.ts';
import { type ScratchChunk, scratchChunk } from '../chunk-store/scratch-chunk.ts';
import { FirstReading } from './first-reading.ts';

const MiB = 1024 * 1024;
const PERIOD_S = 1_000;

class World {
  readonly clock = new FakeClock({ startSeconds: 1_800_000_000 });
  readonly disk = new FakeDisk();
  store!: FileChunkStore;
  reading!: FirstReading;
  #number = 0;

  static async open(): Promise<World> {
    const world = new World();
    await world.start();
    return world;
  }

  async start(): Promise<void> {
    const { disk, clock } = this;
    const room = { capacityBytes: 256 * MiB, reserveBytes: 4 * MiB, segmentBytes: 2 * MiB };
    this.store = await clock.finish(FileChunkStore.open({ disk, clock, random: new SeededRandom(3), ...room }));
    const source = this.store.segmentVerifier;
    this.reading = await clock.finish(FirstReading.open({ source, disk, clock, log: silentLog }));
    this.reading.setPeriod(PERIOD_S);
  }

  async stop(): Promise<void> {
    await this.clock.finish(this.reading[Symbol.asyncDispose]());
    await this.clock.finish(this.store[Symbol.asyncDispose]());
  }

  async put(count: number, length = 100_000): Promise<ScratchChunk[]> {
    const chunks = Array.from({ length: count }, () => scratchChunk(++this.#number, length));
    for (const { facts, frames } of chunks) await this.clock.finish(this.store.put(facts, frames));
    await this.clock.finish(this.store.sync());
    return chunks;
  }

  rot({ facts }: ScratchChunk): void {
    for (const { path, content } of this.disk.platter.files()) {
      const bytes = Buffer.alloc(content.size);
      content.readInto(0, bytes);
      const header = path.endsWith('.seg') ? bytes.indexOf(Buffer.from(facts.chunk, 'hex')) : -1;
      if (header >= 0) content.flipBit(header + 5_000, 0);
    }
  }

  later(seconds: number): Promise<void> {
    return this.clock.advance(seconds * 1_000);
  }
}

test('D8: a chunk is read for the first time within one period of when it was written, whenever that was', async () => {
  const world = await World.open();
  const rotten: { readonly chunk: ScratchChunk; readonly beforeMs: number }[] = [];
  const check = (): void => {
    for (const { chunk, beforeMs } of rotten)
      if (world.clock.bootMs() >= beforeMs) assert.ok(world.store.damaged.includes(chunk.facts.chunk));
  };
  for (let i = 0; i < 60; i++) {
    const [chunk = assert.fail()] = await world.put(1 + (i % 5));
    world.rot(chunk);
    rotten.push({ chunk, beforeMs: world.clock.bootMs() + PERIOD_S * 1_000 });
    await world.later(47);
    check();
  }
  await world.later(PERIOD_S);
  check();
  assert.equal(world.store.damaged.length, 60);
  await world.stop();
});

test('what was read for the first time is left to the pass, and what compaction wrote is new', async () => {
  const world = await World.open();
  const chunks = await world.put(60);
  await world.later(PERIOD_S);
  const once = world.reading.verifiedBytes;
  const { usedBytes, deadBytes } = world.store.stats();
  assert.ok(once <= usedBytes - deadBytes && once > 0.99 * (usedBytes - deadBytes), `${once} of ${usedBytes} bytes`);
  await world.later(5 * PERIOD_S);
  assert.equal(world.reading.verifiedBytes, once);
  await world.clock.finish(world.store.forget(chunks.slice(0, 30).map(({ facts }) => facts.chunk)));
  await world.clock.finish(world.store.compact());
  await world.later(PERIOD_S);
  assert.ok(world.reading.verifiedBytes > once);
  await world.stop();
});

test('a restart goes on where it was, also in the middle of a round', async () => {
  const world = await World.open();
  await world.put(80);
  await world.later(PERIOD_S * 0.5 + 3);
  const first = world.reading.verifiedBytes;
  const { usedBytes } = world.store.stats();
  assert.ok(first > 2 * MiB && first < usedBytes / 1.5, `${first} of ${usedBytes} bytes`);
  await world.stop();
  await world.start();
  await world.later(PERIOD_S * 0.5);
  const both = first + world.reading.verifiedBytes;
  // The segment that was being read is read again.
  assert.ok(both > 0.99 * usedBytes && both < usedBytes + 3 * MiB, `${both} of ${usedBytes} bytes`);
  await world.stop();
});

test('without a period nothing is read, and what waited is read when there is one', async () => {
  const world = await World.open();
  world.reading.setPeriod(0);
  await world.put(30);
  await world.later(10 * PERIOD_S);
  assert.equal(world.reading.verifiedBytes, 0);
  world.reading.setPeriod(PERIOD_S);
  await world.later(PERIOD_S / 2);
  assert.ok(world.reading.verifiedBytes > 2.9e6);
  await world.stop();
});

test('what was there before, or when the position was lost, is left to the pass', async () => {
  for (const content of [undefined, '', 'null', '{"format":2}', '{"format":1,"through":-1,"upTo":0,"beganMs":0}']) {
    const world = await World.open();
    await world.put(30);
    await world.stop();
    if (content === undefined) await world.disk.remove('first-reading.json');
    else await replaceWhole(world.disk, 'first-reading.json', Buffer.from(content));
    await world.start();
    await world.later(2 * PERIOD_S);
    assert.equal(world.reading.verifiedBytes, 0, content);
    await world.put(30);
    await world.later(PERIOD_S);
    assert.ok(world.reading.verifiedBytes > 2.9e6, content);
    await world.stop();
  }
});
