/**
 * What every Store must do, run for SQLite and for its in-memory twin, so that what the simulator proves with the twin holds
 * for the real one. `open` is a start of the process on what the one before left.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogPosition } from '@collective/base/ids';
import fc from 'fast-check';
import { type Change, encodeBatch } from './batch-codec.ts';
import type { Store } from './store.ts';

export interface StoreUnderTest {
  readonly open: () => Promise<Store>;
  readonly dispose: () => Promise<void>;
}

export const position = (value: number): LogPosition => value as LogPosition;

export function put(key: string, value: string): Change {
  return { key, value: Buffer.from(value) };
}

export function gone(key: string): Change {
  return { key, value: undefined };
}

/** All rows as text, in order. */
export async function contentOf(store: Store): Promise<[string, string][]> {
  const [rows = []] = await store.scan([{ from: '', to: '\xff'.repeat(64), limit: 1_000_000 }]);
  return rows.map(({ key, value }) => [key, Buffer.from(value).toString()]);
}

export function storeContract(name: string, make: () => Promise<StoreUnderTest>): void {
  const onStore = (title: string, body: (under: StoreUnderTest) => Promise<void>): void => {
    test(`${name}: ${title}`, { timeout: 60_000 }, async () => {
      const under = await make();
      const opened = new Set<Store>();
      const open = async (): Promise<Store> => {
        const store = await under.open();
        opened.add(store);
        const close = store.close.bind(store);
        store.close = () => {
          opened.delete(store);
          return close();
        };
        return store;
      };
      try {
        await body({ ...under, open });
      } finally {
        // What a failed test left open would keep its threads, and with them the process.
        for (const store of opened) await store.close();
        await under.dispose();
      }
    });
  };

  onStore('a new view is empty and has applied nothing', async ({ open }) => {
    const store = await open();
    assert.equal(store.applied, 0);
    assert.deepEqual(await store.get(['a']), [undefined]);
    assert.deepEqual(await contentOf(store), []);
    await store.close();
  });

  onStore('values come in the order of the keys; an empty value is not an absent one', async ({ open }) => {
    const store = await open();
    await store.apply(encodeBatch([put('a', '1'), put('b', ''), put('c', '3')]), position(1));
    const values = await store.get(['c', 'x', 'b', 'a', 'c']);
    assert.deepEqual(
      values.map((value) => value && Buffer.from(value).toString()),
      ['3', undefined, '', '1', '3'],
    );
    await store.close();
  });

  onStore('a batch replaces and removes; of one key in it the last change counts', async ({ open }) => {
    const store = await open();
    await store.apply(encodeBatch([put('a', '1'), put('b', '2'), put('c', '3')]), position(1));
    await store.apply(
      encodeBatch([put('a', 'new'), gone('b'), gone('nothing'), gone('c'), put('c', '4')]),
      position(2),
    );
    assert.deepEqual(await contentOf(store), [
      ['a', 'new'],
      ['c', '4'],
    ]);
    await store.close();
  });

  onStore(
    'a snapshot shows all rows of one moment, page by page, whatever is applied and checkpointed meanwhile',
    async ({ open }) => {
      const store = await open();
      const keys = Array.from({ length: 200 }, (_, i) => `k${String(i).padStart(3, '0')}`);
      await store.apply(encodeBatch(keys.map((key) => put(key, `${key} old`))), position(1));
      const snapshot = await store.snapshot();
      assert.equal(snapshot.applied, 1);
      const read: [string, string][] = [];
      let pages = 0;
      for (let after: string | undefined; ; pages++) {
        const rows = await snapshot.read(after, 300);
        if (rows.length === 0) break;
        read.push(...rows.map(({ key, value }): [string, string] => [key, Buffer.from(value).toString()]));
        after = rows.at(-1)?.key;
        const at = position(2 + pages);
        await store.apply(
          encodeBatch([put('k100', 'new'), gone('k101'), put(`later${pages}`, ''), put('k000', 'new')]),
          at,
        );
        if (pages === 3) await store.checkpoint();
      }
      await snapshot.close();
      assert.ok(pages > 5);
      assert.deepEqual(
        read,
        keys.map((key) => [key, `${key} old`]),
      );
      assert.deepEqual(
        (await store.get(['k100', 'k101'])).map((value) => value && Buffer.from(value).toString()),
        ['new', undefined],
      );
      assert.equal(await store.checkpoint(), position(1 + pages));
      await store.close();
    },
  );

  onStore(
    'a snapshot of nothing has no rows; one that is open does not keep the store from closing',
    async ({ open }) => {
      const store = await open();
      const snapshot = await store.snapshot();
      assert.deepEqual([snapshot.applied, await snapshot.read(undefined, 1_000)], [0, []]);
      await store.close();
    },
  );

  onStore('keys are bytes and sort as bytes', async ({ open }) => {
    const store = await open();
    const keys = Array.from({ length: 256 }, (_, byte) => `k${String.fromCharCode(byte)}`);
    await store.apply(encodeBatch([...keys].reverse().map((key) => put(key, key))), position(1));
    await store.apply(encodeBatch([put('k', 'shorter'), put('k\0\0', 'longer')]), position(2));
    const [rows = []] = await store.scan([{ from: 'k', to: 'l', limit: 1000 }]);
    assert.deepEqual(
      rows.map(({ key }) => key),
      ['k', 'k\0', 'k\0\0', ...keys.slice(1)],
    );
    await store.close();
  });

  onStore('a scan begins at its bound, ends before its other bound, and holds to its limit', async ({ open }) => {
    const store = await open();
    await store.apply(encodeBatch([...'abcdefgh'].map((key) => put(key, key))), position(1));
    const pages = await store.scan([
      { from: 'b', to: 'e', limit: 10 },
      { from: 'b', to: 'h', limit: 2 },
      { from: 'd', to: 'd', limit: 10 },
      { from: 'e', to: 'b', limit: 10 },
      { from: 'ee', to: 'z', limit: 10 },
      { from: 'a', to: 'z', limit: 0 },
    ]);
    assert.deepEqual(
      pages.map((page) => page.map(({ key }) => key).join('')),
      ['bcd', 'bc', '', '', 'fgh', ''],
    );
    await store.close();
  });

  onStore('M2: it records the position that it has applied, over restarts', async ({ open }) => {
    for (let start = 0; start < 3; start++) {
      const store = await open();
      assert.equal(store.applied, start * 2);
      await store.apply(encodeBatch([put(`${start}`, 'a')]), position(start * 2 + 1));
      await store.apply(encodeBatch([]), position(start * 2 + 2));
      await store.close();
    }
    const store = await open();
    assert.deepEqual(await contentOf(store), [
      ['0', 'a'],
      ['1', 'a'],
      ['2', 'a'],
    ]);
    await store.close();
  });

  onStore('batches that are given without waiting are applied in order', async ({ open }) => {
    const store = await open();
    await Promise.all(
      Array.from({ length: 200 }, (_, i) => store.apply(encodeBatch([put('k', `${i}`)]), position(i + 1))),
    );
    assert.deepEqual(await contentOf(store), [['k', '199']]);
    await store.close();
  });

  onStore('M2: a gap in the positions is refused, and nothing is applied after it', async ({ open }) => {
    const store = await open();
    await store.apply(encodeBatch([put('a', '1')]), position(1));
    await assert.rejects(store.apply(encodeBatch([put('b', '2')]), position(3)), {
      code: 'internal',
      message: /3.*follow 1/,
    });
    await assert.rejects(store.apply(encodeBatch([put('c', '3')]), position(2)));
    await store.close();
    const again = await open();
    assert.equal(again.applied, 1);
    assert.deepEqual(await contentOf(again), [['a', '1']]);
    await again.close();
  });

  onStore('a damaged batch is refused as a whole', async ({ open }) => {
    const store = await open();
    const bytes = encodeBatch([put('a', '1'), put('b', '2')]);
    await assert.rejects(store.apply(bytes.subarray(0, bytes.length - 1), position(1)), { code: 'store_damaged' });
    await store.close();
    const again = await open();
    assert.deepEqual(await contentOf(again), []);
    assert.equal(again.applied, 0);
    await again.close();
  });

  onStore('M2: a checkpoint tells up to where the view is durable', async ({ open }) => {
    const store = await open();
    assert.equal(await store.checkpoint(), 0);
    for (let at = 1; at <= 5; at++) await store.apply(encodeBatch([put('k', `${at}`)]), position(at));
    assert.equal(await store.checkpoint(), 5);
    assert.equal(await store.checkpoint(), 5);
    await store.close();
  });

  onStore('it holds what a map holds after the same random batches and restarts', async ({ open }) => {
    const change = fc.record({
      key: fc.string({ unit: fc.constantFrom('a', 'b', '\0', '\xff'), maxLength: 4 }),
      value: fc.option(fc.uint8Array({ maxLength: 20 }), { nil: undefined }),
    });
    const model = new Map<string, Uint8Array>();
    let at = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(change, { maxLength: 6 }), { maxLength: 5 }), async (batches) => {
        const store = await open();
        assert.equal(store.applied, at);
        for (const batch of batches) {
          for (const { key, value } of batch) {
            if (value === undefined) model.delete(key);
            else model.set(key, value);
          }
          await store.apply(encodeBatch(batch), position(++at));
        }
        assert.deepEqual(
          await contentOf(store),
          [...model]
            .map(([key, value]) => [key, Buffer.from(value).toString()] as const)
            .sort(([a], [b]) => (a < b ? -1 : 1)),
        );
        await store.close();
      }),
      // The model goes on over all runs, so a smaller example would not be one.
      { numRuns: 25, endOnFailure: true },
    );
  });
}
