/**
 * What the coordinator's own work costs with a million chunks, each of a file of its own and on two nodes: how long each job
 * takes, how much memory it needs beside the engine's bounded cache, and what an operation meanwhile waits. Nodes answer at
 * once, so this is the coordinator's share alone.
 *
 *   npm run bench -- background
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { FileDisk } from '@collective/base/disk/file-disk';
import { type ChunkId, chunkIdOf, chunkIdToBytes, type InodeNumber, type NodeName } from '@collective/base/ids';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { Engine } from '@collective/coordinator/engine/engine';
import { ByteRates } from '@collective/coordinator/jobs/byte-rates';
import { FoldJob } from '@collective/coordinator/jobs/fold';
import { GarbageCollector } from '@collective/coordinator/jobs/garbage';
import { InventoryJob } from '@collective/coordinator/jobs/inventory';
import { BlockRelease } from '@collective/coordinator/jobs/release-blocks';
import { FileLog } from '@collective/coordinator/log/file-log';
import { SqliteStore } from '@collective/coordinator/store/sqlite-store';
import { BLOCKS, CHUNKS, DOOMED, XATTRS } from '@collective/coordinator/tables/tables';
import { type Figures, secondsOf } from './figures.ts';

const CHUNKS_COUNT = 1_000_000;
const FILL_ROWS = 1_000;
const EPOCH = { generation: 7, start: 1 };
const NODES = ['n1', 'n2'] as NodeName[];
const DAY = 86_400;
const PROBE_EVERY_MS = 10;
const round = { signal: new AbortController().signal, progress: () => undefined };
const id = (number: number): ChunkId => chunkIdOf(EPOCH, number);

export async function backgroundBench(figures: Figures): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-bench-background-'));
  const clock = new SystemClock();
  const disk = await FileDisk.at(folder);
  const log = await FileLog.open({ disk, clock, random: new SystemRandom(), folder: 'log' });
  const store = await SqliteStore.open(join(folder, 'metadata.db'));
  const onFatal = (error: Error): void => {
    throw error;
  };
  const engine = await Engine.start({ clock, log, store, onFatal, cacheEntriesMax: 20_000 });
  try {
    await fill(engine);
    const settings = { garbageGraceSeconds: DAY, garbageWaits: false };
    const orders = {
      listChunks: async (_node: NodeName, after: ChunkId | undefined, limit: number) => {
        const first = after === undefined ? 1 : Number.parseInt(after.slice(16), 16) + 1;
        const last = Math.min(CHUNKS_COUNT, first + limit - 1);
        const chunks = Array.from({ length: last - first + 1 }, (_, i) => id(first + i));
        return { chunks, end: last === CHUNKS_COUNT, sequence: CHUNKS_COUNT, incarnation: 1 };
      },
      forgetChunks: () => Promise.resolve(),
      compact: () => Promise.resolve(),
      verifyChunks: () => Promise.resolve([]),
      foldBlock: () => Promise.reject(new Error('Fold a block: nothing here is to be folded')),
      fetchChunks: () => Promise.resolve([]),
    };
    const nothing = (): Promise<void> => Promise.resolve();
    const rates = new ByteRates({ clock, bytesPerSecond: () => 2 ** 40 });
    const inventory = new InventoryJob({
      clock,
      engine,
      orders,
      rates,
      stores: () => [{ node: 'n1' as NodeName, disk: 'disk-n1', incarnation: 1, stableSequence: CHUNKS_COUNT }],
      onMissing: () => undefined,
    });
    await measure(figures, engine, 'compare the list of a node', () => inventory.work(round));
    const fold = new FoldJob({
      clock,
      engine,
      orders,
      rates,
      candidates: () => [],
      drawChunkId: () => id(0),
      recallData: nothing,
    });
    await measure(figures, engine, 'survey all blocks for folds', () => fold.work(round));
    const release = new BlockRelease(engine);
    await remove(engine);
    await measure(figures, engine, 'let go of the blocks of removed files', () => release.work(round));
    const collector = new GarbageCollector({
      clock,
      engine,
      orders,
      settings: () => settings,
      diskOf: (node) => `disk-${node}`,
      releaseBlocks: nothing,
      replaysOver: nothing,
      ownsChunk: () => false,
    });
    await measure(figures, engine, 'walk over garbage that is young', () => collector.work(round));
    settings.garbageGraceSeconds = 0;
    await measure(figures, engine, 'collect garbage', () => collector.work(round));
    if (collector.figures.collectedChunks !== CHUNKS_COUNT)
      throw new Error(`Collect ${CHUNKS_COUNT} chunks: ${collector.figures.collectedChunks} were`);
  } finally {
    await engine.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function fill(engine: Engine): Promise<void> {
  const digest = Buffer.alloc(8, 1);
  for (let from = 1; from <= CHUNKS_COUNT; from += FILL_ROWS)
    await engine.run(
      (tx) => {
        for (let number = from; number < from + FILL_ROWS; number++) {
          const chunk = chunkIdToBytes(id(number));
          const replicas = NODES.map((node) => ({
            node,
            disk: `disk-${node}`,
            stable: true,
            incarnation: 1,
            sequence: number,
            damaged: false,
          }));
          const sizes = { length: 20_000, storedLength: 20_024 };
          const row = { ...sizes, digest, replicas, wanted: 2, references: 1, inode: number, block: 0, realm: 1 };
          tx.put(CHUNKS, row, id(number));
          tx.put(BLOCKS, { version: 1, slices: [{ offset: 0, length: 20_000, chunk, chunkOffset: 0 }] }, number, 0);
        }
      },
      { durability: 'written' },
    );
}

async function remove(engine: Engine): Promise<void> {
  for (let from = 1; from <= CHUNKS_COUNT; from += FILL_ROWS)
    await engine.run(
      (tx) => {
        for (let number = from; number < from + FILL_ROWS; number++)
          tx.put(DOOMED, { since: tx.now, inode: number, size: 20_000, realm: 1 }, number);
      },
      { durability: 'written' },
    );
}

async function measure(figures: Figures, engine: Engine, name: string, work: () => Promise<void>): Promise<void> {
  const clock = new SystemClock();
  collectHeap();
  const before = process.memoryUsage().heapUsed;
  let peak = before;
  const waits: number[] = [];
  let over = false;
  const probing = (async () => {
    for (let i = 0; !over; i++) {
      const beganMs = performance.now();
      await engine.run((tx) => tx.put(XATTRS, { value: Buffer.alloc(8) }, 1 as InodeNumber, 'probe'));
      waits.push(performance.now() - beganMs);
      if (i % 20 === 0) peak = Math.max(peak, process.memoryUsage().heapUsed);
      await new Promise<void>((resolve) => clock.setTimer(PROBE_EVERY_MS, resolve));
    }
  })();
  const cpuBefore = process.cpuUsage();
  const seconds = await secondsOf(work);
  const { user, system } = process.cpuUsage(cpuBefore);
  over = true;
  await probing;
  waits.sort((a, b) => a - b);
  figures.add({ name: `${name}, a million`, value: seconds, unit: 's' });
  figures.add({ name: '  of processors, all threads and changes meanwhile', value: (user + system) / 1e6, unit: 's' });
  figures.add({ name: '  heap above before, garbage of V8 included', value: (peak - before) / 1e6, unit: 'MB' });
  figures.add({
    name: '  a stable change meanwhile, p50',
    value: waits[Math.floor(waits.length / 2)] ?? 0,
    unit: 'ms',
  });
  figures.add({
    name: '  a stable change meanwhile, p99',
    value: waits[Math.floor(waits.length * 0.99)] ?? 0,
    unit: 'ms',
  });
}

setFlagsFromString('--expose-gc');
const collectHeap = runInNewContext('gc') as () => void;
