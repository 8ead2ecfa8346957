/**
 * A million small chunks in the segments of one node's store: the store is opened, listed for its coordinator page by page, scrubbed
 * from end to end, loses every second chunk, and is compacted. Somebody puts chunks meanwhile.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '@collective/base/clock';
import { FileDisk } from '@collective/base/disk/file-disk';
import { type ChunkId, chunkIdOf } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { FileChunkStore } from '@collective/node/chunk-store/file-chunk-store';
import { Scrubber } from '@collective/node/scrub/scrubber';
import { type EncodedChunk, encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { type Figures, rateAtDepth } from '../figures.ts';
import { JobMeter } from './job-meter.ts';

const EPOCH = { generation: 1, start: 1 };
const CHUNK_BYTES = 1_024;
const FILL_DEPTH = 256;
/** As a coordinator asks and orders (`inventory.ts`, `garbage.ts`). */
const LIST_PAGE = 2_000;
const FORGET_CHUNKS = 500;
const ASK_EVERY_MS = 10;
const clock = new SystemClock();

export async function storeJobs(figures: Figures, count: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-bench-store-'));
  try {
    const encoded = encodeChunk([randomBytes(CHUNK_BYTES)], { compress: false });
    {
      await using store = await open(folder);
      await rateAtDepth(FILL_DEPTH, count, (i) => put(store, encoded, i));
    }
    await using disk = new AsyncDisposableStack();
    const store = disk.use(await open(folder));
    let puts = 0;
    const probe = async (): Promise<void> => {
      await put(store, encoded, count + puts++);
      await store.sync();
    };
    const meter = new JobMeter({ figures, count, probe, probed: 'a put meanwhile, stable' });
    await meter.measure('list all chunks', async () => {
      const listed = await listAll(store);
      if (listed < count) throw new Error(`List ${count} chunks: ${listed} were`);
    });
    await scrub(folder, store, meter, count);
    const half = Array.from({ length: count / 2 }, (_, i) => idOf(2 * i));
    await meter.measure('forget every second chunk', async () => {
      for (let at = 0; at < half.length; at += FORGET_CHUNKS) await store.forget(half.slice(at, at + FORGET_CHUNKS));
    });
    const before = store.stats();
    await meter.measure('compact what is left', () => store.compact());
    const after = store.stats();
    if (after.chunkCount < count / 2 || after.usedBytes > before.usedBytes * 0.7)
      throw new Error(`Compact ${before.usedBytes} bytes: ${after.usedBytes} are left, of ${after.chunkCount} chunks`);
    await scrub(folder, store, meter, count / 2);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function open(folder: string): Promise<FileChunkStore> {
  // Nothing by itself while it is measured.
  const limits = { capacityBytes: 60e9, compactionBytesPerSecond: 1 };
  return FileChunkStore.open({ ...limits, disk: await FileDisk.at(folder), clock, random: new SystemRandom() });
}

function put(store: FileChunkStore, { digest, frames }: EncodedChunk, i: number): Promise<unknown> {
  const facts = { chunk: idOf(i), rawLength: CHUNK_BYTES, digest, inode: 0, block: 0, epoch: EPOCH } as const;
  return store.put(facts, frames);
}

async function listAll(store: FileChunkStore): Promise<number> {
  let listed = 0;
  for (let after: ChunkId | undefined, isEnd = false; !isEnd; ) {
    const page = store.list(after, LIST_PAGE);
    listed += page.length;
    after = page.at(-1);
    isEnd = page.length < LIST_PAGE;
    // The next order comes in a later turn.
    await new Promise<void>((resolve) => clock.defer(resolve));
  }
  return listed;
}

async function scrub(folder: string, store: FileChunkStore, meter: JobMeter, count: number): Promise<void> {
  const damagedFound = (): number => store.stats().damagedFound;
  const source = store.segmentVerifier;
  await using scrubber = await Scrubber.open({
    source,
    damagedFound,
    disk: await FileDisk.at(folder),
    clock,
    log: silentLog,
  });
  await meter.measure(`scrub a store of ${count.toLocaleString('en')} chunks`, async () => {
    scrubber.beginNow();
    while (scrubber.report().passBegan !== undefined) await sleep(clock, ASK_EVERY_MS);
  });
  if (scrubber.verifiedBytes < count * CHUNK_BYTES || damagedFound() > 0)
    throw new Error(`Scrub ${count} chunks: ${scrubber.verifiedBytes} bytes were read, ${damagedFound()} are damaged`);
}

function idOf(i: number): ChunkId {
  return chunkIdOf(EPOCH, i + 1);
}
