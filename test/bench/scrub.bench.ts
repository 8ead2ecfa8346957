/**
 * What a node's store does in the background, in this process, beside a plain sequential read and a synced copy of the same bytes in
 * the same run: a scrub at full speed, compaction, and what reads in the foreground feel of a scrub. Rounds alternate and the
 * best of each counts, since the machine is rarely alone.
 *
 *   npm run bench -- scrub
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { alignedMemory } from '@collective/base/disk/direct-file';
import { FileDisk } from '@collective/base/disk/file-disk';
import { type ChunkId, chunkIdOf } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { FileChunkStore } from '@collective/node/chunk-store/file-chunk-store';
import { Scrubber } from '@collective/node/scrub/scrubber';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { type Figures, rateAtDepth, secondsOf } from './figures.ts';
import { plainFileCopy } from './reference-copies.ts';

const MiB = 1024 * 1024;
const ROUNDS = 3;
const READ_BYTES = 8 * MiB;
const EPOCH = { generation: 1, start: 1 };
const SIZES = [
  { name: 'chunks of 4 MiB', length: 4 * MiB, count: 384 },
  { name: 'chunks of 16 KiB', length: 16 * 1024, count: 32_768 },
] as const;

const ALIGNED = [1, 2].map(() => alignedMemory(4 * MiB));
const clock = new SystemClock();
const run = promisify(execFile);

export async function scrubBench(figures: Figures): Promise<void> {
  for (const { name, length, count } of SIZES) {
    const folder = await mkdtemp(join(tmpdir(), 'collective-bench-scrub-'));
    try {
      const disk = await FileDisk.at(folder);
      await using store = await FileChunkStore.open({
        disk,
        clock,
        random: new SystemRandom(),
        capacityBytes: 60e9,
        // Nothing by itself while it is measured.
        compactionBytesPerSecond: 1,
      });
      const damagedFound = (): number => store.stats().damagedFound;
      const source = store.segmentVerifier;
      await using scrubber = await Scrubber.open({ source, damagedFound, disk, clock, log: silentLog });
      await fill(store, length, count);
      await reads(figures, name, folder, scrubber);
      if (length === 4 * MiB) await foreground(figures, store, scrubber, count);
      await compaction(figures, name, store, count);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

async function fill(store: FileChunkStore, length: number, count: number): Promise<void> {
  const kinds = Array.from({ length: 16 }, () => encodeChunk([randomBytes(length)], { compress: false }));
  await rateAtDepth(16, count, async (i) => {
    const encoded = kinds[i % kinds.length];
    if (encoded === undefined) return;
    const facts = {
      chunk: idOf(i),
      rawLength: length,
      digest: encoded.digest,
      inode: 0,
      block: 0,
      epoch: EPOCH,
    } as const;
    await store.put(facts, encoded.frames);
  });
  await store.sync();
}

/**
 * Beside two bare reads. One goes past the page cache, as the scrub does: what it reaches is the disk's speed for whoever must not be
 * answered from memory. The other goes through it, from the disk where a program is there that takes files out of the page cache:
 * the kernel reads ahead there, into larger pieces of memory than a program has, which some virtual disks serve faster.
 */
async function reads(figures: Figures, name: string, folder: string, scrubber: Scrubber): Promise<void> {
  let [plain, direct, scrub] = [0, 0, 0];
  let cpuSeconds = Number.POSITIVE_INFINITY;
  let evicted = true;
  for (let round = 0; round < ROUNDS; round++) {
    evicted = (await evict(folder)) && evicted;
    plain = Math.max(plain, await rateOf(() => readPlainly(folder)));
    const cpu = process.cpuUsage();
    const verified = scrubber.verifiedBytes;
    scrub = Math.max(scrub, await rateOf(() => pass(scrubber)));
    const { user, system } = process.cpuUsage(cpu);
    if (scrubber.rememberedBytes === 0) direct = Math.max(direct, await rateOf(() => readDirectly(folder)));
    cpuSeconds = Math.min(cpuSeconds, (user + system) / 1e6 / ((scrubber.verifiedBytes - verified) / 1e9));
  }
  const from = evicted ? 'from the disk' : 'perhaps from the page cache';
  figures.add({ name: `plain sequential read, ${name}, ${from}`, value: plain, unit: 'MB/s' });
  if (direct > 0) figures.add({ name: `the same past the page cache, ${name}`, value: direct, unit: 'MB/s' });
  figures.add({ name: `scrub, ${name}`, value: scrub, unit: 'MB/s' });
  figures.add({ name: `CPU of a scrub, ${name}`, value: cpuSeconds, unit: 's/GB' });
  if (direct === 0) {
    const note = 'through the page cache: no direct reads here';
    figures.add({ name: `scrub / plain read, ${name}`, value: scrub / plain, unit: '', goal: 0.7, note });
    return;
  }
  figures.add({ name: `scrub / plain read past the page cache, ${name}`, value: scrub / direct, unit: '', goal: 0.7 });
  figures.add({ name: `scrub / plain read through it, ${name}`, value: scrub / plain, unit: '' });
}

/** Reads of 128 KiB beside a scrub at full speed and without one: 99 of 100 are faster. */
async function foreground(figures: Figures, store: FileChunkStore, scrubber: Scrubber, count: number): Promise<void> {
  const alone = await slowReadMs(store, count, 2_000);
  let scrubbing = true;
  const passes = (async (): Promise<void> => {
    while (scrubbing) await pass(scrubber);
  })();
  const beside = await slowReadMs(store, count, 2_000);
  scrubbing = false;
  await passes;
  figures.add({ name: 'read of 128 KiB, p99, alone', value: alone, unit: 'ms' });
  figures.add({ name: 'read of 128 KiB, p99, beside a scrub at full speed', value: beside, unit: 'ms' });
}

async function slowReadMs(store: FileChunkStore, count: number, samples: number): Promise<number> {
  const took: number[] = [];
  for (let i = 0; i < samples; i++) {
    const chunk = idOf((i * 7919) % count);
    const seconds = await secondsOf(async () => {
      for await (const piece of store.read(chunk, ((i * 31) % 32) * 128 * 1024, 128 * 1024))
        if (piece.length === 0) return;
    });
    took.push(seconds * 1000);
  }
  took.sort((a, b) => a - b);
  return took[Math.floor(samples * 0.99)] ?? 0;
}

/** Every second chunk is forgotten: half of each segment is copied. */
async function compaction(figures: Figures, name: string, store: FileChunkStore, count: number): Promise<void> {
  const half = Array.from({ length: count / 2 }, (_unused, i) => idOf(2 * i));
  figures.add({
    name: `forgets, ${name}, a thousand at once, stable`,
    value: half.length / (await secondsOf(() => forgetAll(store, half))),
    unit: '/s',
  });
  const before = store.stats();
  const seconds = await secondsOf(() => store.compact());
  const after = store.stats();
  const copied = after.compactedBytes - before.compactedBytes;
  const block = randomBytes(64 * MiB);
  const plain = copied / 1e6 / (await secondsOf(() => plainFileCopy(block, copied)));
  figures.add({ name: `plain file, synced, as many bytes`, value: plain, unit: 'MB/s' });
  figures.add({ name: `compaction, ${name}, copied`, value: copied / 1e6 / seconds, unit: 'MB/s' });
  figures.add({ name: `compaction / plain file, ${name}`, value: copied / 1e6 / seconds / plain, unit: '' });
  figures.add({
    name: `compaction, ${name}, given back`,
    value: (before.usedBytes - after.usedBytes) / 1e6 / seconds,
    unit: 'MB/s',
  });
}

async function forgetAll(store: FileChunkStore, chunks: readonly ChunkId[]): Promise<void> {
  for (let at = 0; at < chunks.length; at += 1000) await store.forget(chunks.slice(at, at + 1000));
}

async function pass(scrubber: Scrubber): Promise<number> {
  const before = scrubber.verifiedBytes;
  scrubber.beginNow();
  while (scrubber.report().passBegan !== undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  return scrubber.verifiedBytes - before;
}

async function rateOf(act: () => Promise<number>): Promise<number> {
  let bytes = 0;
  const seconds = await secondsOf(async () => {
    bytes = await act();
  });
  return bytes / 1e6 / seconds;
}

async function readPlainly(folder: string): Promise<number> {
  const into = Buffer.allocUnsafe(READ_BYTES);
  let bytes = 0;
  for (const path of await segmentsOf(folder)) {
    const file = await open(path);
    for (let at = 0; ; ) {
      const { bytesRead } = await file.read(into, 0, READ_BYTES, at);
      if (bytesRead === 0) break;
      at += bytesRead;
      bytes += bytesRead;
    }
    await file.close();
  }
  return bytes;
}

/** Two reads at a time, into memory that begins with a page. */
async function readDirectly(folder: string): Promise<number> {
  let bytes = 0;
  for (const path of await segmentsOf(folder)) {
    const file = await open(path, constants.O_RDONLY | constants.O_DIRECT);
    let next = 0;
    const readOn = async (into: Uint8Array): Promise<void> => {
      for (;;) {
        const at = next;
        next += into.length;
        const { bytesRead } = await file.read(into, 0, into.length, at);
        bytes += bytesRead;
        if (bytesRead < into.length) return;
      }
    };
    await Promise.all(ALIGNED.map(readOn));
    await file.close();
  }
  return bytes;
}

/** Takes the files out of the page cache, where a program is there that can. */
async function evict(folder: string): Promise<boolean> {
  try {
    for (const path of await segmentsOf(folder))
      await run('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
    return true;
  } catch {
    return false;
  }
}

async function segmentsOf(folder: string): Promise<string[]> {
  const names = (await readdir(join(folder, 'segments'))).filter((name) => name.endsWith('.seg')).sort();
  return names.map((name) => join(folder, 'segments', name));
}

function idOf(i: number): ChunkId {
  return chunkIdOf(EPOCH, i + 1);
}
