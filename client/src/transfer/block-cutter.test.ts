import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_BYTES } from '@collective/base/limits';
import fc from 'fast-check';
import { cutBlocks, isHole } from './block-cutter.ts';

test('D1: blocks have 4 MiB but the last, and together they are the source', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(3 * BLOCK_BYTES), { maxLength: 6 }), async (lengths) => {
      let bytes = 0;
      let blocks = 0;
      const source = lengths.map((length) => Buffer.alloc(length));
      for await (const block of cutBlocks(source)) {
        assert.equal(block.index, blocks++);
        assert.equal(
          block.pieces.reduce((sum, piece) => sum + piece.length, 0),
          block.length,
        );
        bytes += block.length;
        assert.ok(block.length === BLOCK_BYTES || bytes === lengths.reduce((a, b) => a + b, 0));
      }
      assert.equal(
        bytes,
        lengths.reduce((a, b) => a + b, 0),
      );
    }),
    { numRuns: 30 },
  );
});

test('a resumed source goes on with the block that it is told', async () => {
  const blocks = [];
  for await (const block of cutBlocks(Buffer.alloc(BLOCK_BYTES + 1), 5)) blocks.push([block.index, block.length]);
  assert.deepEqual(blocks, [
    [5, BLOCK_BYTES],
    [6, 1],
  ]);
});

test('a block is a hole only if every byte of every piece is zero', () => {
  const zeros = Buffer.alloc(100_000);
  const last = Buffer.alloc(100_000);
  last[99_999] = 1;
  assert.equal(isHole({ index: 0, length: 200_000, pieces: [zeros, zeros] }), true);
  assert.equal(isHole({ index: 0, length: 200_000, pieces: [zeros, last] }), false);
});
