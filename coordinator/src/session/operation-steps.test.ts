/** Operations that are made in steps (M3), cut off anywhere and met by others on their way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_BYTES } from '@collective/base/limits';
import { Durability, FallocateMode } from '@collective/protocol/gen/session';
import { CLEARED_BLOCKS_MAX } from '../ops/clear-blocks.ts';
import { DATA } from '../ops/context.ts';
import { commit, count, usedBytes } from '../ops/one-file.ts';
import { BLOCKS, GARBAGE } from '../tables/tables.ts';
import { chunkOf, code, commitOp, type Op, ROOT, resultOf, setOp } from './scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from './session-harness.ts';

const FILLED = 3 * CLEARED_BLOCKS_MAX + 40;

interface Scene {
  readonly world: SessionWorld;
  readonly client: ScriptedClient;
  readonly inode: number;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A file of many blocks of 10 bytes, in a member whose store takes its time and whose memory is small. */
async function scene(seed = 1): Promise<Scene> {
  const world = await SessionWorld.start({ seed, storeMs: 2, core: { cacheEntriesMax: 500 } });
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f');
  for (let at = 0; at < FILLED; at += 200)
    await commit(
      client,
      inode,
      Array.from({ length: Math.min(200, FILLED - at) }, (_, i) => ({
        offset: (at + i) * BLOCK_BYTES,
        length: 10,
        chunk: at + i + 1,
      })),
    );
  await client.call({ $case: 'sync', value: { inode } }, 'empty');
  await world.clock.advance(1_000);
  return { world, client, inode, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

/** All but the first and the last block, which stay whole. */
const STORED_AFTER = { hole: 20, cut: 10 };
const long: { readonly name: keyof typeof STORED_AFTER; readonly op: (inode: number) => Op }[] = [
  {
    name: 'hole',
    op: (inode) => ({
      $case: 'fallocate',
      value: {
        inode,
        mode: FallocateMode.FALLOCATE_PUNCH_HOLE,
        offset: BLOCK_BYTES,
        length: (FILLED - 2) * BLOCK_BYTES,
      },
    }),
  },
  { name: 'cut', op: (inode) => setOp(inode, { size: 10 }) },
];

async function stored(client: ScriptedClient, inode: number): Promise<number> {
  return (await client.stat(inode)).storedBytes;
}

/** Some steps are made, and not all. */
async function untilUnderWay({ world, client, inode }: Scene): Promise<void> {
  for (let bytes = FILLED * 10; bytes === FILLED * 10; ) {
    await world.clock.advance(2);
    bytes = (await world.client().then((looker) => looker.stat(inode))).storedBytes;
  }
  assert.ok(!client.ended);
}

async function expectDone(parts: Scene, name: keyof typeof STORED_AFTER): Promise<void> {
  const { world, client, inode } = parts;
  assert.equal(await stored(client, inode), STORED_AFTER[name]);
  assert.equal(await usedBytes(world), STORED_AFTER[name]);
  assert.equal(await count(world, BLOCKS), STORED_AFTER[name] / 10);
  assert.equal(await count(world, GARBAGE), FILLED - STORED_AFTER[name] / 10);
}

for (const { name, op } of long) {
  test(`M3: a long ${name} goes step by step, and each step shows a file that is right`, async () => {
    await using parts = await scene();
    const { world, client, inode } = parts;
    const running = client.send(op(inode));
    await untilUnderWay(parts);
    const looker = await world.client();
    const seen = await stored(looker, inode);
    assert.ok(seen > STORED_AFTER[name] && seen < FILLED * 10, `${seen} bytes are left`);
    assert.equal(await count(world, BLOCKS), seen / 10);
    assert.equal(await usedBytes(world), seen);
    resultOf(await world.finish(running), name === 'hole' ? 'committed' : 'attributes');
    await expectDone(parts, name);
  });

  test(`M5: a long ${name} whose stream breaks on the way is ended by the next stream, once`, async () => {
    await using parts = await scene();
    const { world, client, inode } = parts;
    const number = client.draw();
    void client.send(op(inode), { number });
    await untilUnderWay(parts);
    client.breakLink();
    await client.attach();
    const first = await client.reply(op(inode), { number });
    resultOf(first, name === 'hole' ? 'committed' : 'attributes');
    await expectDone(parts, name);
    // What is written there after it is not taken away by one more repetition.
    await commit(client, inode, [{ offset: 5 * BLOCK_BYTES, length: 10, chunk: 9_000 }]);
    assert.deepEqual((await client.reply(op(inode), { number })).result, first.result);
    assert.equal(await stored(client, inode), STORED_AFTER[name] + 10);
    assert.equal(await usedBytes(world), STORED_AFTER[name] + 10);
  });

  for (const how of ['kill', 'power-loss'] as const)
    test(`M3, M5: a long ${name} that a restart cuts off (${how}) is ended when it comes again`, async () => {
      for (let seed = 1; seed <= 3; seed++) {
        await using parts = await scene(seed);
        const { world, client, inode } = parts;
        const number = client.draw();
        void client.send(op(inode), { number, durability: Durability.STABLE });
        await untilUnderWay(parts);
        await world.restart(how);
        await client.attach();
        client.replayed();
        const between = await stored(client, inode);
        assert.equal(await count(world, BLOCKS), between / 10);
        assert.equal(await usedBytes(world), between);
        resultOf(await client.reply(op(inode), { number }), name === 'hole' ? 'committed' : 'attributes');
        await expectDone(parts, name);
      }
    });

  test(`M7: who caches what a long ${name} takes away is told, also when the ${name} is given up`, async () => {
    await using parts = await scene();
    const { world, client, inode } = parts;
    const reader = await world.client({ caches: true });
    const read: Op = { $case: 'readBlocks', value: { inode, first: 0, count: 8 } };
    const reply = await reader.reply(read);
    assert.ok(reply.promises.some((grant) => grant.inode === inode && (grant.kinds & DATA) !== 0));
    const number = client.draw();
    const running = client.send(op(inode), { number });
    await world.clock.until(() => reader.recalls.length > 0, { withinMs: 10_000 });
    assert.ok(reader.recalls.some((recall) => recall.inode === inode && (recall.kinds & DATA) !== 0));
    await client.call({ $case: 'cancel', value: { number, step: 0 } }, 'empty');
    const given = await world.finish(running);
    assert.throws(() => resultOf(given, 'empty'), code('interrupted'));
    const left = await stored(client, inode);
    assert.ok(left > STORED_AFTER[name], `${left} bytes are left`);
    assert.equal(await usedBytes(world), left);
  });

  test(`M3: others write on into a long ${name}, which comes to its end`, async () => {
    await using parts = await scene();
    const { world, client, inode } = parts;
    const other = await world.client();
    const running = client.send(op(inode));
    let isOver = false;
    void running.then(() => {
      isOver = true;
    });
    let written = 0;
    while (!isOver) {
      const block = 2 + ((written * 97) % (FILLED - 4));
      const piece = { offset: block * BLOCK_BYTES, length: 10, chunk: chunkOf(2, 20_000 + written) };
      await world.finish(other.send(commitOp(inode, [piece])));
      written += 1;
      assert.ok(written < 2_000, 'it comes to its end');
    }
    resultOf(await running, name === 'hole' ? 'committed' : 'attributes');
    assert.ok(written > 0);
    const left = await stored(client, inode);
    assert.equal(await count(world, BLOCKS), left / 10);
    assert.equal(await usedBytes(world), left);
    await client.set(inode, { size: 0 });
    assert.equal(await usedBytes(world), 0);
  });
}
