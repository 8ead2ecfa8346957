/** What every ChunkStore must do; run on files and on the simulator's disk. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { ChunkStore } from './chunk-store.ts';
import { readRaw, scratchChunk, scratchId } from './scratch-chunk.ts';

export interface ChunkStoreUnderTest extends AsyncDisposable {
  readonly store: ChunkStore;
  /** Closes the store in order and opens it again. */
  reopen(): Promise<ChunkStore>;
}

/** `capacityBytes` of the store must be 64 MiB above its reserve. */
export function chunkStoreContract(name: string, make: () => Promise<ChunkStoreUnderTest>): void {
  const check = (title: string, body: (store: ChunkStore, subject: ChunkStoreUnderTest) => Promise<void>): void => {
    test(title, async () => {
      await using subject = await make();
      await body(subject.store, subject);
    });
  };

  describe(`chunk store contract: ${name}`, () => {
    check('a chunk that was put is there, with its facts and bytes', async (store) => {
      for (const [number, length] of [
        [1, 1],
        [2, 4096],
        [3, 131_072],
        [4, 131_073],
        [5, 4 * 1024 * 1024],
      ] as const) {
        const chunk = scratchChunk(number, length, number % 2 === 0 ? 'text' : 'noise');
        assert.equal(store.has(chunk.facts.chunk), false);
        const { sequence, alreadyHere } = await store.put(chunk.facts, chunk.frames);
        assert.equal(alreadyHere, false);
        assert.equal(store.has(chunk.facts.chunk), true);
        assert.ok((await readRaw(store, chunk.facts.chunk, 0, length)).equals(chunk.raw));
        const stored = await store.describe(chunk.facts.chunk);
        const { inode, block, rawLength, digest, epoch } = stored;
        assert.deepEqual({ chunk: stored.chunk, inode, block, rawLength, digest, epoch }, chunk.facts);
        assert.deepEqual([stored.sequence, stored.incarnation], [sequence, store.incarnation]);
      }
    });

    check('D5: a read gives just the frames that cover the range', async (store) => {
      for (const content of ['noise', 'text'] as const) {
        const chunk = scratchChunk(content === 'noise' ? 1 : 2, 1_000_000, content);
        await store.put(chunk.facts, chunk.frames);
        for (const [offset, length, frames] of [
          [0, 1, 1],
          [131_071, 2, 2],
          [400_000, 4096, 1],
          [999_999, 1, 1],
          [0, 1_000_000, 8],
          [131_072, 131_072, 1],
        ] as const) {
          assert.ok(
            (await readRaw(store, chunk.facts.chunk, offset, length)).equals(
              chunk.raw.subarray(offset, offset + length),
            ),
          );
          assert.equal(
            await countFrames(store, chunk.facts.chunk, offset, length),
            frames,
            `${content} ${offset}+${length}`,
          );
        }
      }
    });

    check(
      'D2: the same put again, also at once, gives the same sequence; another digest is a conflict',
      async (store, subject) => {
        const chunk = scratchChunk(1, 5000);
        const other = scratchChunk(1, 5000, 'noise', 99);
        const both = await Promise.all([store.put(chunk.facts, chunk.frames), store.put(chunk.facts, chunk.frames)]);
        assert.equal(both[0].sequence, both[1].sequence);
        assert.deepEqual(
          both.map(({ alreadyHere }) => alreadyHere),
          [false, true],
        );
        assert.deepEqual(await store.put(chunk.facts, chunk.frames), { sequence: both[0].sequence, alreadyHere: true });
        await failsWith('chunk_conflict', store.put(other.facts, other.frames));
        const again = await subject.reopen();
        assert.deepEqual(await again.put(chunk.facts, chunk.frames), { sequence: both[0].sequence, alreadyHere: true });
        await failsWith('chunk_conflict', again.put(other.facts, other.frames));
        assert.ok((await readRaw(again, chunk.facts.chunk, 0, 5000)).equals(chunk.raw));
      },
    );

    check('D2: two puts of different bytes under one id at once: one wins, the other is a conflict', async (store) => {
      const chunk = scratchChunk(1, 5000);
      const other = scratchChunk(1, 5000, 'noise', 99);
      const results = await Promise.allSettled([
        store.put(chunk.facts, chunk.frames),
        store.put(other.facts, other.frames),
      ]);
      assert.deepEqual(
        results.map(({ status }) => status),
        ['fulfilled', 'rejected'],
      );
    });

    check('frames that are not the announced chunk are refused', async (store) => {
      const chunk = scratchChunk(1, 300_000);
      const wrong: [string, Partial<typeof chunk.facts>, readonly Buffer[]][] = [
        ['too few frames', {}, chunk.frames.slice(0, 2)],
        ['no frames', {}, []],
        ['frames in another order', {}, [...chunk.frames].reverse()],
        ['a frame twice', {}, [...chunk.frames.slice(0, 1), ...chunk.frames]],
        ['another length', { rawLength: 300_001 }, chunk.frames],
        ['another digest', { digest: Buffer.alloc(8) }, chunk.frames],
        ['frames of another chunk', {}, scratchChunk(2, 300_000).frames],
      ];
      for (const [what, change, frames] of wrong)
        await failsWith('frame_invalid', store.put({ ...chunk.facts, ...change }, frames), what);
      assert.equal(store.has(chunk.facts.chunk), false);
    });

    check(
      'D3: sequences grow in the order of writing; what is waited for is stable, and all before it',
      async (store) => {
        const sequences: number[] = [];
        for (let i = 1; i <= 20; i++) {
          const { facts, frames } = scratchChunk(i, 100 * i);
          sequences.push((await store.put(facts, frames)).sequence);
        }
        assert.deepEqual(
          sequences,
          [...sequences].sort((a, b) => a - b),
        );
        assert.equal(new Set(sequences).size, 20);
        const tenth = sequences[9] ?? 0;
        await store.whenStable(tenth);
        assert.ok(store.stableSequence >= tenth);
        await store.sync();
        assert.ok(store.stableSequence >= (sequences[19] ?? 0));
        assert.equal(store.stats().unstableBytes, 0);
      },
    );

    check('M2a: neither incarnation nor sequence is given twice', async (store, subject) => {
      const first = scratchChunk(1, 100);
      const second = scratchChunk(2, 100);
      const before = await store.put(first.facts, first.frames);
      const { disk, incarnation } = store;
      const again = await subject.reopen();
      assert.equal(again.disk, disk, 'D10: the disk keeps its uuid');
      assert.equal(again.incarnation, incarnation + 1);
      assert.ok(again.stableSequence >= before.sequence, 'what is still there was made stable at the start');
      assert.ok((await again.put(second.facts, second.frames)).sequence > again.stableSequence);
    });

    check('a chunk that is not here is missing; a range that it does not have is refused', async (store) => {
      const { facts, frames } = scratchChunk(1, 100);
      await failsWith('chunk_missing', readRaw(store, facts.chunk, 0, 1));
      await failsWith('chunk_missing', store.describe(facts.chunk));
      await store.put(facts, frames);
      for (const [offset, length] of [
        [0, 101],
        [100, 1],
        [-1, 5],
        [0, 0],
        [50, 4_000_000],
      ] as const)
        await failsWith('range', readRaw(store, facts.chunk, offset, length), `${offset}+${length}`);
    });

    check(
      'an inventory lists all ids in pages, in order, and its digest does not care how they came',
      async (store, subject) => {
        const numbers = Array.from({ length: 50 }, (_unused, i) => ((i * 37) % 50) + 1);
        for (const number of numbers) {
          const { facts, frames } = scratchChunk(number, 10);
          await store.put(facts, frames);
        }
        const want = Array.from({ length: 50 }, (_unused, i) => scratchId(i + 1));
        assert.deepEqual(store.list(undefined, 1000), want);
        assert.deepEqual(store.list(scratchId(10), 5), want.slice(10, 15));
        assert.deepEqual(store.list(scratchId(50), 5), []);
        const { inventoryDigest, chunkCount } = store.stats();
        assert.equal(chunkCount, 50);
        const again = await subject.reopen();
        assert.equal(again.stats().inventoryDigest, inventoryDigest);
        assert.equal(again.stats().chunkCount, 50);
      },
    );

    check('a store that is full says so, and goes on reading', async (store) => {
      const put: number[] = [];
      let refusal: unknown;
      for (let number = 1; refusal === undefined && number < 40; number++) {
        const { facts, frames } = scratchChunk(number, 4 * 1024 * 1024, 'noise', 1);
        try {
          await store.put(facts, frames);
          put.push(number);
        } catch (error) {
          refusal = error;
        }
      }
      assert.ok(refusal instanceof CollectiveError && refusal.code === 'no_space', String(refusal));
      assert.equal(put.length, 15, '64 MiB hold 15 chunks of 4 MiB with their records');
      assert.equal(store.stats().full, true);
      for (const number of put) assert.equal((await readRaw(store, scratchId(number), 4_000_000, 10)).length, 10);
      const small = scratchChunk(1000, 100);
      await store.put(small.facts, small.frames);
    });

    check('a store that was closed takes nothing more, and closing twice is no error', async (store) => {
      const { facts, frames } = scratchChunk(1, 100);
      await store[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await failsWith('shutting_down', store.put(facts, frames));
    });
  });
}

async function countFrames(
  store: ChunkStore,
  chunk: ReturnType<typeof scratchId>,
  offset: number,
  length: number,
): Promise<number> {
  let count = 0;
  for await (const frames of store.read(chunk, offset, length))
    for (let at = 0; at < frames.length; at += 24 + frames.readUInt32LE(at + 12)) count++;
  return count;
}

export async function failsWith(code: ErrorCode, promise: Promise<unknown>, what: string = code): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof CollectiveError, `${what}: ${String(error)}`);
    assert.equal(error.code, code, `${what}: ${error.message}`);
    return true;
  });
}
