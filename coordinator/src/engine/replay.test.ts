/**
 * The real log and the real SQLite in a folder that is copied while both are open, as a crash leaves it, and then cut: the log
 * at each record, the write-ahead log at each frame. What a start recovers is compared with a map of the same batches.
 */
import assert from 'node:assert/strict';
import { cp, mkdtemp, open, readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { FileDisk } from '@collective/base/disk/file-disk';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { FileLog } from '../log/file-log.ts';
import { Reported } from '../log/log-contract.ts';
import { decodeRecord, decodeSegmentHeader, SEGMENT_HEADER_BYTES } from '../log/log-record.ts';
import { type Change, encodeBatch } from '../store/batch-codec.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { contentOf, position } from '../store/store-contract.ts';
import { replay } from './replay.ts';

const BATCHES = 10;
const CHECKPOINT_AFTER = 4;
/** SQLite's write-ahead log: a header, then frames of a header and a page. */
const WAL_HEADER_BYTES = 32;
const WAL_FRAME_BYTES = 24 + 4096;

let root: string;
/** As the crash left it. */
let crashed: string;
let copies = 0;
/** Rows after each position; `models[0]` is empty. */
const models: Map<string, string>[] = [new Map()];

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'collective-replay-'));
  const live = join(root, 'live');
  const log = await FileLog.open({
    disk: await FileDisk.at(live),
    clock: new SystemClock(),
    random: new SeededRandom(2),
    folder: 'log',
  });
  const store = await SqliteStore.open(join(live, 'metadata.db'));
  const reported = new Reported();
  log.begin({ generation: 1, start: 1 }, reported);
  const random = new SeededRandom(8);
  for (let at = 1; at <= BATCHES; at++) {
    const model = new Map(models.at(-1));
    const changes = Array.from({ length: 12 }, () => randomChange(random, at));
    for (const { key, value } of changes) {
      if (value === undefined) model.delete(key);
      else model.set(key, Buffer.from(value).toString());
    }
    models.push(model);
    const batch = encodeBatch(changes);
    log.append(batch);
    log.hurry();
    await reported.until(() => reported.stableThrough === at);
    await store.apply(batch, position(at));
    if (at === CHECKPOINT_AFTER) assert.equal(await store.checkpoint(), at);
  }
  crashed = join(root, 'crashed');
  // The shared memory file is made anew by whoever opens the database first.
  await cp(live, crashed, { recursive: true, filter: (path) => !path.endsWith('-shm') });
  await log.close();
  await store.close();
});

after(() => rm(root, { recursive: true }));

function randomChange(random: SeededRandom, at: number): Change {
  const key = `key ${randomBelow(random, 40)}`;
  if (randomBelow(random, 4) === 0) return { key, value: undefined };
  return { key, value: Buffer.from(`${at} `.repeat(randomBelow(random, 300))) };
}

async function copyOf(): Promise<string> {
  const folder = join(root, `copy ${copies++}`);
  await cp(crashed, folder, { recursive: true });
  return folder;
}

const logFile = (folder: string): string => join(folder, 'log', '0000000001.log');
const walFile = (folder: string): string => join(folder, 'metadata.db-wal');

interface Recovered {
  readonly applied: number;
  readonly last: number;
  readonly rows: Map<string, string>;
}

/** A start on the folder: log, view, replay. */
async function recover(folder: string): Promise<Recovered> {
  const log = await FileLog.open({
    disk: await FileDisk.at(folder),
    clock: new SystemClock(),
    random: new SeededRandom(2),
    folder: 'log',
  });
  const store = await SqliteStore.open(join(folder, 'metadata.db'));
  try {
    const { applied } = store;
    await replay(log, store);
    return { applied, last: log.last, rows: new Map(await contentOf(store)) };
  } finally {
    await store.close();
    await log.close();
    await rm(folder, { recursive: true });
  }
}

/** Ends of the records 0..BATCHES in the log. */
async function recordEnds(): Promise<number[]> {
  const bytes = await readFile(logFile(crashed));
  const ends = [SEGMENT_HEADER_BYTES];
  const { salt } = decodeSegmentHeader(bytes, 'the crashed log') ?? assert.fail('no header');
  for (
    let record = decodeRecord(bytes, SEGMENT_HEADER_BYTES, salt);
    record !== undefined;
    record = decodeRecord(bytes, record.end, salt)
  )
    ends.push(record.end);
  assert.equal(ends.length, BATCHES + 1);
  return ends;
}

async function flipBit(path: string, offset: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  byte.writeUInt8(byte.readUInt8(0) ^ 0x10);
  await file.write(byte, 0, 1, offset);
  await file.close();
}

const slow = { timeout: 180_000 };

test('M2: the untouched folder holds everything', slow, async () => {
  assert.deepEqual((await readdir(crashed)).sort(), ['log', 'metadata.db', 'metadata.db-wal']);
  const { applied, last, rows } = await recover(await copyOf());
  assert.deepEqual([applied, last], [BATCHES, BATCHES]);
  assert.deepEqual(rows, sorted(models[BATCHES]));
});

test('M2: with the write-ahead log cut at any frame, or within one, the log brings everything back', slow, async () => {
  const frames = ((await stat(walFile(crashed))).size - WAL_HEADER_BYTES) / WAL_FRAME_BYTES;
  assert.ok(Number.isInteger(frames) && frames > BATCHES - CHECKPOINT_AFTER, `${frames} frames`);
  const seen: number[] = [];
  for (let frame = 0; frame <= frames; frame++) {
    const folder = await copyOf();
    const cutWithin = frame % 3 === 1 && frame < frames ? 1_000 : 0;
    await truncate(walFile(folder), WAL_HEADER_BYTES + frame * WAL_FRAME_BYTES + cutWithin);
    const { applied, last, rows } = await recover(folder);
    assert.equal(last, BATCHES);
    assert.deepEqual(rows, sorted(models[BATCHES]), `cut at frame ${frame}`);
    assert.ok(applied >= Math.max(CHECKPOINT_AFTER, seen.at(-1) ?? 0), `applied ${applied} at frame ${frame}`);
    seen.push(applied);
  }
  assert.equal(new Set(seen).size, BATCHES - CHECKPOINT_AFTER + 1, `the view came back at ${seen}`);
});

test(
  'M2: the log cut at any record, or within one: the view is brought up to it, or refuses if it is ahead',
  slow,
  async () => {
    const ends = await recordEnds();
    const walSizes = [WAL_HEADER_BYTES, WAL_HEADER_BYTES + 12 * WAL_FRAME_BYTES];
    for (const walSize of walSizes) {
      for (const [whole, end] of ends.entries()) {
        for (const within of whole === BATCHES ? [0] : [0, 50]) {
          const folder = await copyOf();
          await truncate(walFile(folder), walSize);
          await truncate(logFile(folder), end + within);
          const what = `log cut at ${end} + ${within}, write-ahead log at ${walSize}`;
          const result = await recover(folder).catch((error: unknown) => error);
          if (result instanceof Error) {
            assert.equal((result as { code?: string }).code, 'store_damaged', what);
            assert.match(result.message, new RegExp(`has applied position \\d+, the log ends at ${whole}`), what);
            assert.ok(whole < BATCHES, what);
            continue;
          }
          const { applied, last, rows } = result as Recovered;
          assert.equal(last, whole, what);
          assert.ok(applied <= whole, `${what}: a view that is ahead of its log refuses to start`);
          assert.deepEqual(rows, sorted(models[whole]), what);
        }
      }
    }
  },
);

test(
  'M2: a flipped bit in any record but the last refuses to start, in the write-ahead log it costs nothing',
  slow,
  async () => {
    const ends = await recordEnds();
    for (let record = 1; record < BATCHES; record++) {
      const folder = await copyOf();
      await flipBit(logFile(folder), (ends[record] ?? 0) - 20);
      await assert.rejects(recover(folder), { code: 'store_damaged', message: /0000000001\.log/ });
    }
    const folder = await copyOf();
    await flipBit(walFile(folder), WAL_HEADER_BYTES + 5 * WAL_FRAME_BYTES + 2_000);
    assert.deepEqual((await recover(folder)).rows, sorted(models[BATCHES]));
  },
);

function sorted(model: Map<string, string> | undefined): Map<string, string> {
  return new Map([...(model ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)));
}
