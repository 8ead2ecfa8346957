import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ChunkId } from '@collective/base/ids';
import { SeededRandom } from '@collective/base/random';
import { ChunkIndex, type ChunkPlace } from './chunk-index.ts';
import { scratchId } from './scratch-chunk.ts';

describe('chunk index', () => {
  test('holds what a map holds, through all its growth', () => {
    const random = new SeededRandom(11);
    const index = new ChunkIndex();
    const model = new Map<ChunkId, ChunkPlace>();
    for (let i = 0; i < 50_000; i++) {
      const chunk = (i % 2 === 0 ? scratchId(i) : random.bytes(16).toString('hex')) as ChunkId;
      const place = { segment: i % 1000, offset: 8 * i, rawLength: (i % 4_194_304) + 1, storedLength: i + 1 };
      assert.equal(index.add(chunk, place), true);
      model.set(chunk, place);
    }
    assert.equal(index.count, model.size);
    for (const [chunk, place] of model) assert.deepEqual(index.get(chunk), place);
    for (let i = 0; i < 1000; i++) {
      const chunk = random.bytes(16).toString('hex') as ChunkId;
      assert.equal(index.has(chunk), false);
      assert.equal(index.get(chunk), undefined);
    }
  });

  test('a chunk that is known keeps its place', () => {
    const index = new ChunkIndex();
    const place = { segment: 1, offset: 64, rawLength: 1, storedLength: 25 };
    assert.equal(index.add(scratchId(1), place), true);
    assert.equal(index.add(scratchId(1), { ...place, segment: 2 }), false);
    assert.equal(index.get(scratchId(1))?.segment, 1);
    assert.equal(index.count, 1);
  });

  test('offsets up to 32 GiB, far above any segment, are kept exactly', () => {
    const index = new ChunkIndex();
    const place = { segment: 0xffffffff, offset: 8 * 0xffffffff, rawLength: 4_194_304, storedLength: 4_195_072 };
    index.add(scratchId(1), place);
    assert.deepEqual(index.get(scratchId(1)), place);
  });

  test('pages of ids are in order and complete', () => {
    const random = new SeededRandom(5);
    const index = new ChunkIndex();
    const ids = Array.from({ length: 20_000 }, () => random.bytes(16).toString('hex') as ChunkId);
    for (const id of ids) index.add(id, { segment: 1, offset: 64, rawLength: 1, storedLength: 25 });
    const listed: ChunkId[] = [];
    for (let page = index.list(undefined, 3000); page.length > 0; page = index.list(listed.at(-1), 3000))
      listed.push(...page);
    assert.deepEqual(listed, ids.sort());
  });
});
