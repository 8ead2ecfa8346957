import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_BYTES, FILE_BYTES_MAX } from '@collective/base/limits';
import { FallocateMode } from '@collective/protocol/gen/session';
import fc from 'fast-check';
import {
  chunkOf,
  code,
  commitOp,
  contentOf,
  type Op,
  type Piece,
  ROOT,
  replicaOf,
  sliceOf,
  testChunk,
} from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from '../session/session-harness.ts';
import { BLOCKS, CHUNKS, DOOMED, GARBAGE, UNDER_REPLICATED } from '../tables/tables.ts';
import { BLOCK_SLICES_MAX } from './block-slices.ts';
import { CLEARED_BLOCKS_MAX } from './clear-blocks.ts';
import { blocks, commit, count, start, usedBytes } from './one-file.ts';

function allocate(client: ScriptedClient, inode: number, mode: FallocateMode | number, offset: number, length: number) {
  const op: Op = { $case: 'fallocate', value: { inode, mode: mode as FallocateMode, offset, length } };
  return client.call(op, 'committed');
}

test('D2: a small file comes with its content in one operation', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const made = await client.make(ROOT, 'f', {
    content: contentOf([{ offset: 0, length: 100, chunk: 1 }], {
      size: 120,
      mtime: { seconds: 5, nanos: 6 },
      xattrs: [{ name: 'user.a', value: Buffer.from('1') }],
    }),
  });
  assert.deepEqual(
    { size: made.size, stored: made.storedBytes, mtime: made.mtime },
    { size: 120, stored: 100, mtime: { seconds: 5, nanos: 6 } },
  );
  const page = await blocks(client, made.inode);
  assert.deepEqual(
    page.blocks.map(({ slices }) => slices),
    [[sliceOf({ offset: 0, length: 100, chunk: 1 })]],
  );
  assert.deepEqual(
    page.chunks.map(({ chunk, length, replicas }) => [chunk, length, replicas.map(({ node }) => node)]),
    [[testChunk(1), 100, ['n1', 'n2']]],
  );
  assert.equal(
    (
      await client.call({ $case: 'getXattr', value: { inode: made.inode, name: 'user.a' } }, 'xattrValue')
    ).value.toString(),
    '1',
  );
});

for (const { name, pieces, more = {}, expected } of [
  { name: 'no length', pieces: [{ offset: 0, length: 0, chunk: 1 }], expected: 'invalid_argument' },
  {
    name: 'a slice over the border of a block',
    pieces: [{ offset: BLOCK_BYTES - 1, length: 2, chunk: 1 }],
    expected: 'invalid_argument',
  },
  { name: 'an end beyond 16 TiB', pieces: [{ offset: FILE_BYTES_MAX, length: 1, chunk: 1 }], expected: 'too_large' },
  { name: 'sizeAtLeast beyond 16 TiB', pieces: [], more: { sizeAtLeast: FILE_BYTES_MAX + 1 }, expected: 'too_large' },
  {
    name: 'more slices than allowed',
    pieces: Array.from({ length: 257 }, (_, i) => ({ offset: i, length: 1, chunk: 1, chunkOffset: i })),
    expected: 'invalid_argument',
  },
  {
    name: 'a chunk that the commit does not describe (D2)',
    pieces: [{ offset: 0, length: 1, chunk: 1 }],
    more: { chunks: [] },
    expected: 'invalid_argument',
  },
  {
    name: 'a slice beyond its chunk',
    pieces: [{ offset: 0, length: 2, chunk: 1 }],
    more: {
      chunks: [
        { chunk: testChunk(1), length: 1, storedLength: 1, digest: Buffer.alloc(4), replicas: [replicaOf('n1')] },
      ],
    },
    expected: 'invalid_argument',
  },
  {
    name: 'a chunk id of three bytes',
    pieces: [],
    more: { slices: [{ offset: 0, length: 1, chunk: Buffer.alloc(3), chunkOffset: 0 }] },
    expected: 'invalid_argument',
  },
  {
    name: 'a chunk on no node',
    pieces: [{ offset: 0, length: 1, chunk: 1 }],
    more: { replicas: [] },
    expected: 'unavailable',
  },
  {
    name: 'a time with too many nanoseconds',
    pieces: [],
    more: { mtime: { seconds: 1, nanos: 1_000_000_000 } },
    expected: 'invalid_argument',
  },
] as { name: string; pieces: Piece[]; more?: Parameters<typeof commitOp>[2]; expected: string }[])
  test(`a commit is refused: ${name}`, async () => {
    await using parts = await start();
    const { client, inode, world } = parts;
    await assert.rejects(commit(client, inode, pieces, more), code(expected));
    assert.equal((await client.stat(inode)).size, 0);
    assert.equal(await count(world, CHUNKS), 0);
  });

test('a file may end at exactly 16 TiB and be sparse', async () => {
  await using parts = await start();
  const { client, inode } = parts;
  await commit(client, inode, [{ offset: FILE_BYTES_MAX - 10, length: 10, chunk: 1 }]);
  const { size, storedBytes } = await client.stat(inode);
  assert.deepEqual({ size, storedBytes }, { size: FILE_BYTES_MAX, storedBytes: 10 });
  const last = FILE_BYTES_MAX / BLOCK_BYTES - 1;
  assert.deepEqual(
    (await blocks(client, inode, last)).blocks.map(({ index }) => index),
    [last],
  );
  assert.deepEqual((await blocks(client, inode)).blocks, []);
  assert.equal((await client.set(inode, { size: FILE_BYTES_MAX })).size, FILE_BYTES_MAX);
  await assert.rejects(client.set(inode, { size: FILE_BYTES_MAX + 1 }), code('too_large'));
  await assert.rejects(
    client.make(ROOT, 'g', { content: contentOf([], { size: FILE_BYTES_MAX + 1 }) }),
    code('too_large'),
  );
  assert.equal((await client.set(inode, { size: 0 })).storedBytes, 0);
});

test('a cut shows zeros where the file grows again, also in the middle of a slice', async () => {
  await using parts = await start();
  const { client, inode } = parts;
  await commit(client, inode, [
    { offset: 0, length: 1_000, chunk: 1 },
    { offset: BLOCK_BYTES, length: 500, chunk: 2 },
  ]);
  assert.equal((await client.set(inode, { size: 400 })).storedBytes, 400);
  const grown = await client.set(inode, { size: 2 * BLOCK_BYTES });
  assert.deepEqual({ size: grown.size, stored: grown.storedBytes }, { size: 2 * BLOCK_BYTES, stored: 400 });
  const page = await blocks(client, inode);
  assert.deepEqual(
    page.blocks.map(({ index, slices }) => ({ index, slices })),
    [{ index: 0, slices: [sliceOf({ offset: 0, length: 400, chunk: 1 })] }],
  );
});

test('a long cut is made in steps and leaves nothing, in quota and in rows', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const before = await usedBytes(world);
  const blocksMade = 1_300;
  for (let at = 0; at < blocksMade; at += 100)
    await commit(
      client,
      inode,
      Array.from({ length: 100 }, (_, i) => ({ offset: (at + i) * BLOCK_BYTES, length: 10, chunk: at + i + 1 })),
    );
  assert.equal((await usedBytes(world)) - before, blocksMade * 10);
  const cut = await client.set(inode, { size: 5 });
  assert.deepEqual({ size: cut.size, stored: cut.storedBytes }, { size: 5, stored: 5 });
  assert.equal(await count(world, BLOCKS), 1);
  assert.equal(await count(world, GARBAGE), blocksMade - 1);
  assert.equal((await usedBytes(world)) - before, 5);
});

test('to empty a file costs one row, however long it was; its blocks become garbage later', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await commit(client, inode, [
    { offset: 0, length: 10, chunk: 1 },
    { offset: 9 * BLOCK_BYTES, length: 10, chunk: 2 },
  ]);
  await client.set(inode, { size: 0 });
  assert.equal(await count(world, DOOMED), 1);
  assert.deepEqual((await blocks(client, inode)).blocks, []);
  await commit(client, inode, [{ offset: 0, length: 3, chunk: 3 }]);
  assert.equal((await client.stat(inode)).storedBytes, 3);
});

test('F6: the version of a block never comes back, also not after a cut', async () => {
  await using parts = await start();
  const { client, inode } = parts;
  const seen = new Set<number>();
  for (let round = 0; round < 4; round++) {
    const { blocks: touched } = await commit(client, inode, [{ offset: 0, length: 10, chunk: round + 1 }]);
    const version = touched[0]?.version ?? 0;
    assert.ok(!seen.has(version), `version ${version} came before`);
    for (const older of seen)
      await assert.rejects(
        commit(client, inode, [{ offset: 0, length: 1, chunk: 50 }], { expected: [{ block: 0, version: older }] }),
        code('stale'),
      );
    seen.add(version);
    if (round % 2 === 0) await client.set(inode, { size: 0 });
  }
});

test('F6: a commit over a block that changed since is refused', async () => {
  await using parts = await start();
  const { client, inode } = parts;
  const { blocks: touched } = await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 2 }], { expected: touched });
  await assert.rejects(
    commit(client, inode, [{ offset: 0, length: 10, chunk: 3 }], { expected: touched }),
    code('stale'),
  );
  await commit(client, inode, [{ offset: BLOCK_BYTES, length: 1, chunk: 4 }], { expected: [{ block: 1, version: 0 }] });
});

test('F7: appended data is placed at the end of file, over the border of a block too, whoever appends', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const other = await world.client();
  await commit(client, inode, [], { sizeAtLeast: BLOCK_BYTES - 10 });
  const append = { append: true };
  const [first, second] = await world.finish(
    Promise.all([
      client.send(commitOp(inode, [{ offset: 0, length: 30, chunk: 1 }], append)),
      other.send(commitOp(inode, [{ offset: 0, length: 5, chunk: chunkOf(2, 2) }], append)),
    ]),
  );
  const offsets = [first, second].map((reply) =>
    reply?.result?.$case === 'committed' ? reply.result.value.offset : -1,
  );
  assert.equal(Math.min(...offsets), BLOCK_BYTES - 10);
  assert.equal((await client.stat(inode)).size, BLOCK_BYTES + 25);
  const page = await blocks(client, inode);
  const written = page.blocks.flatMap(({ slices }) =>
    slices.map(({ offset, length, chunkOffset }) => ({ offset, length, chunkOffset })),
  );
  const total = written.reduce((sum, { length }) => sum + length, 0);
  assert.equal(total, 35);
  for (const { offset, length } of written) assert.ok((offset % BLOCK_BYTES) + length <= BLOCK_BYTES);
});

test('fallocate: the four modes, and what each does to the size', async () => {
  await using parts = await start();
  const { client, inode } = parts;
  const { FALLOCATE_ALLOCATE, FALLOCATE_KEEP_SIZE, FALLOCATE_PUNCH_HOLE, FALLOCATE_ZERO_RANGE } = FallocateMode;
  await commit(client, inode, [{ offset: 0, length: 1_000, chunk: 1 }]);
  assert.equal((await allocate(client, inode, FALLOCATE_KEEP_SIZE, 0, 5_000)).attributes?.size, 1_000);
  assert.equal((await allocate(client, inode, FALLOCATE_ALLOCATE, 0, 5_000)).attributes?.size, 5_000);
  const punched = await allocate(client, inode, FALLOCATE_PUNCH_HOLE, 100, 200);
  assert.deepEqual(
    { size: punched.attributes?.size, stored: punched.attributes?.storedBytes },
    { size: 5_000, stored: 800 },
  );
  assert.equal((await allocate(client, inode, FALLOCATE_PUNCH_HOLE, 4_000, 9_000)).attributes?.size, 5_000);
  const zeroed = await allocate(client, inode, FALLOCATE_ZERO_RANGE, 900, 9_100);
  assert.deepEqual(
    { size: zeroed.attributes?.size, stored: zeroed.attributes?.storedBytes },
    { size: 10_000, stored: 700 },
  );
  await assert.rejects(allocate(client, inode, 9, 0, 1), code('invalid_argument'));
  await assert.rejects(allocate(client, inode, FALLOCATE_ALLOCATE, 0, 0), code('invalid_argument'));
  await assert.rejects(allocate(client, inode, FALLOCATE_ALLOCATE, FILE_BYTES_MAX, 1), code('too_large'));
});

/** `count` blocks from the first on, 10 bytes in each, at `offset` within it. */
async function fill(client: ScriptedClient, inode: number, count: number, offset = 0): Promise<void> {
  for (let at = 0; at < count; at += 200) {
    const some = Array.from({ length: Math.min(200, count - at) }, (_, i) => at + i);
    await commit(
      client,
      inode,
      some.map((block) => ({ offset: block * BLOCK_BYTES + offset, length: 10, chunk: block + 1 })),
    );
  }
}

for (const mode of [FallocateMode.FALLOCATE_PUNCH_HOLE, FallocateMode.FALLOCATE_ZERO_RANGE])
  test(`M3: a hole over very many blocks is made in bounded steps and leaves nothing, in quota and in rows (mode ${mode})`, async () => {
    await using parts = await start();
    const { client, inode, world } = parts;
    const filled = 2 * CLEARED_BLOCKS_MAX + 100;
    await fill(client, inode, filled);
    const { size, version } = await client.stat(inode);
    // From the middle of what block 1 holds to the middle of what the block before the last holds.
    const punched = await allocate(client, inode, mode, BLOCK_BYTES + 4, (filled - 3) * BLOCK_BYTES);
    const stored = 10 + 4 + 6 + 10;
    assert.deepEqual(
      { size: punched.attributes?.size, stored: punched.attributes?.storedBytes, offset: punched.offset },
      { size, stored, offset: BLOCK_BYTES + 4 },
    );
    assert.ok((punched.attributes?.version ?? 0) > version);
    assert.deepEqual(
      punched.blocks.map(({ block }) => block),
      [1, filled - 2],
    );
    assert.equal(await usedBytes(world), stored);
    assert.equal(await count(world, BLOCKS), 4);
    assert.equal(await count(world, GARBAGE), filled - 4);
    const edges = [...(await blocks(client, inode)).blocks, ...(await blocks(client, inode, filled - 2)).blocks];
    assert.deepEqual(
      edges.map(({ index }) => index),
      [0, 1, filled - 2, filled - 1],
    );
    // To the end of the file: the last block is whole though the file ends in it.
    const rest = await allocate(client, inode, mode, 0, size);
    assert.deepEqual({ size: rest.attributes?.size, stored: rest.attributes?.storedBytes }, { size, stored: 0 });
    assert.equal(await count(world, BLOCKS), 0);
    assert.equal(await usedBytes(world), 0);
  });

test('M3: a hole over blocks of many slices, whose chunks want replicas, is made in steps too', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const pieces = 100;
  const filled = Math.ceil(BLOCK_SLICES_MAX / pieces) + 3;
  for (let block = 0; block < filled; block++)
    await commit(
      client,
      inode,
      Array.from({ length: pieces }, (_, i) => ({
        offset: block * BLOCK_BYTES + 20 * i,
        length: 10,
        chunk: block * pieces + i + 1,
      })),
      { replicas: [replicaOf('n1')] },
    );
  assert.equal(await count(world, UNDER_REPLICATED), filled * pieces);
  await allocate(client, inode, FallocateMode.FALLOCATE_PUNCH_HOLE, 0, filled * BLOCK_BYTES);
  assert.equal((await client.stat(inode)).storedBytes, 0);
  assert.equal(await count(world, UNDER_REPLICATED), 0);
  assert.equal(await count(world, GARBAGE), filled * pieces);
});

test('what a file shows after writes, holes, cuts and growth is what a plain array of cells shows', async () => {
  const CELL = BLOCK_BYTES / 4;
  const CELLS = 16;
  const range = fc.tuple(fc.nat(CELLS - 1), fc.integer({ min: 1, max: CELLS }));
  const step = fc.oneof(
    fc.record({ do: fc.constant('write' as const), at: fc.nat(CELLS - 1) }),
    fc.record({ do: fc.constantFrom('punch' as const, 'zero' as const), range }),
    fc.record({ do: fc.constant('resize' as const), cells: fc.nat(CELLS) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), async (steps) => {
      await using parts = await start();
      const { client, inode, world } = parts;
      let cells: (number | undefined)[] = [];
      const grow = (to: number): void => {
        cells = Array.from({ length: Math.max(cells.length, to) }, (_, i) => cells[i]);
      };
      for (const [i, one] of steps.entries()) {
        if (one.do === 'write') {
          await commit(client, inode, [{ offset: one.at * CELL, length: CELL, chunk: i + 1 }]);
          grow(one.at + 1);
          cells[one.at] = i + 1;
        } else if (one.do === 'resize') {
          await client.set(inode, { size: one.cells * CELL });
          cells = Array.from({ length: one.cells }, (_, cell) => cells[cell]);
        } else {
          const [at, wanted] = one.range;
          const mode = one.do === 'punch' ? FallocateMode.FALLOCATE_PUNCH_HOLE : FallocateMode.FALLOCATE_ZERO_RANGE;
          await allocate(client, inode, mode, at * CELL, wanted * CELL);
          if (one.do === 'zero') grow(at + wanted);
          cells = cells.map((cell, index) => (index >= at && index < at + wanted ? undefined : cell));
        }
      }
      const { size, storedBytes } = await client.stat(inode);
      const shown: (number | undefined)[] = Array.from({ length: cells.length });
      for (const { slices } of (await blocks(client, inode)).blocks)
        for (const { offset, length, chunk } of slices)
          for (let cell = offset / CELL; cell < (offset + length) / CELL; cell++)
            shown[cell] = chunk.length === 0 ? undefined : Number(`0x${chunk.toString('hex').slice(16)}`);
      assert.deepEqual({ size, shown }, { size: cells.length * CELL, shown: cells });
      const stored = cells.filter((cell) => cell !== undefined).length * CELL;
      assert.equal(storedBytes, stored);
      assert.equal(await usedBytes(world), stored);
    }),
    { numRuns: 60, seed: 11 },
  );
});

test('a write changes both times and the version; set-id bits fall when the client says so', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await client.set(inode, { mode: 0o6755 });
  const before = await client.stat(inode);
  await world.clock.advance(1_000);
  const { attributes } = await commit(client, inode, [{ offset: 0, length: 1, chunk: 1 }], { clearSetId: true });
  assert.equal(attributes?.mode, 0o755);
  assert.notDeepEqual(attributes?.ctime, before.ctime);
  assert.notDeepEqual(attributes?.mtime, before.mtime);
  assert.ok((attributes?.version ?? 0) > before.version);
  const dated = await commit(client, inode, [{ offset: 0, length: 1, chunk: 2 }], { mtime: { seconds: 7, nanos: 8 } });
  assert.deepEqual(dated.attributes?.mtime, { seconds: 7, nanos: 8 });
});

test('the owner of a file with mode 0444 writes and reads its content, others by the mode bits', async () => {
  await using world = await SessionWorld.start();
  const root = await world.client();
  await root.set(ROOT, { mode: 0o777 });
  await world.subject('bob', { trusted: false, uid: 1000, gid: 1000 });
  await world.subject('eve', { trusted: false, uid: 1001, gid: 1001 });
  const bob = await world.client({ user: 'bob' });
  const eve = await world.client({ user: 'eve' });
  const { inode } = await bob.make(ROOT, 'f', { mode: 0o400 });
  await commit(bob, inode, [{ offset: 0, length: 1, chunk: chunkOf(2, 1) }]);
  await blocks(bob, inode);
  await assert.rejects(blocks(eve, inode), code('permission_denied'));
  await assert.rejects(commit(eve, inode, [{ offset: 0, length: 1, chunk: 2 }]), code('permission_denied'));
  await assert.rejects(eve.call({ $case: 'wantWrite', value: { inode } }, 'attributes'), code('permission_denied'));
});
