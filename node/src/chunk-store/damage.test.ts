/** Damage on the disk: found when it is read, never served, and told from what a crash may leave. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readWhole } from '@collective/base/disk';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import { failsWith } from './chunk-store-contract.ts';
import { EntryList } from './entry-list.ts';
import { FileChunkStore } from './file-chunk-store.ts';
import { readRaw, type ScratchChunk, scratchChunk } from './scratch-chunk.ts';
import { decodeSidecar, encodeSidecar, SEGMENT_HEADER_BYTES, segmentPath, sidecarPath } from './segment.ts';

const MiB = 1024 * 1024;

function openStore(disk: FakeDisk): Promise<FileChunkStore> {
  return FileChunkStore.open({
    disk,
    clock: new FakeClock(),
    random: new SeededRandom(3),
    capacityBytes: 64 * MiB,
    reserveBytes: 1 * MiB,
  });
}

async function putAll(store: FileChunkStore, chunks: readonly ScratchChunk[]): Promise<void> {
  for (const { facts, frames } of chunks) await store.put(facts, frames);
}

/** A disk whose process was killed: segment 1 holds the chunks, not sealed; those before `stable` were made stable. */
async function killedDisk(chunks: readonly ScratchChunk[], stable: number): Promise<FakeDisk> {
  const disk = new FakeDisk();
  const store = await openStore(disk);
  await putAll(store, chunks.slice(0, stable));
  await store.sync();
  await putAll(store, chunks.slice(stable));
  disk.kill();
  return disk.again();
}

async function closedDisk(chunks: readonly ScratchChunk[]): Promise<FakeDisk> {
  const disk = new FakeDisk();
  const store = await openStore(disk);
  await putAll(store, chunks);
  await store[Symbol.asyncDispose]();
  disk.kill();
  return disk.again();
}

async function segmentBytes(disk: FakeDisk, segment = 1): Promise<Buffer> {
  const bytes = await readWhole(disk, segmentPath(segment), 64 * MiB);
  assert.ok(bytes !== undefined);
  return bytes;
}

async function replace(disk: FakeDisk, path: string, bytes: Buffer): Promise<void> {
  const file = await disk.open(path, 'write');
  await file.truncate(0);
  await file.write(0, [bytes]);
  await file.sync();
  await file.close();
}

describe('damage in the chunk store', () => {
  const chunks = [scratchChunk(1, 900), scratchChunk(2, 140_000), scratchChunk(3, 300)];
  /** Where each record begins; the last is the end. */
  const starts = [SEGMENT_HEADER_BYTES];
  for (const { frames } of chunks) {
    const stored = frames.reduce((sum, frame) => sum + frame.length, 0);
    starts.push((starts.at(-1) ?? 0) + Math.ceil((Math.ceil((128 + 4 * frames.length) / 8) * 8 + stored) / 8) * 8);
  }
  const [, , third = 0, end = 0] = starts;

  test('D4: a last record that is torn anywhere is cut, the ones before stay', async () => {
    const whole = await segmentBytes(await killedDisk(chunks, 2));
    assert.equal(whole.length, end);
    for (let length = third; length < end; length += length < third + 160 ? 1 : 37) {
      const disk = await killedDisk(chunks, 2);
      await replace(disk, segmentPath(1), Buffer.from(whole.subarray(0, length)));
      const store = await openStore(disk);
      assert.deepEqual(
        chunks.map(({ facts }) => store.has(facts.chunk)),
        [true, true, false],
        `cut at ${length}`,
      );
      for (const { facts, raw } of chunks.slice(0, 2))
        assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw));
      await putAll(store, chunks.slice(2));
      await store[Symbol.asyncDispose]();
    }
  });

  test('D4: a record whose middle never reached the disk is dropped, a whole one behind it is kept', async () => {
    const disk = await killedDisk(chunks, 1);
    const bytes = await segmentBytes(disk);
    bytes.fill(0, starts[1], third);
    await replace(disk, segmentPath(1), bytes);
    const store = await openStore(disk);
    assert.deepEqual(
      chunks.map(({ facts }) => store.has(facts.chunk)),
      [true, false, true],
    );
  });

  test('D4: bytes that were stable and hold no record any more stop the start', async () => {
    const disk = await killedDisk(chunks, 2);
    const bytes = await segmentBytes(disk);
    bytes.fill(0, starts[0], (starts[0] ?? 0) + 136);
    await replace(disk, segmentPath(1), bytes);
    await failsWith('store_damaged', openStore(disk));
    assert.ok(bytes.equals(await segmentBytes(disk)), 'nothing was changed');
  });

  test('a damaged segment header is no loss while the records are whole', async () => {
    const disk = await killedDisk(chunks, 2);
    const bytes = await segmentBytes(disk);
    bytes.fill(0, 0, SEGMENT_HEADER_BYTES);
    await replace(disk, segmentPath(1), bytes);
    const store = await openStore(disk);
    for (const { facts, raw } of chunks) assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw));
  });

  test('a stable chunk whose frames are damaged is kept as damaged: reads fail, and the others serve', async () => {
    const disk = await killedDisk(chunks, 2);
    const bytes = await segmentBytes(disk);
    bytes[(starts[1] ?? 0) + 50_000] = (bytes[(starts[1] ?? 0) + 50_000] ?? 0) ^ 1;
    await replace(disk, segmentPath(1), bytes);
    const store = await openStore(disk);
    const [first, second] = chunks;
    assert.ok(first !== undefined && second !== undefined);
    assert.deepEqual(store.damaged, [second.facts.chunk]);
    await failsWith('chunk_corrupt', readRaw(store, second.facts.chunk, 0, 140_000));
    assert.equal((await readRaw(store, second.facts.chunk, 131_072, 100)).length, 100, 'its other frame is whole');
    assert.ok((await readRaw(store, first.facts.chunk, 0, 900)).equals(first.raw));
  });

  test('D5: any flipped bit of a sealed record is found on read or is none of the chunk', async () => {
    const [chunk] = chunks;
    assert.ok(chunk !== undefined);
    const disk = await closedDisk([chunk]);
    const whole = await segmentBytes(disk);
    const store = await openStore(disk);
    const lastFrameByte = (starts[0] ?? 0) + 136 + 24 + 900;
    for (let bit = (starts[0] ?? 0) * 8; bit < lastFrameByte * 8; bit += 3) {
      const flipped = Buffer.from(whole);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const streamId = bit >> 3 >= (starts[0] ?? 0) + 136 && bit >> 3 < (starts[0] ?? 0) + 140;
      await replace(disk, segmentPath(1), flipped);
      if (streamId) assert.ok((await readRaw(store, chunk.facts.chunk, 0, 900)).equals(chunk.raw));
      else await failsWith('chunk_corrupt', readRaw(store, chunk.facts.chunk, 0, 900), `bit ${bit}`);
    }
  });

  test('D4: an index rebuilt by scanning is the sidecar, byte for byte', async () => {
    const disk = await closedDisk(chunks);
    const sidecar = await readWhole(disk, sidecarPath(1));
    assert.ok(sidecar !== undefined);
    for (const damage of [Buffer.alloc(0), Buffer.from(sidecar.subarray(0, 100)), Buffer.alloc(sidecar.length, 1)]) {
      await replace(disk, sidecarPath(1), damage);
      const store = await openStore(disk);
      assert.ok(sidecar.equals((await readWhole(disk, sidecarPath(1))) ?? Buffer.alloc(0)));
      for (const { facts, raw } of chunks) assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw));
      await store[Symbol.asyncDispose]();
    }
  });

  test('D4: a sidecar that is gone costs a copy of its segment, nothing else', async () => {
    const disk = await closedDisk(chunks);
    await disk.remove(sidecarPath(1));
    const store = await openStore(disk);
    for (const { facts, raw } of chunks) assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw));
    assert.equal(await disk.exists(segmentPath(1)), false);
    assert.equal(await disk.exists(sidecarPath(2)), true);
  });

  test('a sealed segment that is shorter than it was, or is damaged where a record began, stops the start', async () => {
    const disk = await closedDisk(chunks);
    const whole = await segmentBytes(disk);
    await replace(disk, segmentPath(1), Buffer.from(whole.subarray(0, whole.length - 8)));
    await failsWith('store_damaged', openStore(disk));
    const broken = Buffer.from(whole);
    broken.fill(0, starts[1], (starts[1] ?? 0) + 8);
    await replace(disk, segmentPath(1), broken);
    await replace(disk, sidecarPath(1), Buffer.alloc(3));
    await failsWith('store_damaged', openStore(disk));
  });

  test('records of another disk are not taken for our own', async () => {
    const disk = await killedDisk(chunks, 1);
    const stranger = await killedDiskOfOther();
    await replace(disk, segmentPath(1), stranger);
    await failsWith('store_damaged', openStore(disk));
  });

  test('a scan finds records behind any amount of rubbish', async () => {
    const large = [scratchChunk(1, 900), scratchChunk(2, 3_000_000), scratchChunk(3, 300)] as const;
    const disk = await killedDisk(large, 0);
    const bytes = await segmentBytes(disk);
    new SeededRandom(9).bytes(3_000_000).copy(bytes, starts[1]);
    await replace(disk, segmentPath(1), bytes);
    const store = await openStore(disk);
    assert.equal(store.has(large[1].facts.chunk), false);
    for (const { facts, raw } of [large[0], large[2]])
      assert.ok((await readRaw(store, facts.chunk, 0, raw.length)).equals(raw));
  });

  test('D4: a segment whose header and first record are both damaged stops the start: nothing tells what is its own', async () => {
    const disk = await killedDisk(chunks, 0);
    const bytes = await segmentBytes(disk);
    bytes.fill(0, 0, SEGMENT_HEADER_BYTES + 8);
    await replace(disk, segmentPath(1), bytes);
    await failsWith('store_damaged', openStore(disk));
    assert.ok(bytes.equals(await segmentBytes(disk)), 'nothing was changed');
  });

  test('D4: a record that lies elsewhere than it says is not served', async () => {
    const twins = [scratchChunk(1, 900), scratchChunk(2, 900)] as const;
    const disk = await closedDisk(twins);
    const sidecar = decodeSidecar((await readWhole(disk, sidecarPath(1))) ?? Buffer.alloc(0));
    const [first, second] = sidecar?.entries ?? [];
    assert.ok(sidecar !== undefined && first !== undefined && second !== undefined);
    // What a disk leaves that put the first record's bytes to the second's place, too.
    const bytes = await segmentBytes(disk);
    bytes.copy(bytes, second.offset, first.offset, second.offset);
    await replace(disk, segmentPath(1), bytes);
    await replace(
      disk,
      sidecarPath(1),
      encodeSidecar({ ...sidecar, entries: EntryList.of([{ ...first, offset: second.offset }]) }),
    );
    const store = await openStore(disk);
    await failsWith('chunk_corrupt', readRaw(store, twins[0].facts.chunk, 0, 900));
  });

  const damages: readonly [string, (bytes: Buffer) => void][] = [
    [
      'a flipped bit in its frames',
      (bytes) => bytes.writeUInt8(bytes.readUInt8((starts[1] ?? 0) + 9_000) ^ 4, (starts[1] ?? 0) + 9_000),
    ],
    ['a lost header', (bytes) => bytes.fill(0, starts[1], (starts[1] ?? 0) + 128)],
    ['another record in its place', (bytes) => bytes.copy(bytes, starts[1], starts[0], starts[1])],
  ];
  for (const [damage, apply] of damages)
    test(`D8: ${damage} is found by a verification, told until it is replaced, and the replacement survives a restart`, async () => {
      const [first, second, third] = chunks;
      assert.ok(first !== undefined && second !== undefined && third !== undefined);
      const disk = await closedDisk(chunks);
      const bytes = await segmentBytes(disk);
      apply(bytes);
      await replace(disk, segmentPath(1), bytes);
      let store = await openStore(disk);
      const reopen = async (): Promise<void> => {
        await store[Symbol.asyncDispose]();
        store = await openStore(disk);
      };
      await failsWith('chunk_corrupt', store.verify(second.facts.chunk));
      assert.deepEqual(store.damaged, [second.facts.chunk]);
      for (const whole of [first, third]) await store.verify(whole.facts.chunk);
      await reopen();
      assert.deepEqual(store.damaged, [second.facts.chunk], 'kept over a restart');
      const other = scratchChunk(2, 140_000, 'noise', 99);
      if (damage.includes('frames')) await failsWith('chunk_conflict', store.replace(other.facts, other.frames));
      const { alreadyHere, sequence } = await store.replace(second.facts, second.frames);
      assert.equal(alreadyHere, false);
      assert.deepEqual(store.damaged, []);
      assert.equal(store.stats().chunkCount, 3);
      for (const _life of [1, 2]) {
        assert.equal((await store.verify(second.facts.chunk)).sequence, sequence);
        assert.ok((await readRaw(store, second.facts.chunk, 0, 140_000)).equals(second.raw));
        await reopen();
        assert.deepEqual(store.damaged, []);
      }
      await store[Symbol.asyncDispose]();
    });

  test('D4, D8: damage that was found where chunks are written to does not stop a later start, and costs nothing but its chunk', async () => {
    const [first, second, third] = chunks;
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    const disk = new FakeDisk();
    const store = await openStore(disk);
    await putAll(store, [first, second]);
    await store.sync();
    const bytes = await segmentBytes(disk);
    bytes.fill(0, starts[0], (starts[0] ?? 0) + 128);
    await replace(disk, segmentPath(1), bytes);
    await failsWith('chunk_corrupt', store.verify(first.facts.chunk));
    // Behind it in the order of syncs.
    await store.put(third.facts, third.frames);
    await store.sync();
    for (let looks = 0; (await readWhole(disk, sidecarPath(1))) === undefined; looks++)
      assert.ok(looks < 1_000, 'the segment is sealed');
    disk.powerLoss(new SeededRandom(1));
    const again = await openStore(disk.again());
    assert.deepEqual(again.damaged, [first.facts.chunk]);
    for (const { facts, raw } of [second, third])
      assert.ok((await readRaw(again, facts.chunk, 0, raw.length)).equals(raw));
    await again.replace(first.facts, first.frames);
    assert.ok((await readRaw(again, first.facts.chunk, 0, 900)).equals(first.raw));
    await again[Symbol.asyncDispose]();
  });

  test('D4, D8: the bad header of a record that counts no more does not stop a start after a verification of its segment', async () => {
    const [first, second] = chunks;
    assert.ok(first !== undefined && second !== undefined);
    const disk = new FakeDisk();
    const store = await openStore(disk);
    await putAll(store, [first, second]);
    await store.sync();
    await store.forget([first.facts.chunk]);
    const bytes = await segmentBytes(disk);
    bytes.fill(0, starts[0], (starts[0] ?? 0) + 128);
    await replace(disk, segmentPath(1), bytes);
    for await (const { damaged } of store.segmentVerifier.verify(1, MiB)) assert.equal(damaged, 0);
    disk.powerLoss(new SeededRandom(1));
    const again = await openStore(disk.again());
    assert.deepEqual([again.has(first.facts.chunk), again.damaged], [false, []]);
    assert.ok((await readRaw(again, second.facts.chunk, 0, second.raw.length)).equals(second.raw));
    await again[Symbol.asyncDispose]();
  });

  test('D8: a damaged chunk that is forgotten is told no more', async () => {
    const [, second] = chunks;
    assert.ok(second !== undefined);
    const disk = await closedDisk(chunks);
    const bytes = await segmentBytes(disk);
    bytes.fill(0, starts[1], starts[2]);
    await replace(disk, segmentPath(1), bytes);
    const store = await openStore(disk);
    await failsWith('chunk_corrupt', readRaw(store, second.facts.chunk, 0, 10));
    assert.deepEqual(store.damaged, [second.facts.chunk]);
    await store.forget([second.facts.chunk]);
    assert.deepEqual(store.damaged, []);
    await store[Symbol.asyncDispose]();
    assert.deepEqual((await openStore(disk)).damaged, []);
  });

  test('D8: a list of damaged chunks that cannot be read is none', async () => {
    for (const content of [
      '',
      '{"form',
      '{"format":2,"chunks":[]}',
      '[]',
      'null',
      '{"format":1,"chunks":["../x",7]}',
    ]) {
      const disk = await closedDisk(chunks);
      const file = await disk.open('damaged.json', 'create');
      await file.write(0, [Buffer.from(content)]);
      await file.close();
      assert.deepEqual((await openStore(disk)).damaged, [], content);
    }
  });

  async function killedDiskOfOther(): Promise<Buffer> {
    const disk = new FakeDisk();
    const store = await FileChunkStore.open({
      disk,
      clock: new FakeClock(),
      random: new SeededRandom(99),
      capacityBytes: 64 * MiB,
      reserveBytes: 1 * MiB,
    });
    await putAll(store, chunks);
    disk.kill();
    return await segmentBytes(disk.again());
  }
});
