import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ChunkId } from '@collective/base/ids';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { InventoryDigest } from '@collective/protocol/bulk/inventory-digest';
import { ChunkIndex, type ChunkPlace } from './chunk-index.ts';
import { scratchId } from './scratch-chunk.ts';

function placeOf(i: number): ChunkPlace {
  return { segment: i % 1000, offset: 8 * i, rawLength: (i % 4_194_304) + 1, storedLength: i + 1 };
}

describe('chunk index', () => {
  test('holds what a map holds, through all its growth', () => {
    const random = new SeededRandom(11);
    const index = new ChunkIndex();
    const model = new Map<ChunkId, ChunkPlace>();
    for (let i = 0; i < 50_000; i++) {
      const chunk = (i % 2 === 0 ? scratchId(i) : random.bytes(16).toString('hex')) as ChunkId;
      index.set(chunk, placeOf(i));
      model.set(chunk, placeOf(i));
    }
    assert.equal(index.count, model.size);
    for (const [chunk, place] of model) assert.deepEqual(index.get(chunk), place);
    for (let i = 0; i < 1000; i++) {
      const chunk = random.bytes(16).toString('hex') as ChunkId;
      assert.equal(index.has(chunk), false);
      assert.equal(index.get(chunk), undefined);
    }
  });

  test('holds what a map holds while chunks come, move and go, until none is left', () => {
    for (const ranked of [true, false]) {
      const random = new SeededRandom(12);
      const index = new ChunkIndex();
      if (!ranked) index.settle();
      const model = new Map<ChunkId, { place: ChunkPlace; sequence: number }>();
      const digest = new InventoryDigest();
      const compare = (): void => {
        assert.equal(index.count, model.size);
        assert.equal(index.inventoryDigest, digest.value);
        for (const [chunk, { place, sequence }] of model) {
          assert.deepEqual(index.get(chunk), place);
          assert.equal(index.sequenceOf(chunk), ranked ? sequence : 0);
        }
      };
      // First it grows, then it shrinks: of 5,000 neighbouring ids, so that slots crowd.
      for (let i = 1; i <= 60_000; i++) {
        const chunk = scratchId(randomBelow(random, 5_000));
        const removes = randomBelow(random, 10) < (i < 30_000 ? 3 : 7);
        if (removes) {
          if (model.delete(chunk)) digest.remove(chunk);
          index.remove(chunk);
        } else {
          if (!model.has(chunk)) digest.add(chunk);
          model.set(chunk, { place: placeOf(i), sequence: 2 ** 33 + i });
          index.set(chunk, placeOf(i), 2 ** 33 + i);
        }
        if (i % 10_000 === 0) compare();
      }
      for (const chunk of model.keys()) index.remove(chunk);
      assert.deepEqual([index.count, index.inventoryDigest, index.list(undefined, 10)], [0, 0, []]);
    }
  });

  test('offsets up to 32 GiB, far above any segment, are kept exactly', () => {
    const index = new ChunkIndex();
    const place = { segment: 0xffffffff, offset: 8 * 0xffffffff, rawLength: 4_194_304, storedLength: 4_195_072 };
    index.set(scratchId(1), place);
    assert.deepEqual(index.get(scratchId(1)), place);
  });

  test('pages of ids are in order and complete', () => {
    const random = new SeededRandom(5);
    const index = new ChunkIndex();
    const ids = Array.from({ length: 20_000 }, () => random.bytes(16).toString('hex') as ChunkId);
    for (const id of ids) index.set(id, { segment: 1, offset: 64, rawLength: 1, storedLength: 25 });
    ids.sort();
    for (const limit of [50, 3000]) {
      const listed: ChunkId[] = [];
      for (let page = index.list(undefined, limit); page.length > 0; page = index.list(listed.at(-1), limit))
        listed.push(...page);
      assert.deepEqual(listed, ids, `in pages of ${limit}`);
    }
  });
});
