import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ChunkId } from '@collective/base/ids';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { ENTRY_BYTES, EntryList, type SidecarEntry } from './entry-list.ts';

describe('entry list', () => {
  test('holds what an array holds, at 40 bytes each', () => {
    const random = new SeededRandom(4);
    const entries = Array.from({ length: 1000 }, (_unused, i): SidecarEntry => {
      const kind = i % 3 === 0 ? 'tombstone' : 'chunk';
      return {
        kind,
        chunk: random.bytes(16).toString('hex') as ChunkId,
        offset: 8 * randomBelow(random, 2 ** 32),
        rawLength: kind === 'chunk' ? 1 + randomBelow(random, 4_194_304) : 0,
        storedLength: kind === 'chunk' ? 25 + randomBelow(random, 4_194_304) : 0,
        sequence: randomBelow(random, 2 ** 20) * 2 ** 32 + randomBelow(random, 2 ** 32),
      };
    });
    const list = new EntryList();
    for (const [i, entry] of entries.entries()) {
      list.push(entry);
      assert.equal(list.length, i + 1);
    }
    assert.deepEqual([...list], entries);
    assert.deepEqual(list.at(7), entries[7]);
    assert.equal(list.packed().length, ENTRY_BYTES * 1000);
    const copy = list.copy();
    list.push(entries[0] ?? assert.fail());
    assert.deepEqual([...copy], entries);
    assert.deepEqual([...new EntryList(copy.packed())], entries);
    assert.deepEqual(
      [...copy.inOrder()],
      entries.toSorted((a, b) => a.offset - b.offset),
    );
    for (const index of [-1, 1000]) assert.throws(() => copy.at(index), /Invariant/);
  });
});
