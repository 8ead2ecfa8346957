import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, chunkIdOf } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { storedBytes, visibleRanges } from '../ops/block-slices.ts';
import type { SlicePiece } from '../tables/gen/tables.ts';
import { FOLD_SLICES_MIN, type FoldPlan, isStillThere, placeFold, planFold } from './plan-fold.ts';

const id = (number: number): ChunkId => chunkIdOf({ generation: 7, start: 1 }, number);
const NEW = id(1_000_000);

function slice(offset: number, length: number, chunk: number | undefined, chunkOffset = 0): SlicePiece {
  return { offset, length, chunk: chunk === undefined ? Buffer.alloc(0) : Buffer.from(id(chunk), 'hex'), chunkOffset };
}

/** What each byte of a block of `size` bytes comes from: a number for each byte of each chunk, 0 for zeros. */
function content(
  slices: readonly SlicePiece[],
  size: number,
  bytesOf: (chunk: ChunkId, at: number) => number,
): number[] {
  const bytes = new Array<number>(size).fill(0);
  for (const { start, end, slice: index } of visibleRanges(slices)) {
    const piece = slices[index];
    if (piece === undefined) continue;
    const chunk = piece.chunk.toString('hex') as ChunkId;
    for (let at = start; at < end; at++) bytes[at] = bytesOf(chunk, piece.chunkOffset + at - piece.offset);
  }
  return bytes;
}

const original = (chunk: ChunkId, at: number): number => Number.parseInt(chunk.slice(16), 16) * 100_000 + at + 1;

/** The bytes of the new chunk, as a node puts them together. */
function make({ pieces }: FoldPlan): number[] {
  return pieces.flatMap(({ chunk, chunkOffset, length }) =>
    Array.from({ length }, (_, i) => (chunk === undefined ? 0 : original(chunk, chunkOffset + i))),
  );
}

function swapped(slices: readonly SlicePiece[], plan: FoldPlan): SlicePiece[] {
  return [...plan.slices.map((each) => ({ ...each, chunk: Buffer.from(NEW, 'hex') })), ...slices.slice(plan.replaced)];
}

const always = (): boolean => true;

test('D8: a fold changes no byte of what a block shows, whatever its slices are', () => {
  let folds = 0;
  let filled = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const random = new SeededRandom(seed);
    const size = [300, 3_000, 60_000][seed % 3] ?? 300;
    const longest = [4, 40, 400][randomBelow(random, 3)] ?? 4;
    const slices = Array.from({ length: 33 + randomBelow(random, 200) }, (_, i) => {
      const offset = randomBelow(random, size);
      const length = 1 + randomBelow(random, Math.min(longest, size - offset));
      return slice(offset, length, randomBelow(random, 8) === 0 ? undefined : i + 1, randomBelow(random, 50));
    });
    const firmTo = randomBelow(random, 3) === 0 ? randomBelow(random, slices.length) : slices.length;
    const plan = planFold(slices, (piece) => slices.indexOf(piece) < firmTo);
    if (plan === undefined) continue;
    folds += 1;
    filled += plan.filledBytes > 0 ? 1 : 0;
    const made = make(plan);
    assert.equal(made.length, plan.length);
    const bytes = (chunk: ChunkId, at: number): number => (chunk === NEW ? (made[at] ?? -1) : original(chunk, at));
    const after = swapped(slices, plan);
    assert.deepEqual(content(after, size, bytes), content(slices, size, original), `seed ${seed}`);
    assert.ok(plan.slices.length * 2 <= plan.replaced && plan.replaced <= firmTo);
    // D3: should all that is not firm be lost, the block shows what it would have shown.
    assert.deepEqual(
      content(after.slice(0, plan.slices.length), size, bytes),
      content(slices.slice(0, plan.replaced), size, original),
    );
    assert.equal(
      storedBytes(after.slice(0, plan.slices.length)) - storedBytes(slices.slice(0, plan.replaced)),
      plan.filledBytes,
    );
  }
  assert.ok(folds > 100 && filled > 10, `${folds} folds, ${filled} with filled gaps`);
});

test('holes stay holes: each run becomes a slice of its own, all of one chunk', () => {
  const slices = Array.from({ length: 40 }, (_, i) => slice(i < 20 ? i * 10 : 1_000_000 + i * 10, 10, i + 1));
  const plan = planFold(slices, always);
  assert.deepEqual(plan?.slices, [
    { offset: 0, length: 200, chunkOffset: 0 },
    { offset: 1_000_200, length: 200, chunkOffset: 200 },
  ]);
  assert.deepEqual([plan?.length, plan?.filledBytes], [400, 0]);
});

test('gaps below a page are filled only where there are many, smallest first; larger ones never', () => {
  const apart = (gap: number, count: number): SlicePiece[] =>
    Array.from({ length: count }, (_, i) => [
      slice(i * (100 + gap), 50, 2 * i + 1),
      slice(i * (100 + gap) + 50, 50, 2 * i + 2),
    ]).flat();
  const many = planFold(apart(20, 100), always);
  assert.deepEqual([many?.slices.length, many?.filledBytes], [16, 84 * 20]);
  const few = planFold(apart(20, 16), always);
  assert.deepEqual([few?.slices.length, few?.filledBytes], [16, 0]);
  const wide = planFold(apart(4_096, 100), always);
  assert.deepEqual([wide?.slices.length, wide?.filledBytes], [100, 0]);
});

test('D8: whatever the pattern, a fold leaves a full block room for more', () => {
  // As many runs as a block can have with gaps that stay: one byte, then a page.
  const most = Math.floor(BLOCK_BYTES / 4_097);
  const slices = Array.from({ length: most * 2 }, (_, i) => slice((i % most) * 4_097, 1, i + 1));
  const plan = planFold(slices, always);
  assert.equal(plan?.slices.length, most);
  const tight = Array.from({ length: 2_048 }, (_, i) => slice(i * 2_000, 1_000, i + 1));
  assert.equal(planFold(tight, always)?.slices.length, 16);
});

test('D3: only slices below the first that is not firm are folded', () => {
  const slices = Array.from({ length: 60 }, (_, i) => slice(i * 10, 10, i + 1));
  assert.equal(planFold(slices, (piece) => piece !== slices[50])?.replaced, 50);
  assert.equal(
    planFold(slices, (piece) => piece !== slices[FOLD_SLICES_MIN - 1]),
    undefined,
  );
});

test('what would not become fewer is left alone, or it would be folded for ever', () => {
  const wide = Array.from({ length: 60 }, (_, i) => slice(i * 10_000, 10, i + 1));
  assert.equal(planFold(wide, always), undefined);
  assert.equal(planFold(wide.slice(0, FOLD_SLICES_MIN - 1), always), undefined);
});

test('a block that shows nothing any more is folded into nothing', () => {
  const slices = [...Array.from({ length: 40 }, (_, i) => slice(i * 10, 10, i + 1)), slice(0, 1_000, undefined)];
  assert.deepEqual(planFold(slices, always), { replaced: 41, pieces: [], slices: [], length: 0, filledBytes: 0 });
});

test('pieces that follow each other in one chunk are read as one', () => {
  const slices = Array.from({ length: 40 }, (_, i) => slice(i * 10, 10, 1, i * 10));
  assert.deepEqual(planFold(slices, always)?.pieces, [{ length: 400, chunk: id(1), chunkOffset: 0 }]);
});

test('D8: slices that were changed in any way are no longer there; newer ones above do no harm', () => {
  const planned = [slice(0, 10, 1), slice(10, 10, 2)];
  assert.equal(isStillThere(planned, [...planned, slice(5, 10, 3)]), true);
  assert.equal(isStillThere(planned, [slice(0, 10, 1)]), false, 'one was covered');
  assert.equal(isStillThere(planned, [slice(0, 10, 1), slice(10, 5, 2)]), false, 'cut short');
  assert.equal(isStillThere(planned, [slice(0, 10, 1), slice(10, 10, 3)]), false, 'another chunk');
  assert.equal(isStillThere(planned, [slice(0, 10, 1), slice(10, 10, 2, 5)]), false);
});

test('D8: the new chunk is made where most of the pieces lie, and copied to another zone', () => {
  const plan = {
    pieces: [
      { length: 100, chunk: id(1), chunkOffset: 0 },
      { length: 300, chunk: id(2), chunkOffset: 0 },
    ],
    length: 400,
  };
  const places = (chunk: ChunkId): string[] => (chunk === id(1) ? ['a', 'b'] : ['b', 'c']);
  const node = (name: string, zone = '', freeBytes = 1e9) => ({ name, zone, freeBytes });
  assert.deepEqual(placeFold(plan, [node('a'), node('b'), node('c')], places, 2), ['b', 'c']);
  assert.deepEqual(placeFold(plan, [node('a', 'west'), node('b', 'east'), node('c', 'east')], places, 2), ['b', 'a']);
  assert.deepEqual(
    placeFold(plan, [node('b', 'east'), node('c', 'east')], places, 2),
    ['b', 'c'],
    'no other zone is there',
  );
  assert.deepEqual(placeFold(plan, [node('b', '', 100), node('c')], places, 1), ['c'], 'it must have room');
  assert.equal(placeFold(plan, [node('b')], places, 2), undefined, 'a fold makes no block poorer');
});
