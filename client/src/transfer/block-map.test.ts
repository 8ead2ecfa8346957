import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_BYTES } from '@collective/base/limits';
import type { Slice } from '@collective/protocol/gen/session';
import fc from 'fast-check';
import { blockOf, extentsOf } from './block-map.ts';

/** Small numbers, so that slices overlap in all ways. */
const SPACE = 64;

const slices = fc.array(
  fc.record({
    offset: fc.nat(SPACE - 1),
    length: fc.integer({ min: 1, max: 24 }),
    hole: fc.boolean(),
    skip: fc.nat(9),
  }),
  { maxLength: 12 },
);

test('D1: the newest slice wins and holes are zeros, as in an array of bytes that was written in the same order', () => {
  fc.assert(
    fc.property(slices, fc.nat(SPACE), fc.nat(SPACE), (writes, a, b) => {
      const [from, to] = a < b ? [a, b] : [b, a];
      // Each byte holds which write it came from and where in its chunk it lies.
      const model: (string | undefined)[] = Array.from({ length: 2 * SPACE });
      const list: Slice[] = writes.map(({ offset, length, hole, skip }, index) => {
        for (let i = 0; i < length; i++) model[offset + i] = hole ? undefined : `${index}:${skip + i}`;
        return { offset, length, chunk: hole ? Buffer.alloc(0) : chunk(index), chunkOffset: skip };
      });
      const read: (string | undefined)[] = [];
      for (const extent of extentsOf(list, from, to)) {
        assert.equal(extent.offset, from + read.length, 'no gap, no overlap');
        assert.ok(extent.length > 0);
        for (let i = 0; i < extent.length; i++)
          read.push(extent.chunk === undefined ? undefined : `${extent.chunk[0]}:${extent.chunkOffset + i}`);
      }
      assert.deepEqual(read, model.slice(from, to));
    }),
    { numRuns: 500 },
  );
});

test('an empty range has no extents; a range without slices is one hole', () => {
  assert.deepEqual(extentsOf([], 5, 5), []);
  assert.deepEqual(extentsOf([], 5, 9), [{ offset: 5, length: 4, chunkOffset: 0 }]);
});

test('blocks are counted from the start of the file, also beyond 4 GiB', () => {
  assert.equal(blockOf(BLOCK_BYTES - 1), 0);
  assert.equal(blockOf(BLOCK_BYTES), 1);
  assert.equal(blockOf(16 * 1024 ** 4 - 1), 4 * 1024 * 1024 - 1);
});

function chunk(index: number): Buffer {
  return Buffer.alloc(16, index);
}
