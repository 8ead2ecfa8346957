import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '@collective/base/random';
import { encodeBatch } from './batch-codec.ts';
import { MemoryStore, MemoryStoreDisk } from './memory-store.ts';
import { contentOf, position, put, storeContract } from './store-contract.ts';

storeContract('memory view', async () => {
  const disk = new MemoryStoreDisk();
  return { open: async () => new MemoryStore(disk), dispose: async () => undefined };
});

storeContract('memory view whose answers take their time', async () => {
  const disk = new MemoryStoreDisk();
  let turns = 0;
  // Later questions may be faster than earlier ones.
  const pause = async (): Promise<void> => {
    for (let left = [7, 1, 4, 0][turns++ % 4] ?? 0; left > 0; left--) await Promise.resolve();
  };
  return { open: async () => new MemoryStore(disk, pause), dispose: async () => undefined };
});

test('M2: after a power loss the twin shows any state since the last checkpoint, and no other', async () => {
  const seen = new Set<number>();
  for (let seed = 0; seed < 100; seed++) {
    const disk = new MemoryStoreDisk();
    const store = new MemoryStore(disk);
    for (let at = 1; at <= 8; at++) {
      await store.apply(encodeBatch([put(`${at}`, 'x')]), position(at));
      if (at === 3) await store.checkpoint();
    }
    disk.powerLoss(new SeededRandom(seed));
    const again = new MemoryStore(disk);
    seen.add(again.applied);
    assert.deepEqual(
      (await contentOf(again)).map(([key]) => Number(key)),
      Array.from({ length: again.applied }, (_, i) => i + 1),
    );
  }
  assert.deepEqual([...seen].sort(), [3, 4, 5, 6, 7, 8]);
});
