import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Disk, readWhole } from '@collective/base/disk';
import { type DiskOperation, FakeDisk, type FakeDiskOptions } from '@collective/base/disk/fake-disk';
import { type FakeContent, FakePlatter } from '@collective/base/disk/fake-platter';
import { FileDisk } from '@collective/base/disk/file-disk';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom, SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { FileLog } from './file-log.ts';
import { logContract, payloadsOf, position, Reported } from './log-contract.ts';
import {
  decodeSegmentHeader,
  encodeRecord,
  encodeSegmentHeader,
  RECORD_PAYLOAD_BYTES_MAX,
  SEGMENT_HEADER_BYTES,
} from './log-record.ts';

const folder = 'data/log';

function openOn(disk: Disk, segmentBytes?: number): Promise<FileLog> {
  return FileLog.open({
    disk,
    clock: new SystemClock(),
    random: new SystemRandom(),
    folder,
    ...(segmentBytes !== undefined && { segmentBytes }),
  });
}

for (const segmentBytes of [undefined, 300]) {
  const size = segmentBytes === undefined ? 'large segments' : 'small segments';
  logContract(`file log on the fake disk, ${size}`, async () => {
    const disk = new FakeDisk();
    return { open: () => openOn(disk, segmentBytes), dispose: async () => disk.kill() };
  });
  logContract(`file log on files, ${size}`, async () => {
    const root = await mkdtemp(join(tmpdir(), 'collective-log-'));
    const disk = await FileDisk.at(root);
    return { open: () => openOn(disk, segmentBytes), dispose: () => rm(root, { recursive: true }) };
  });
}

/** A log under virtual time, on a disk whose every operation takes `latencyMs`. */
async function livingLog(options: FakeDiskOptions & { segmentBytes?: number } = {}) {
  const clock = new FakeClock();
  const operations: DiskOperation[] = [];
  const before = (operation: DiskOperation) => {
    operations.push(operation);
    return options.before?.(operation) ?? 'go';
  };
  const disk = new FakeDisk({ clock, ...options, before });
  const segmentBytes = options.segmentBytes ?? 1 << 20;
  const log = await clock.finish(FileLog.open({ disk, clock, random: new SystemRandom(), folder, segmentBytes }));
  const reported = new Reported();
  log.begin({ generation: 1, start: 1 }, reported);
  operations.length = 0;
  return { clock, disk, log, reported, operations };
}

/** What a start after this one finds. */
async function found(disk: FakeDisk): Promise<string[]> {
  const again = new FakeDisk({ platter: disk.again({ before: () => 'go', latencyMs: () => 0 }).platter });
  const clock = new FakeClock();
  const log = await clock.finish(FileLog.open({ disk: again, clock, random: new SystemRandom(), folder }));
  return payloadsOf(log);
}

function appendAll(log: FileLog, names: string): void {
  for (const name of names) log.append(Buffer.from(name));
}

test('M2: a written batch is stable within 50 ms, by one sync for all of them', async () => {
  const { clock, log, reported, operations } = await livingLog();
  appendAll(log, 'abc');
  await clock.advance(20);
  appendAll(log, 'd');
  await clock.advance(29);
  assert.deepEqual([reported.writtenThrough, reported.stableThrough], [4, 0]);
  await clock.advance(1);
  assert.equal(reported.stableThrough, 4);
  assert.equal(operations.filter(({ kind }) => kind === 'sync').length, 1);
});

test('M2: a batch that is written during a long sync is stable 50 ms after it was written, not after the sync', async () => {
  const { clock, log, reported } = await livingLog({ latencyMs: ({ kind }) => (kind === 'sync' ? 40 : 0) });
  appendAll(log, 'a');
  await clock.settle();
  log.hurry();
  await clock.advance(5);
  appendAll(log, 'b');
  await clock.advance(36);
  assert.equal(reported.stableThrough, 1, 'the first sync has ended');
  await clock.advance(14 + 40);
  assert.equal(reported.stableThrough, 2);
});

test('M2: batches that wait share one write, those that hurry one sync', async () => {
  const { clock, log, operations } = await livingLog({ latencyMs: () => 1 });
  for (const names of ['a', 'bcdef', 'ghijklm']) {
    appendAll(log, names);
    for (const _ of names) log.hurry();
    await clock.settle();
  }
  await clock.advance(10);
  const count = (wanted: string): number => operations.filter(({ kind }) => kind === wanted).length;
  assert.equal(count('write'), 2, 'the first batch, then all that came meanwhile');
  assert.ok(count('sync') <= 3);
});

test('M2: SIGKILL keeps what was written; power loss keeps what was stable, and no later batch without an earlier one', async () => {
  for (let seed = 0; seed < 200; seed++) {
    const { clock, disk, log, reported } = await livingLog({ segmentBytes: 120 });
    appendAll(log, 'abcdef');
    log.hurry();
    await clock.until(() => reported.stableThrough === 6);
    appendAll(log, 'ghijkl');
    await clock.advance(1);
    const { writtenThrough, stableThrough } = reported;
    assert.equal(writtenThrough, 12);
    if (seed === 0) disk.kill();
    else disk.powerLoss(new SeededRandom(seed));
    const names = await found(disk);
    assert.deepEqual(names, [...'abcdefghijkl'].map((name, i) => `${i + 1} ${name}`).slice(0, names.length));
    assert.ok(names.length >= (seed === 0 ? writtenThrough : stableThrough), `seed ${seed}`);
    // The start before this one may have begun its segment below the first position of a rolled one that lost its records.
    assert.deepEqual(await found(disk), names, `seed ${seed}, once more`);
  }
});

test('M2: the folder of a new log survives a power loss as its records do', async () => {
  for (let seed = 0; seed < 50; seed++) {
    const { clock, disk, log, reported } = await livingLog();
    appendAll(log, 'a');
    log.hurry();
    await clock.until(() => reported.stableThrough === 1);
    disk.powerLoss(new SeededRandom(seed));
    assert.deepEqual(await found(disk), ['1 a'], `seed ${seed}`);
  }
});

test('M2: after a failed sync what the page cache shows is made stable before use', async () => {
  for (let seed = 0; seed < 50; seed++) {
    const { clock, disk, log, reported } = await livingLog({ random: new SeededRandom(seed) });
    appendAll(log, 'ab');
    log.hurry();
    await clock.until(() => reported.stableThrough === 2);
    appendAll(log, 'cd');
    await clock.settle();
    disk.failNextSync();
    log.hurry();
    await clock.until(() => reported.failure !== undefined);
    assert.equal(reported.stableThrough, 2);
    disk.kill();
    const seen = await found(disk);
    // The kernel forgets its clean pages: what the start has told must come from the disk now.
    disk.platter.evictCleanPages();
    assert.deepEqual(await found(disk), seen, `seed ${seed}`);
    disk.powerLoss(new SeededRandom(seed));
    assert.deepEqual(await found(disk), seen, `seed ${seed}, without power`);
  }
});

test('M4: each sync and each write failing in turn ends the log once, and nothing that was stable is lost', async () => {
  for (const kind of ['sync', 'write', 'create', 'syncDirectory'] as const) {
    for (let failAt = 1; ; failAt++) {
      let count = 0;
      let begun = false;
      const before = (operation: DiskOperation) =>
        begun && operation.kind === kind && ++count === failAt ? ('fail' as const) : ('go' as const);
      const { clock, disk, log, reported } = await livingLog({ segmentBytes: 150, before });
      begun = true;
      for (const name of 'abcdefghij') {
        if (reported.failure !== undefined) break;
        appendAll(log, name);
        log.hurry();
        await clock.settle();
      }
      if (count < failAt) {
        assert.equal(reported.stableThrough, 10);
        assert.ok(failAt > 2, `${kind} was tried ${failAt - 1} times`);
        break;
      }
      assert.equal((reported.failure as { code?: string } | undefined)?.code, 'disk_failed', `${kind} ${failAt}`);
      assert.throws(() => log.append(Buffer.from('late')), { code: 'disk_failed' });
      await clock.finish(log.close());
      disk.powerLoss(new SeededRandom(failAt));
      assert.ok((await found(disk)).length >= reported.stableThrough, `${kind} ${failAt}`);
    }
  }
});

test('a full disk is called by its name', async () => {
  const { clock, disk, log, reported } = await livingLog({ platter: new FakePlatter({ capacityBytes: 4096 }) });
  assert.ok(disk.platter.freeBytes > 0);
  log.append(Buffer.alloc(disk.platter.freeBytes));
  await clock.until(() => reported.failure !== undefined);
  assert.equal((reported.failure as { code?: string } | undefined)?.code, 'no_space');
});

test('the file is not closed under a write that still runs, also after a failure', async () => {
  let fails = false;
  const { clock, log, reported, disk } = await livingLog({
    latencyMs: ({ kind }) => (kind === 'write' ? 100 : 1),
    before: ({ kind }) => (fails && kind === 'sync' ? 'fail' : 'go'),
  });
  appendAll(log, 'a');
  await clock.advance(100);
  fails = true;
  log.hurry();
  appendAll(log, 'b');
  await clock.advance(10);
  assert.ok(reported.failure !== undefined && reported.writtenThrough === 1, 'the write still runs');
  let closed = false;
  const closing = log.close().then(() => {
    closed = true;
  });
  await clock.advance(50);
  assert.equal(closed, false);
  await clock.finish(closing);
  disk.kill();
  assert.deepEqual(await found(disk), ['1 a', '2 b']);
});

test('M2: a start that is stopped before any disk operation loses nothing, by SIGKILL or without power', async () => {
  for (const end of ['kill', 'power'] as const) {
    for (let stopAt = 0, done = false; !done; stopAt++) {
      const { clock, disk, log, reported } = await livingLog({ segmentBytes: 150 });
      appendAll(log, 'abcde');
      log.hurry();
      await clock.until(() => reported.stableThrough === 5);
      appendAll(log, 'fgh');
      await clock.settle();
      disk.kill();
      let operations = 0;
      const random = new SeededRandom(stopAt);
      const next = disk.again({ random, before: () => (operations++ === stopAt ? 'stop' : 'go') });
      let opened: FileLog | undefined;
      void FileLog.open({ disk: next, clock, random, folder }).then((log) => {
        opened = log;
      });
      await clock.until(() => opened !== undefined || next.dead);
      done = opened !== undefined;
      if (end === 'power') next.powerLoss(random);
      else next.kill();
      const names = await found(next);
      // A start that has ended has made all that it shows stable.
      assert.ok(names.length >= (end === 'kill' || done ? 8 : 5), `${end} before operation ${stopAt}: ${names}`);
      assert.deepEqual(names, [...'abcdefgh'].map((name, i) => `${i + 1} ${name}`).slice(0, names.length));
      if (done) assert.ok(stopAt > 10, `a start has ${stopAt} operations`);
    }
  }
});

test('M2: segments are rolled at their size, stable before the next begins, and let go of as a whole', async () => {
  const { clock, disk, log, reported, operations } = await livingLog({ segmentBytes: 100 });
  for (const name of 'abcdefgh') {
    appendAll(log, name);
    await clock.settle();
  }
  log.hurry();
  await clock.settle();
  assert.equal(reported.stableThrough, 8);
  const names = disk.platter.files().map(({ path }) => path);
  assert.ok(names.length >= 4, names.join(' '));
  // No create may come while the segment before has unsynced bytes.
  let unsynced = false;
  for (const { kind } of operations) {
    if (kind === 'write') unsynced = true;
    if (kind === 'sync') unsynced = false;
    if (kind === 'create') assert.equal(unsynced, false);
  }
  await clock.finish(log.truncate(position(5)));
  assert.ok(disk.platter.files().length < names.length);
  disk.powerLoss(new SeededRandom(1));
  assert.deepEqual((await found(disk)).slice(-3), ['6 f', '7 g', '8 h']);
});

/** A killed log of ten stable batches in one segment, and the file with them. */
async function tenBatches(): Promise<{ disk: FakeDisk; content: FakeContent }> {
  const { clock, disk, log, reported } = await livingLog();
  for (const name of 'abcdefghij') {
    appendAll(log, name);
    log.hurry();
    await clock.settle();
  }
  assert.equal(reported.stableThrough, 10);
  disk.kill();
  const content = disk.platter.files().at(-1)?.content ?? assert.fail('no segment');
  return { disk, content };
}

const BYTES_OF_A_RECORD = 48;

test('M2: a flipped bit in any record but the last is damage: the log refuses to start', async () => {
  for (let record = 0; record < 10; record++) {
    const { disk, content } = await tenBatches();
    content.flipBit(SEGMENT_HEADER_BYTES + record * BYTES_OF_A_RECORD + 40, 3);
    if (record < 9) await assert.rejects(found(disk), { code: 'store_damaged', message: /0000000001\.log/ });
    else assert.equal((await found(disk)).length, 9, 'no later record tells that the last was stable');
  }
});

test('M2: a log that was cut at any byte holds the whole records before the cut', async () => {
  const { disk: whole, content } = await tenBatches();
  const bytes = await segmentBytes(whole, 1);
  assert.equal(bytes.length, content.size);
  for (let length = 0; length <= bytes.length; length += length < 40 ? 1 : 4) {
    const disk = new FakeDisk();
    await disk.makeFolder(folder);
    await (await disk.open(`${folder}/0000000001.log`, 'create')).write(0, [bytes.subarray(0, length)]);
    // A record counts without its padding, which holds nothing.
    const wanted = Math.max(0, Math.floor((length - SEGMENT_HEADER_BYTES + 7) / BYTES_OF_A_RECORD));
    assert.equal((await found(disk)).length, wanted, `cut to ${length} bytes`);
  }
});

test('M2: a damaged header is damage when records follow, and an unfinished segment when none do', async () => {
  const { disk, content } = await tenBatches();
  content.flipBit(17, 0);
  await assert.rejects(found(disk), { code: 'store_damaged', message: /header/ });
  const torn = (await tenBatches()).disk;
  const file = await new FakeDisk({ platter: torn.platter }).open(`${folder}/0000000002.log`, 'create');
  await file.write(0, [encodeSegmentHeader({ first: position(11), salt: Buffer.alloc(8) }).subarray(0, 20)]);
  assert.equal((await found(torn)).length, 10);
});

test('M2: a missing segment between two others is damage', async () => {
  const { clock, disk, log } = await livingLog({ segmentBytes: 100 });
  for (const name of 'abcdefgh') {
    appendAll(log, name);
    log.hurry();
    await clock.settle();
  }
  disk.kill();
  const [, second] = disk.platter.files();
  disk.platter.remove(second?.path ?? '');
  await assert.rejects(found(disk), { code: 'store_damaged', message: /ends at position 2, but the next begins at 5/ });
});

async function segmentBytes(disk: FakeDisk, index: number): Promise<Buffer> {
  const path = `${folder}/${String(index).padStart(10, '0')}.log`;
  return (await readWhole(new FakeDisk({ platter: disk.platter }), path)) ?? assert.fail(`no ${path}`);
}

/** Bytes of records of positions 1 to 30, each of which says that all before it was stable. */
function forgedRecords(salt: Buffer): Buffer {
  return Buffer.concat(
    Array.from({ length: 30 }, (_unused, i) => {
      const fields = { position: position(i + 1), stableMark: position(i), epoch: { generation: 1, start: 1 } };
      return Buffer.concat(encodeRecord(salt, fields, Buffer.from('forged')));
    }),
  );
}

/** A log that was killed with `a` stable, then a record that the power loss tore, then a value with the bytes of records. */
async function tornBeforeForgery(forge: (salt: Buffer) => Buffer): Promise<FakeDisk> {
  const { clock, disk, log, reported } = await livingLog();
  appendAll(log, 'a');
  log.hurry();
  await clock.until(() => reported.stableThrough === 1);
  const content = disk.platter.files().at(-1)?.content ?? assert.fail('no segment');
  const torn = content.size;
  appendAll(log, 'b');
  const { salt } = decodeSegmentHeader(await segmentBytes(disk, 1), 'own') ?? assert.fail('no header');
  log.append(forge(salt));
  await clock.until(() => reported.writtenThrough === 3);
  content.flipBit(torn + 40, 0);
  disk.kill();
  return disk;
}

test('M2: bytes of records in a stored value are no records behind a torn one', async () => {
  for (const salt of [Buffer.alloc(8), new SystemRandom().bytes(8)])
    assert.deepEqual(await found(await tornBeforeForgery(() => forgedRecords(salt))), ['1 a']);
  // The same bytes with the segment's own salt, which no user can know, are what the start refuses.
  await assert.rejects(found(await tornBeforeForgery(forgedRecords)), { code: 'store_damaged' });
});

test('M2: a stored copy of an older segment is no record behind a torn one', async () => {
  const older = await segmentBytes((await tenBatches()).disk, 1);
  const disk = await tornBeforeForgery(() => older.subarray(SEGMENT_HEADER_BYTES));
  assert.deepEqual(await found(disk), ['1 a']);
});

test('M2: bytes that an older segment left on the disk do not bring back a batch that was lost', async () => {
  const { disk } = await tenBatches();
  const end = SEGMENT_HEADER_BYTES + 6 * BYTES_OF_A_RECORD;
  const lost = (await segmentBytes(disk, 1)).subarray(end);
  const left = new FakeDisk({ platter: disk.platter });
  await (await left.open(`${folder}/0000000001.log`, 'write')).truncate(end);
  assert.equal((await found(disk)).length, 6);
  // The start has copied record 6 to a segment of its own; where the next will lie, the old record 7 shows up.
  const { length } = await segmentBytes(disk, 2);
  assert.equal(length, SEGMENT_HEADER_BYTES + BYTES_OF_A_RECORD);
  await (await left.open(`${folder}/0000000002.log`, 'write')).write(length, [lost]);
  assert.deepEqual(
    await found(disk),
    [...'abcdef'].map((name, i) => `${i + 1} ${name}`),
  );
});

test('a segment of a newer format is refused, and nothing is changed', async () => {
  const { disk, content } = await tenBatches();
  content.flipBit(8, 1);
  await assert.rejects(found(disk), { code: 'version_too_new', message: /0000000001\.log.*format 3/ });
  assert.equal(disk.platter.files().length, 1);
});

test('a batch above the bound of a record is refused, not written and then taken for damage', async () => {
  const { log } = await livingLog();
  assert.throws(() => log.append(Buffer.alloc(RECORD_PAYLOAD_BYTES_MAX + 1)), /at most/);
});

test('a start that nothing was appended to leaves the log as it was, however often', async () => {
  const { disk } = await tenBatches();
  for (let start = 0; start < 20; start++) assert.equal((await found(disk)).length, 10);
  disk.powerLoss(new SeededRandom(3));
  assert.equal((await found(disk)).length, 10);
});

test('M2: a segment that is ended early is let go of with the next checkpoint, and the log goes on without a gap', async () => {
  const { clock, disk, log, reported } = await livingLog({ segmentBytes: 64 << 20 });
  const large = Buffer.alloc(700_000, 'x');
  for (let i = 0; i < 2; i++) log.append(large);
  await clock.until(() => reported.stableThrough === 2, { withinMs: 1_000 });
  log.endSegment();
  assert.equal((await clock.finish(disk.list(folder))).length, 1, 'nothing begins before there is something to write');
  log.append(Buffer.from('c'));
  await clock.until(() => reported.stableThrough === 3, { withinMs: 1_000 });
  await clock.finish(log.truncate(position(2)));
  assert.ok(log.sizeBytes < 1_000, `${log.sizeBytes} bytes are kept`);
  // One that holds little is not worth it.
  log.endSegment();
  log.append(Buffer.from('d'));
  await clock.until(() => reported.stableThrough === 4, { withinMs: 1_000 });
  assert.equal((await clock.finish(disk.list(folder))).length, 1);
  disk.kill();
  assert.deepEqual(await found(disk), ['3 c', '4 d']);
});
