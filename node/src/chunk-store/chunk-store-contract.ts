/** What every ChunkStore must do; run on files and on the simulator's disk. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { InventoryDigest } from '@collective/protocol/bulk/inventory-digest';
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

    check(
      'a chunk that was forgotten is gone, also after a restart; counts and digest follow',
      async (store, subject) => {
        const chunks = Array.from({ length: 10 }, (_unused, i) => scratchChunk(i + 1, 5_000));
        for (const { facts, frames } of chunks) await store.put(facts, frames);
        const kept = [scratchId(2), scratchId(9)];
        await store.forget([
          ...chunks.map(({ facts }) => facts.chunk).filter((id) => !kept.includes(id)),
          scratchId(77),
        ]);
        const expected = new InventoryDigest();
        for (const id of kept) expected.add(id);
        const check = async (now: ChunkStore): Promise<void> => {
          assert.deepEqual(now.list(undefined, 100), kept);
          assert.deepEqual([now.stats().chunkCount, now.stats().inventoryDigest], [2, expected.value]);
          assert.ok(now.stats().deadBytes >= 8 * 5_000, `${now.stats().deadBytes} dead bytes`);
          for (const { facts, raw } of chunks) {
            const { chunk } = facts;
            assert.equal(now.has(chunk), kept.includes(chunk));
            if (kept.includes(chunk)) assert.ok((await readRaw(now, chunk, 0, 5_000)).equals(raw));
            else
              for (const reading of [readRaw(now, chunk, 0, 1), now.describe(chunk), now.verify(chunk)])
                await failsWith('chunk_missing', reading);
          }
        };
        await check(store);
        assert.equal(store.stats().forgottenChunks, 8);
        await check(await subject.reopen());
      },
    );

    check('forgetting is idempotent, and stable when it resolves, for whoever asks', async (store) => {
      const { facts, frames } = scratchChunk(1, 5_000);
      await store.put(facts, frames);
      await Promise.all([store.forget([facts.chunk, facts.chunk]), store.forget([facts.chunk])]);
      assert.equal(store.stats().unstableBytes, 0);
      await store.forget([facts.chunk]);
      await store.forget([]);
      assert.equal(store.stats().forgottenChunks, 1);
    });

    check(
      'a chunk that was forgotten can be put again, with other bytes, and is there after a restart',
      async (store, subject) => {
        const first = scratchChunk(1, 5_000);
        const second = scratchChunk(1, 3_000, 'text');
        const before = await store.put(first.facts, first.frames);
        await store.forget([first.facts.chunk]);
        const after = await store.put(second.facts, second.frames);
        assert.equal(after.alreadyHere, false);
        assert.ok(after.sequence > before.sequence);
        assert.ok((await readRaw(store, first.facts.chunk, 0, 3_000)).equals(second.raw));
        const again = await subject.reopen();
        assert.ok((await readRaw(again, first.facts.chunk, 0, 3_000)).equals(second.raw));
        assert.equal((await again.put(second.facts, second.frames)).sequence, after.sequence);
        await again.forget([first.facts.chunk]);
        assert.equal((await subject.reopen()).stats().chunkCount, 0);
      },
    );

    check('puts and forgets of one chunk at once end as if they came one after the other', async (store) => {
      const { facts, frames } = scratchChunk(1, 5_000);
      const { chunk } = facts;
      const results = await Promise.all([
        store.put(facts, frames),
        store.forget([chunk]),
        store.put(facts, frames),
        store.forget([chunk]),
        store.put(facts, frames),
      ]);
      assert.deepEqual(
        [results[0], results[2], results[4]].map(({ alreadyHere }) => alreadyHere),
        [false, false, true],
      );
      assert.equal(store.has(chunk), true);
    });

    check('a read that is under way when its chunk is forgotten ends well or with chunk_missing', async (store) => {
      const { facts, frames, raw } = scratchChunk(1, 4 * 1024 * 1024);
      await store.put(facts, frames);
      const pieces: Buffer[] = [];
      let failure: unknown;
      try {
        for await (const piece of store.read(facts.chunk, 0, raw.length)) {
          if (pieces.length === 1) await store.forget([facts.chunk]);
          pieces.push(piece);
        }
      } catch (error) {
        failure = error;
      }
      assert.ok(failure instanceof CollectiveError && failure.code === 'chunk_missing', String(failure));
      assert.ok(Buffer.concat(pieces).equals(Buffer.concat(frames).subarray(0, Buffer.concat(pieces).length)));
    });

    check('a read that is under way when other bytes get its id never gives a mix of both', async (store) => {
      const first = scratchChunk(1, 4 * 1024 * 1024);
      const second = scratchChunk(1, 4 * 1024 * 1024, 'noise', 99);
      await store.put(first.facts, first.frames);
      const reading = store.read(first.facts.chunk, 0, first.raw.length);
      await reading.next();
      await store.forget([first.facts.chunk]);
      await store.put(second.facts, second.frames);
      await failsWith('chunk_missing', reading.next());
    });

    check('a whole chunk is verified; one that is not here is missing', async (store) => {
      for (const content of ['noise', 'text'] as const) {
        const { facts, frames } = scratchChunk(content === 'noise' ? 1 : 2, 1_000_000, content);
        const { sequence } = await store.put(facts, frames);
        const stored = await store.verify(facts.chunk);
        assert.deepEqual([stored.digest, stored.sequence], [facts.digest, sequence]);
      }
      await failsWith('chunk_missing', store.verify(scratchId(3)));
      assert.deepEqual(store.damaged, []);
    });

    check('a whole copy is not replaced; what is not here is put', async (store) => {
      const { facts, frames } = scratchChunk(1, 5_000);
      const other = scratchChunk(1, 5_000, 'noise', 99);
      const put = await store.replace(facts, frames);
      assert.equal(put.alreadyHere, false);
      assert.deepEqual(await store.replace(facts, frames), { sequence: put.sequence, alreadyHere: true });
      await failsWith('chunk_conflict', store.replace(other.facts, other.frames));
      await failsWith('frame_invalid', store.replace(facts, other.frames));
    });

    check('a full store forgets, and says that it holds dead bytes', async (store) => {
      let number = 1;
      for (; !store.stats().full; number++) {
        const { facts, frames } = scratchChunk(number, 4 * 1024 * 1024, 'noise', 1);
        await store.put(facts, frames);
      }
      await store.forget(Array.from({ length: number }, (_unused, i) => scratchId(i)));
      assert.equal(store.stats().chunkCount, 0);
    });

    check(
      'compaction gives back what was forgotten and keeps what was not, at its sequence',
      async (store, subject) => {
        const chunks = Array.from({ length: 40 }, (_unused, i) =>
          scratchChunk(i + 1, 20_000, i % 2 === 0 ? 'noise' : 'text'),
        );
        const sequences = new Map<string, number>();
        for (const { facts, frames } of chunks) sequences.set(facts.chunk, (await store.put(facts, frames)).sequence);
        await store.forget(chunks.filter((_chunk, i) => i % 4 !== 0).map(({ facts }) => facts.chunk));
        await store.compact();
        const check = async (now: ChunkStore): Promise<void> => {
          assert.equal(now.stats().chunkCount, 10);
          for (const [i, { facts, raw }] of chunks.entries()) {
            assert.equal(now.has(facts.chunk), i % 4 === 0, `chunk ${i}`);
            if (i % 4 !== 0) continue;
            assert.ok((await readRaw(now, facts.chunk, 0, raw.length)).equals(raw));
            assert.equal((await now.verify(facts.chunk)).sequence, sequences.get(facts.chunk));
          }
        };
        await check(store);
        const { usedBytes, deadBytes } = store.stats();
        assert.ok(usedBytes < 10 * 21_000, `${usedBytes} used`);
        assert.ok(deadBytes < 2_000, `${deadBytes} dead`);
        const again = await subject.reopen();
        await check(again);
        await again.compact();
        await check(again);
      },
    );

    check('when everything is forgotten, compaction leaves nothing', async (store, subject) => {
      for (let number = 1; number <= 30; number++) {
        const { facts, frames } = scratchChunk(number, 50_000);
        await store.put(facts, frames);
        if (number % 10 === 0) await store.forget([scratchId(number - 5)]);
      }
      await store.forget(Array.from({ length: 30 }, (_unused, i) => scratchId(i + 1)));
      await store.compact();
      const { usedBytes, deadBytes, chunkCount, inventoryDigest } = store.stats();
      assert.deepEqual([usedBytes, deadBytes, chunkCount, inventoryDigest], [0, 0, 0, 0]);
      const again = await subject.reopen();
      assert.deepEqual([again.stats().usedBytes, again.stats().chunkCount], [0, 0]);
      const { facts, frames } = scratchChunk(3, 100);
      assert.equal((await again.put(facts, frames)).alreadyHere, false);
    });

    check('compaction can be given up', async (store) => {
      const { facts, frames } = scratchChunk(1, 100);
      await store.put(facts, frames);
      await store.forget([facts.chunk]);
      const reason = new Error('enough');
      await assert.rejects(store.compact(AbortSignal.abort(reason)), reason);
      await store.compact();
    });

    check('a store that was closed takes nothing more, and closing twice is no error', async (store) => {
      const { facts, frames } = scratchChunk(1, 100);
      await store[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await failsWith('shutting_down', store.put(facts, frames));
      await failsWith('shutting_down', store.compact());
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
