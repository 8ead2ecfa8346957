import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chunkIdOf } from '@collective/base/ids';
import { Durability, type Reply } from '@collective/protocol/gen/session';
import { blocks, commit, start } from '../ops/one-file.ts';
import { CHUNK_BLOCK, CHUNK_RANGES_MAX, CHUNKS_PER_GRANT_MAX, ChunkIds, SessionChunkIds } from './chunk-ids.ts';
import {
  chunkOf,
  code,
  commitOp,
  contentOf,
  ROOT,
  replicaOf,
  resultOf,
  sliceOf,
  TEST_EPOCH,
  testChunk,
} from './scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from './session-harness.ts';

const EPOCH = { generation: 7, start: 3 };

test('D7, M2a: blocks of sessions and of the coordinator itself never overlap, and nobody has number 0', () => {
  const ids = new ChunkIds(EPOCH);
  const [one, two] = [new SessionChunkIds([]), new SessionChunkIds([])];
  ids.begin(one);
  ids.begin(two);
  const drawn = [ids.draw(one, 10).first, ids.draw(two, 10).first, ids.draw(one, 10).first];
  assert.deepEqual(drawn, [1, CHUNK_BLOCK, 11]);
  const own = ids.drawOwn();
  const all = [chunkIdOf(EPOCH, 1), chunkIdOf(EPOCH, CHUNK_BLOCK), own, chunkIdOf(EPOCH, 0)];
  assert.deepEqual(
    [one, two].map((session) => all.map((id) => session.has(id))),
    [
      [true, false, false, false],
      [false, true, false, false],
    ],
  );
  assert.equal(ids.begin(one).next, 21, 'a session that comes back goes on with its block');
});

test('D7: a session that has used its block up gets another, and keeps the right to the first', () => {
  const ids = new ChunkIds(EPOCH);
  const session = new SessionChunkIds([]);
  ids.begin(session);
  const seen = new Set<number>();
  let blocks = 1;
  for (let drawn = 0; drawn < CHUNK_BLOCK + 3 * CHUNKS_PER_GRANT_MAX; drawn += CHUNKS_PER_GRANT_MAX) {
    const { first, isNew } = ids.draw(session, CHUNKS_PER_GRANT_MAX);
    if (isNew) blocks += 1;
    assert.ok(!seen.has(first));
    seen.add(first);
    assert.ok(session.has(chunkIdOf(EPOCH, first)) && session.has(chunkIdOf(EPOCH, first + CHUNKS_PER_GRANT_MAX - 1)));
  }
  assert.equal(blocks, 2);
  assert.equal(session.rows().length, 2);
  const again = new SessionChunkIds(session.rows());
  for (const first of seen) assert.ok(again.has(chunkIdOf(EPOCH, first)));
});

test('D7: a session remembers its blocks of a bounded number of epochs', () => {
  let rows = new SessionChunkIds([]).rows();
  const given = Array.from({ length: CHUNK_RANGES_MAX + 2 }, (_, start) => {
    const ids = new ChunkIds({ generation: 7, start: start + 1 });
    const session = new SessionChunkIds(rows);
    ids.begin(session);
    rows = session.rows();
    return chunkIdOf(ids.epoch, ids.draw(session, 1).first);
  });
  const session = new SessionChunkIds(rows);
  assert.deepEqual(
    given.map((id) => session.has(id)),
    [false, false, ...Array.from({ length: CHUNK_RANGES_MAX }, () => true)],
  );
});

test("D9: after a restore all ids of before are nobody's, and of its own the coordinator knows which", () => {
  const before = new SessionChunkIds([]);
  new ChunkIds(EPOCH).begin(before);
  const given = chunkIdOf(EPOCH, 5);
  const session = new SessionChunkIds(before.rows());
  const sameGeneration = new ChunkIds({ ...EPOCH, start: EPOCH.start + 1 });
  sameGeneration.begin(session);
  assert.equal(session.has(given), true);
  const restored = new ChunkIds({ generation: EPOCH.generation + 1, start: EPOCH.start + 2 });
  const again = new SessionChunkIds(session.rows());
  restored.begin(again);
  assert.equal(again.has(given), false);
  assert.equal(again.rows().length, 1);
  const own = restored.drawOwn();
  assert.deepEqual([restored.isOwn(own), restored.isOwn(given), sameGeneration.isOwn(own)], [true, false, false]);
});

async function isThere(client: ScriptedClient, inode: number, chunk: number): Promise<void> {
  const page = await blocks(client, inode);
  assert.deepEqual(
    page.blocks.map(({ slices }) => slices),
    [[sliceOf({ offset: 0, length: 10, chunk })]],
  );
}

test("D2, D7: an id of another session's block is refused in a first commit, and commits as before for its own", async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const other = await world.client();
  const piece = { offset: 0, length: 10, chunk: 5 };
  await assert.rejects(commit(other, inode, [piece]), code('chunk_foreign'));
  await assert.rejects(other.make(ROOT, 'g', { content: contentOf([piece]) }), code('chunk_foreign'));
  // One of several is enough, and none of them is committed.
  await assert.rejects(
    commit(other, inode, [{ offset: 20, length: 10, chunk: chunkOf(2, 1) }, piece]),
    code('chunk_foreign'),
  );
  assert.deepEqual(await client.names(ROOT), ['f']);
  assert.equal((await client.stat(inode)).size, 0);
  await commit(client, inode, [piece]);
  await isThere(client, inode, 5);
  // A chunk that the file has is known: whoever may write the file may name it again.
  await commit(other, inode, [{ offset: 4, length: 3, chunk: 5, chunkOffset: 4 }], { chunks: [] });
});

for (const { name, chunk } of [
  { name: 'the coordinator keeps for itself, or nobody was given', chunk: testChunk(9 * CHUNK_BLOCK) },
  { name: 'of an epoch to come', chunk: testChunk(5, { ...TEST_EPOCH, start: 2 }) },
  { name: 'of an epoch before the session', chunk: testChunk(5, { ...TEST_EPOCH, start: 0 }) },
  { name: 'of another generation', chunk: testChunk(5, { generation: 6, start: 1 }) },
  { name: 'number 0', chunk: testChunk(0) },
])
  test(`D2, D7: a first commit of an id is refused that is ${name}`, async () => {
    await using parts = await start();
    const { client, inode } = parts;
    const described = { length: 10, storedLength: 10, digest: Buffer.alloc(4), replicas: [replicaOf('n1')] };
    const slices = [{ offset: 0, length: 10, chunk, chunkOffset: 0 }];
    await assert.rejects(
      commit(client, inode, [], { slices, chunks: [{ chunk, ...described }] }),
      code('chunk_foreign'),
    );
  });

for (const how of ['kill', 'orderly', 'power-loss'] as const)
  test(`D2, M2a: what a session had put before a restart (${how}) it may commit after it, and nobody else may`, async () => {
    await using world = await SessionWorld.start({ seed: 5 });
    const client = await world.client();
    const { inode } = await client.make(ROOT, 'f', {}, { durability: Durability.STABLE });
    await world.restart(how);
    const other = await world.client();
    await client.attach();
    client.replayed();
    const piece = { offset: 0, length: 10, chunk: 5 };
    await assert.rejects(commit(other, inode, [piece]), code('chunk_foreign'));
    await world.restart(how);
    await client.attach();
    client.replayed();
    await commit(client, inode, [piece]);
    await isThere(client, inode, 5);
    // Its new ids are of the new epoch, and its own.
    const { epoch, firstChunk } = await client.call(
      { $case: 'replenish', value: { realm: 1, bytes: 0, chunks: 1 } },
      'replenished',
    );
    assert.deepEqual(epoch, { ...TEST_EPOCH, start: 3 });
    const chunk = testChunk(firstChunk, epoch);
    const described = { chunk, length: 10, storedLength: 10, digest: Buffer.alloc(4), replicas: [replicaOf('n1')] };
    const slices = [{ offset: 0, length: 10, chunk, chunkOffset: 0 }];
    await commit(client, inode, [], { slices, chunks: [described] });
  });

test('D2, M4: a commit that is made again after a power loss names ids of the epoch in which it was answered', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const world = await SessionWorld.start({ seed, syncMs: 40 });
    const client = await world.client();
    const { inode } = await client.make(ROOT, 'f');
    await world.clock.advance(300);
    const number = client.draw();
    const op = commitOp(inode, [{ offset: 0, length: 10, chunk: 5 }]);
    const before: Reply = await client.reply(op, { number });
    await world.restart('power-loss');
    const { recoveredPosition } = await client.attach();
    if (before.position > recoveredPosition) {
      lost += 1;
      resultOf(await client.reply(op, { number, replay: before.drawn }), 'committed');
    }
    client.replayed();
    await isThere(client, inode, 5);
    await world[Symbol.asyncDispose]();
  }
  assert.ok(lost > 0, 'some seed loses something');
});

test('D2: ids of a session that has ended are refused, also to the same client', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const { clientId } = client;
  await client.detach();
  const again = await world.client({ clientId });
  await assert.rejects(commit(again, inode, [{ offset: 0, length: 10, chunk: 5 }]), code('chunk_foreign'));
  await commit(again, inode, [{ offset: 0, length: 10, chunk: chunkOf(2, 5) }]);
});

test('D2, M4: ids of a second block are not handed out before it is stable whose they are', async () => {
  const world = await SessionWorld.start({ seed: 3, syncMs: 30 });
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f', {}, { durability: Durability.STABLE });
  const replenish = () =>
    client.call({ $case: 'replenish', value: { realm: 1, bytes: 0, chunks: CHUNKS_PER_GRANT_MAX } }, 'replenished');
  let last = 0;
  // The last grant of the first block is smaller by one, so it begins the second.
  for (let grants = 0; grants < CHUNK_BLOCK / CHUNKS_PER_GRANT_MAX; grants++) last = (await replenish()).firstChunk;
  assert.equal(last, CHUNK_BLOCK);
  await world.restart('power-loss');
  await client.attach();
  client.replayed();
  await commit(client, inode, [{ offset: 0, length: 10, chunk: last }]);
  await isThere(client, inode, last);
  await world[Symbol.asyncDispose]();
});
