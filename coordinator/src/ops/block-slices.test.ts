import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { SlicePiece } from '../tables/gen/tables.ts';
import { addSlice, cutSlices, storedBytes, visibleRanges, withoutChunk } from './block-slices.ts';

const BLOCK = 40;

function pieceOf(offset: number, length: number, chunk: number, chunkOffset = 0): SlicePiece {
  const id = Buffer.alloc(chunk === 0 ? 0 : 16);
  if (chunk !== 0) id.writeUInt32BE(chunk, 12);
  return { offset, length, chunk: id, chunkOffset };
}

const numberOf = (piece: SlicePiece): number => (piece.chunk.length === 16 ? piece.chunk.readUInt32BE(12) : 0);

/** What each byte shows: `chunk * 1000 + byte of the chunk`, 0 for a hole or nothing. */
function paint(slices: readonly SlicePiece[]): number[] {
  const bytes = new Array<number>(BLOCK).fill(0);
  for (const piece of slices)
    for (let i = 0; i < piece.length; i++)
      bytes[piece.offset + i] = numberOf(piece) === 0 ? 0 : numberOf(piece) * 1000 + piece.chunkOffset + i;
  return bytes;
}

function paintVisible(slices: readonly SlicePiece[]): number[] {
  const bytes = new Array<number>(BLOCK).fill(0);
  for (const { start, end, slice } of visibleRanges(slices)) {
    const piece = slices[slice];
    assert.ok(piece);
    for (let at = start; at < end; at++) {
      assert.equal(bytes[at], 0, 'ranges are disjoint');
      bytes[at] = numberOf(piece) * 1000 + piece.chunkOffset + at - piece.offset;
    }
  }
  return bytes;
}

const write = fc
  .record({
    offset: fc.nat(BLOCK - 1),
    length: fc.integer({ min: 1, max: BLOCK }),
    chunk: fc.nat(6),
    chunkOffset: fc.nat(5),
    firm: fc.boolean(),
  })
  .map(({ offset, length, ...rest }) => ({ offset, length: Math.min(length, BLOCK - offset), ...rest }));

test('D1: the newest slice wins, whatever was let go of below it', () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 30 }), (writes) => {
      let slices: SlicePiece[] = [];
      const all: SlicePiece[] = [];
      const firm = new Map(writes.map(({ chunk, firm: is }) => [chunk, is]));
      for (const { offset, length, chunk, chunkOffset } of writes) {
        const piece = pieceOf(offset, length, chunk, chunkOffset);
        all.push(piece);
        const before = slices.length;
        const added = addSlice(slices, piece, (each) => numberOf(each) === 0 || firm.get(numberOf(each)) === true);
        assert.equal(added.slices.length + added.dropped.length, before + 1, 'each slice is kept or let go');
        slices = added.slices;
        assert.deepEqual(paintVisible(slices), paint(all));
        assert.equal(storedBytes(slices), paint(all).filter((byte) => byte !== 0).length);
      }
    }),
    { numRuns: 500, seed: 1 },
  );
});

test('D3: if all that is not firm is lost, the block shows what it showed without it', () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 20 }), (writes) => {
      let slices: SlicePiece[] = [];
      const all: SlicePiece[] = [];
      // Each write has a chunk of its own here: what is lost is lost once.
      for (const [i, { offset, length, chunkOffset, firm }] of writes.entries()) {
        const piece = pieceOf(offset, length, i * 2 + (firm ? 1 : 2), chunkOffset);
        all.push(piece);
        ({ slices } = addSlice(slices, piece, (each) => numberOf(each) % 2 === 1));
      }
      const survivors = (pieces: readonly SlicePiece[]): SlicePiece[] =>
        pieces.filter((each) => numberOf(each) % 2 === 1);
      assert.deepEqual(paintVisible(survivors(slices)), paint(survivors(all)));
    }),
    { numRuns: 500, seed: 2 },
  );
});

test('D3: a covered slice is kept while what covers it is unstable, and goes when a firm one covers it', () => {
  const old = pieceOf(0, 10, 1);
  const unstable = pieceOf(0, 20, 2);
  const kept = addSlice([old], unstable, (piece) => numberOf(piece) !== 2);
  assert.deepEqual(kept.slices.map(numberOf), [1, 2]);
  const gone = addSlice(kept.slices, pieceOf(0, 20, 3), () => true);
  assert.deepEqual(gone.slices.map(numberOf), [3]);
  assert.deepEqual(gone.dropped.map(numberOf), [1, 2]);
});

test('D3: overwriting a block without end does not fill it, though the newest is never stable yet', () => {
  let slices: SlicePiece[] = [];
  for (let i = 1; i <= 1_000; i++)
    ({ slices } = addSlice(slices, pieceOf(0, BLOCK, i), (piece) => numberOf(piece) < i));
  assert.deepEqual(slices.map(numberOf), [999, 1_000]);
});

test('D3: several firm slices together cover one', () => {
  const both = [pieceOf(10, 20, 1), pieceOf(5, 15, 2)];
  const { slices, dropped } = addSlice(both, pieceOf(20, 15, 3), () => true);
  assert.deepEqual(slices.map(numberOf), [2, 3]);
  assert.deepEqual(dropped.map(numberOf), [1]);
});

test('a cut shows nothing from its place on, and what was before it as before', () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 20 }), fc.nat(BLOCK), (writes, end) => {
      const slices = writes.map(({ offset, length, chunk, chunkOffset }) =>
        pieceOf(offset, length, chunk, chunkOffset),
      );
      const cut = cutSlices(slices, end);
      assert.deepEqual(
        paintVisible(cut.slices),
        paint(slices).map((byte, at) => (at < end ? byte : 0)),
      );
      assert.equal(cut.slices.length + cut.dropped.length, slices.length);
    }),
    { numRuns: 300, seed: 3 },
  );
});

test('D3: without a lost chunk the block shows its earlier content', () => {
  const slices = [pieceOf(0, 30, 1), pieceOf(10, 10, 2), pieceOf(15, 10, 3)];
  const left = withoutChunk(slices, pieceOf(0, 1, 2).chunk);
  assert.deepEqual(paintVisible(left), paint([pieceOf(0, 30, 1), pieceOf(15, 10, 3)]));
});
