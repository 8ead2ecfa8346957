/**
 * How cost grows: creates and lookups at a thousand, a hundred thousand and a million files, memory per million inodes,
 * start-up of coordinator and node with a million files.
 *
 *   npm run bench -- growth
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileDisk } from '@collective/base/disk/file-disk';
import { chunkIdOf } from '@collective/base/ids';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { FileChunkStore } from '@collective/node/chunk-store/file-chunk-store';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { BenchMember } from './bench-member.ts';
import { type Figures, rateAtDepth, secondsOf } from './figures.ts';
import { lookup, make } from './metadata.bench.ts';

const SIZES = [1_000, 100_000, 1_000_000];
const FILES_PER_DIRECTORY = 10_000;
const SAMPLE = 10_000;
const DEPTH = 32;
const FILL_DEPTH = 256;

export async function growthBench(figures: Figures): Promise<void> {
  await using member = await BenchMember.start();
  {
    await using session = await member.session();
    const directories: number[] = [];
    const directoryOf = async (i: number): Promise<number> =>
      (directories[Math.floor(i / FILES_PER_DIRECTORY)] ??= await make(
        session,
        1,
        `d${Math.floor(i / FILES_PER_DIRECTORY)}`,
        2,
      ));
    // The rate, and what it costs the coordinator, which does not depend on who else is at work.
    const both = async (name: string, count: number, act: (i: number) => Promise<unknown>): Promise<void> => {
      const cpuBefore = await member.coordinatorCpuSeconds();
      figures.add({ name, value: await rateAtDepth(DEPTH, count, act), unit: '/s' });
      const cpuSeconds = (await member.coordinatorCpuSeconds()) - cpuBefore;
      figures.add({
        name: 'processor time of the coordinator for each',
        value: (cpuSeconds / count) * 1e6,
        unit: 'us',
      });
    };
    let made = 0;
    let emptyBytes = 0;
    for (const size of SIZES) {
      for (let at = made; at < size; at += FILES_PER_DIRECTORY) await directoryOf(at);
      const from = made;
      await rateAtDepth(FILL_DEPTH, size - from, async (i) =>
        make(session, await directoryOf(from + i), `f${from + i}`, 1),
      );
      made = size;
      const sampled = await make(session, 1, `sample-${size}`, 2);
      await both(`creates, depth 32, stable, at ${size} files`, SAMPLE, (i) => make(session, sampled, `s${i}`, 1));
      const spread = (i: number): number => Math.floor((i * 7919 * 104_729) % made);
      await both(`lookups of random files, depth 32, at ${size} files`, SAMPLE * 2, async (i) =>
        lookup(session, await directoryOf(spread(i)), `f${spread(i)}`),
      );
      const residentBytes = await member.coordinatorMemoryBytes();
      if (size === SIZES[0]) emptyBytes = residentBytes;
      figures.add({ name: `coordinator memory at ${size} files`, value: residentBytes / 1e6, unit: 'MB' });
      if (size === SIZES.at(-1))
        figures.add({
          name: 'coordinator memory per million inodes',
          value: (((residentBytes - emptyBytes) / size) * 1e6) / 1e6,
          unit: 'MB',
          note: 'its cache is bounded',
        });
    }
  }
  await member.down();
  figures.add({
    name: 'start of the whole member with a million files',
    value: await secondsOf(() => member.up()),
    unit: 's',
    note: 'coordinator, two nodes, until ready',
  });
  figures.add({
    name: 'processor time of the coordinator for it',
    value: await member.coordinatorCpuSeconds(),
    unit: 's',
  });
  await nodeStart(figures, 1_000_000);
}

/** A store of small chunks, filled in this process, then opened again: from sidecars, and by scanning the last segment. */
async function nodeStart(figures: Figures, chunks: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-bench-store-'));
  const clock = new SystemClock();
  const random = new SystemRandom();
  const open = async (): Promise<FileChunkStore> =>
    FileChunkStore.open({ disk: await FileDisk.at(folder), clock, random, capacityBytes: 60e9 });
  try {
    {
      await using store = await open();
      const encoded = encodeChunk([randomBytes(4096)], { compress: false });
      const epoch = { generation: 1, start: 1 };
      const rate = await rateAtDepth(256, chunks, (i) =>
        store.put(
          { chunk: chunkIdOf(epoch, i + 1), rawLength: 4096, digest: encoded.digest, inode: 0, block: 0, epoch },
          encoded.frames,
        ),
      );
      figures.add({ name: 'chunks of 4 KiB into a store, in process', value: rate, unit: '/s' });
    }
    const before = process.memoryUsage().rss;
    let opened: FileChunkStore | undefined;
    const cpuBefore = process.cpuUsage();
    const seconds = await secondsOf(async () => {
      opened = await open();
    });
    const { user, system } = process.cpuUsage(cpuBefore);
    figures.add({ name: `start of a node's store with ${chunks} chunks`, value: seconds, unit: 's' });
    figures.add({ name: 'processor time for it', value: (user + system) / 1e6, unit: 's' });
    figures.add({ name: 'memory of its index', value: (process.memoryUsage().rss - before) / 1e6, unit: 'MB' });
    await opened?.[Symbol.asyncDispose]();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
