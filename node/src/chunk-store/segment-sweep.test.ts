import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { randomBelow, SeededRandom } from '@collective/base/random';
import type { SidecarEntry } from './entry-list.ts';
import { recordBytesOf } from './record.ts';
import { scratchId } from './scratch-chunk.ts';
import { sweepRecords } from './segment-sweep.ts';

const MiB = 1024 * 1024;
const random = new SeededRandom(8);
const file = random.bytes(4 * MiB);

/** Records of about so many bytes, with gaps between. */
function records(count: number, lengthMax: number, gapMax: number): SidecarEntry[] {
  let offset = 64;
  return Array.from({ length: count }, (_unused, i) => {
    const rawLength = 1 + randomBelow(random, lengthMax);
    const entry = {
      kind: 'chunk',
      chunk: scratchId(i),
      offset,
      rawLength,
      storedLength: rawLength + 24,
      sequence: i,
    } as const;
    offset += recordBytesOf(entry) + 8 * randomBelow(random, gapMax / 8 + 1);
    return entry;
  }).filter((entry) => entry.offset + recordBytesOf(entry) <= file.length);
}

class Reader {
  readonly reads: [number, number][] = [];
  underWay = 0;
  underWayMost = 0;
  allowed = 1;
  bad: ((from: number, to: number) => boolean) | undefined;

  readonly into = async (offset: number, into: Buffer): Promise<number> => {
    this.reads.push([offset, into.length]);
    this.underWay++;
    this.underWayMost = Math.max(this.underWayMost, this.underWay);
    assert.ok(this.underWay <= this.allowed, `${this.underWay} reads at a time`);
    await new Promise((resolve) => setImmediate(resolve));
    this.underWay--;
    if (this.bad?.(offset, offset + into.length)) throw new Error('bad sector');
    return file.copy(into, 0, offset, Math.min(file.length, offset + into.length));
  };
}

describe('sweep over the records of a segment', () => {
  test('gives every record its bytes, in order, in few reads', async () => {
    for (const [lengthMax, gapMax, pieceBytes] of [
      [5_000, 0, 256 * 1024],
      [5_000, 3_000, 256 * 1024],
      [200_000, 0, 64 * 1024],
      [50, 0, MiB],
    ] as const) {
      const entries = records(2_000, lengthMax, gapMax);
      const reader = new Reader();
      const seen: SidecarEntry[] = [];
      for await (const piece of sweepRecords(reader.into, entries, { pieceBytes }))
        for (const { entry, bytes, error } of piece) {
          assert.equal(error, undefined);
          assert.ok(bytes.equals(file.subarray(entry.offset, entry.offset + recordBytesOf(entry))));
          seen.push(entry);
        }
      assert.deepEqual(seen, entries);
      const bytes = entries.reduce((sum, entry) => sum + recordBytesOf(entry), 0);
      const most = Math.max(lengthMax, pieceBytes) + 1000;
      assert.ok(reader.reads.every(([, length]) => length <= most));
      assert.ok(
        reader.reads.length <= 2 + (bytes * 3) / pieceBytes + entries.length / 200,
        `${reader.reads.length} reads`,
      );
    }
  });

  test('does not read a large gap', async () => {
    const [first, second] = records(2, 1_000, 0);
    assert.ok(first !== undefined && second !== undefined);
    const reader = new Reader();
    for await (const piece of sweepRecords(reader.into, [first, { ...second, offset: 2 * MiB }]))
      assert.equal(piece.length, 1);
    assert.equal(
      reader.reads.reduce((sum, [, length]) => sum + length, 0),
      recordBytesOf(first) + recordBytesOf(second),
    );
  });

  test('a piece that cannot be read costs only the records that cannot', async () => {
    const entries = records(300, 2_000, 0);
    const reader = new Reader();
    const victim = entries[123] ?? assert.fail();
    const at = victim.offset + 40;
    reader.bad = (from, to) => from <= at && at < to;
    const lost: SidecarEntry[] = [];
    let whole = 0;
    for await (const piece of sweepRecords(reader.into, entries))
      for (const { entry, bytes, error } of piece) {
        if (error !== undefined) lost.push(entry);
        else if (bytes.equals(file.subarray(entry.offset, entry.offset + recordBytesOf(entry)))) whole++;
      }
    assert.deepEqual(lost, [victim]);
    assert.equal(whole, entries.length - 1);
  });

  test('a segment that ends too early gives short records', async () => {
    const entry = {
      kind: 'chunk',
      chunk: scratchId(1),
      offset: file.length - 100,
      rawLength: 500,
      storedLength: 524,
      sequence: 1,
    } as const;
    for await (const [record] of sweepRecords(new Reader().into, [entry])) assert.equal(record?.bytes.length, 100);
  });

  test('the disk reads on while a piece is worked on, up to two pieces ahead', async () => {
    const reader = new Reader();
    const pieces = sweepRecords(reader.into, records(1_000, 5_000, 0), { pieceBytes: 64 * 1024 });
    assert.equal((await pieces.next()).done, false);
    const deadline = performance.now() + 60_000;
    while (reader.reads.length < 3 || reader.underWay > 0) {
      assert.ok(performance.now() < deadline, `${reader.reads.length} reads`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(reader.reads.length, 3);
    await pieces.return();
  });

  test('reads that no kernel prepares are two at a time, and give the same', async () => {
    const reader = new Reader();
    reader.allowed = 2;
    const entries = records(1_000, 5_000, 3_000);
    const seen: SidecarEntry[] = [];
    for await (const piece of sweepRecords(reader.into, entries, { pieceBytes: 64 * 1024, sideBySide: true }))
      for (const { entry, bytes } of piece) {
        assert.ok(bytes.equals(file.subarray(entry.offset, entry.offset + recordBytesOf(entry))));
        seen.push(entry);
      }
    assert.deepEqual(seen, entries);
    assert.equal(reader.underWayMost, 2);
  });

  test('whoever stops early leaves no read behind', async () => {
    const reader = new Reader();
    for await (const _piece of sweepRecords(reader.into, records(1_000, 5_000, 0), { pieceBytes: 64 * 1024 })) break;
    assert.equal(reader.underWay, 0);
  });
});
