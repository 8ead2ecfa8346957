/**
 * Chunks whose content is bytes of chunk records: a backup of a node's folder, or bytes that somebody made. Behind a record that
 * a crash tore, a scan reads such content byte by byte, and must take none of it for a record (D4).
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from '@collective/base/crc';
import { readWhole } from '@collective/base/disk';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import { FRAME_HEADER_BYTES } from '@collective/protocol/bulk/frame';
import { FileChunkStore } from './file-chunk-store.ts';
import { readRaw, type ScratchChunk, scratchChunk, scratchChunkOf, scratchId } from './scratch-chunk.ts';
import { SEGMENT_HEADER_BYTES, segmentPath } from './segment.ts';

const MiB = 1024 * 1024;
/** Record header of one frame. */
const HEADER_BYTES = 136;
const CHUNKS = [scratchChunk(1, 900), scratchChunk(2, 5_000), scratchChunk(3, 300)] as const;

function openStore(disk: FakeDisk, seed = 3): Promise<FileChunkStore> {
  return FileChunkStore.open({
    disk,
    clock: new FakeClock(),
    random: new SeededRandom(seed),
    capacityBytes: 64 * MiB,
    reserveBytes: 1 * MiB,
  });
}

async function segmentBytes(disk: FakeDisk, segment = 1): Promise<Buffer> {
  const bytes = await readWhole(new FakeDisk({ platter: disk.platter }), segmentPath(segment), 64 * MiB);
  return bytes ?? assert.fail(`no segment ${segment}`);
}

async function overwrite(disk: FakeDisk, offset: number, bytes: Buffer): Promise<void> {
  const file = await disk.open(segmentPath(1), 'write');
  await file.write(offset, [bytes]);
  await file.sync();
  await file.close();
}

/**
 * A start on a disk on which CHUNKS were stable, and a chunk behind them was being written when the power went: its bytes came
 * to the disk and its record header did not. `contentFor` makes the chunk of what lies in the segment by then.
 */
async function startBehindTornRecord(
  contentFor: (segment: Buffer) => Buffer | Promise<Buffer>,
  found: readonly ScratchChunk[] = [],
): Promise<void> {
  const disk = new FakeDisk();
  const before = await openStore(disk);
  for (const { facts, frames } of CHUNKS) await before.put(facts, frames);
  await before.sync();
  const segment = await segmentBytes(disk);
  const holder = scratchChunkOf(9, await contentFor(segment), false);
  await before.put(holder.facts, holder.frames);
  disk.kill();
  const after = disk.again();
  await overwrite(after, segment.length, Buffer.alloc(HEADER_BYTES));
  const store = await openStore(after);
  await holdsExactly(store, [...CHUNKS, ...found]);
  if (found.length === 0) assert.equal(store.stats().usedBytes, segment.length, 'nothing was kept twice');
  await store[Symbol.asyncDispose]();
}

async function holdsExactly(store: FileChunkStore, chunks: readonly ScratchChunk[]): Promise<void> {
  assert.deepEqual(
    store.list(undefined, 100),
    chunks.map(({ facts }) => facts.chunk),
  );
  for (const { facts, raw } of chunks)
    assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw), `bytes of ${facts.chunk}`);
}

/** The bytes with another field in the header of the record at `at`, and the checksum that belongs to it. */
function withField(bytes: Buffer, at: number, set: (header: Buffer) => void): Buffer {
  const changed = Buffer.from(bytes);
  const header = changed.subarray(at, at + HEADER_BYTES);
  set(header);
  header.writeUInt32LE(crc32(header.subarray(16), crc32(header.subarray(0, 12))), 12);
  return changed;
}

describe('content that holds chunk records', () => {
  test('D4: a stored copy of the very segment that it lies in gives no records', async () => {
    await startBehindTornRecord((segment) => segment.subarray(SEGMENT_HEADER_BYTES));
    // Cut in the middle of its second record, so that the sequences seem to go back.
    await startBehindTornRecord((segment) => segment.subarray(SEGMENT_HEADER_BYTES, 2_000));
    await startBehindTornRecord((segment) => segment);
  });

  test('D4: a stored segment of another disk gives no records', async () => {
    await startBehindTornRecord(async () => {
      const other = new FakeDisk();
      const store = await openStore(other, 99);
      for (const { facts, frames } of CHUNKS) await store.put(facts, frames);
      return await segmentBytes(other);
    });
  });

  test('D4: a stored record of a newer program does not stop the start', async () => {
    await startBehindTornRecord((segment) =>
      withField(segment.subarray(SEGMENT_HEADER_BYTES), 0, (header) => header.writeUInt8(2, 5)),
    );
  });

  test('D4: a stored record made for the very place where it will lie is none while its maker does not know the salt', async () => {
    const [first] = CHUNKS;
    const never = { ...first, facts: { ...first.facts, chunk: scratchId(77) } };
    const forge = (salt: Buffer | undefined) => (segment: Buffer) =>
      withField(segment.subarray(SEGMENT_HEADER_BYTES), 0, (header) => {
        header.writeUInt32BE(77, 28);
        header.writeUInt32LE((segment.length + HEADER_BYTES + FRAME_HEADER_BYTES) / 8, 52);
        salt?.copy(header, 120);
      });
    for (const salt of [Buffer.alloc(8), new SeededRandom(7).bytes(8)]) await startBehindTornRecord(forge(salt));
    // With the segment's own salt it would be taken for the record of a chunk.
    await startBehindTornRecord(forge(undefined), [never]);
  });

  test('D4: bytes that an older segment left on the disk are not found again', async () => {
    const disk = new FakeDisk();
    const first = await openStore(disk);
    for (const { facts, frames } of CHUNKS) await first.put(facts, frames);
    const kept = (await segmentBytes(disk)).length;
    const lost = scratchChunk(4, 700);
    await first.put(lost.facts, lost.frames);
    const left = (await segmentBytes(disk)).subarray(kept);
    disk.kill();
    const again = disk.again();
    const cut = await again.open(segmentPath(1), 'write');
    await cut.truncate(kept);
    await cut.close();
    const second = await openStore(again);
    const later = CHUNKS.map(({ raw }, i) => scratchChunkOf(5 + i, raw));
    for (const { facts, frames } of later) await second.put(facts, frames);
    again.kill();
    const last = again.again();
    // Segment 2 is the copy, 3 the new one. What the file system gives as its end are blocks of segment 1, from the same place.
    assert.equal((await segmentBytes(last, 3)).length, kept);
    const file = await last.open(segmentPath(3), 'write');
    await file.write(kept, [left]);
    await file.close();
    await holdsExactly(await openStore(last), [...CHUNKS, ...later]);
  });

  test('D4: content that looks like a record at every step costs a start no more than reading it', async () => {
    const before = process.cpuUsage();
    await startBehindTornRecord((segment) =>
      Buffer.alloc(4 * MiB, segment.subarray(SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + 8)),
    );
    const { user, system } = process.cpuUsage(before);
    assert.ok(user + system < 5e6, `${(user + system) / 1e6} s of processor time`);
  });
});
