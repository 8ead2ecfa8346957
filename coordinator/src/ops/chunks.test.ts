import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeName } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import { chunkOf, code, contentOf, ROOT, replicaOf, sliceOf, testChunk } from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from '../session/session-harness.ts';
import { prefixEnd } from '../tables/table.ts';
import { GARBAGE, UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';
import { losses } from './losses.ts';
import { blocks, commit, count, start, usedBytes } from './one-file.ts';
import { doubtfulReplicas, markStable, type StoreStart, settleDoubt } from './replica-stability.ts';

/** The store that `replicaOf` names, at one of its starts. */
function storeOf(node: string, incarnation: number): StoreStart {
  return { node: node as NodeName, disk: `disk-${node}`, incarnation };
}

const MiB = 1024 * 1024;

test('D2: a condemned chunk is refused, described or not', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 2 }]);
  const id = testChunk(1).toString('hex') as never;
  await world.finish(
    world.core.engine.run((tx) => tx.put(GARBAGE, { since: tx.now, condemned: true, storedBytes: 0, gone: false }, id)),
  );
  await assert.rejects(commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]), code('chunk_condemned'));
  await assert.rejects(
    commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], { chunks: [] }),
    code('chunk_condemned'),
  );
  assert.equal(await world.finish(world.core.engine.run((tx) => tx.get(GARBAGE, id)?.condemned)), true);
});

test('D2: garbage that is not condemned yet comes back with a commit that names it', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 2 }]);
  assert.equal(await count(world, GARBAGE), 1);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], { chunks: [] });
  const garbage = await world.finish(
    world.core.engine.run((tx) =>
      tx
        .scan(GARBAGE, GARBAGE.prefix, prefixEnd(GARBAGE.prefix), 9)
        .map(({ key }) => Buffer.from(key.slice(1), 'latin1')),
    ),
  );
  assert.deepEqual(garbage, [testChunk(2)]);
});

test("D2, M9: a slice of another file's chunk is no way to its content", async () => {
  await using parts = await start();
  const { client, world, inode } = parts;
  await world.subject('bob', { trusted: false, uid: 1000, gid: 1000 });
  await client.set(ROOT, { mode: 0o777 });
  await client.set(inode, { mode: 0o600 });
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]);
  const bob = await world.client({ user: 'bob' });
  const own = await bob.make(ROOT, 'own');
  await assert.rejects(blocks(bob, inode), code('permission_denied'));
  await assert.rejects(
    commit(bob, own.inode, [{ offset: 0, length: 10, chunk: 1 }], { chunks: [] }),
    code('permission_denied'),
  );
  await assert.rejects(commit(bob, own.inode, [{ offset: 0, length: 10, chunk: 1 }]), code('permission_denied'));
  await assert.rejects(
    bob.make(ROOT, 'new', { content: contentOf([{ offset: 0, length: 10, chunk: 1 }]) }),
    code('permission_denied'),
  );
});

test('D8: fewer replicas than wanted are noted, until the chunk is garbage; two of one node count once', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], { replicas: [replicaOf('n1')] });
  assert.equal(await count(world, UNDER_REPLICATED), 1);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 2 }], { replicas: [replicaOf('n1'), replicaOf('n1')] });
  assert.equal(await count(world, UNDER_REPLICATED), 1);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 3 }], { replicas: [replicaOf('n1'), replicaOf('n2')] });
  assert.equal(await count(world, UNDER_REPLICATED), 0);
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 4 }], {
    replicas: [replicaOf('n1'), replicaOf('n2', { failure: { code: 'no_space', message: '', details: {} } })],
  });
  assert.equal(await count(world, UNDER_REPLICATED), 1);
});

test('D8: minReplicas 2 refuses a chunk that lies on one node', async () => {
  await using world = await SessionWorld.start();
  await world.finish(
    world.core.createRealm({
      path: '/safe',
      quotaBytes: 0,
      quotaInodes: 0,
      replicas: 2,
      minReplicas: 2,
      compressionOff: false,
    } as never),
  );
  await world.subject('root', { admin: true });
  const client = await world.client();
  const { inode: dir } = await client.lookup(ROOT, 'safe');
  const { inode } = await client.make(dir, 'f');
  await assert.rejects(
    commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], { replicas: [replicaOf('n1')] }),
    code('unavailable'),
  );
  await assert.rejects(
    commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], { replicas: [replicaOf('n1'), replicaOf('n1')] }),
    code('unavailable'),
  );
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }]);
});

test('D3: a node that reports its stable sequence makes its replicas stable, and no later ones', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const { engine } = world.core;
  const unstable = (sequence: number) => [
    replicaOf('n1', { stable: false, sequence }),
    replicaOf('n2', { stable: false, sequence }),
  ];
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], { replicas: unstable(5) });
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 2 }], { replicas: unstable(6) });
  assert.equal(await count(world, GARBAGE), 0);
  assert.equal(await count(world, UNSTABLE), 4);
  const store = (incarnation: number) => storeOf('n1', incarnation);
  const lostDisk = { ...store(1), disk: 'another-disk' };
  assert.equal(await world.finish(engine.run((tx) => markStable(tx, lostDisk, 99))), 0);
  assert.equal(await world.finish(engine.run((tx) => markStable(tx, store(2), 99))), 0);
  assert.equal(await world.finish(engine.run((tx) => markStable(tx, store(1), 5))), 1);
  assert.equal(await count(world, UNSTABLE), 3);
  assert.equal(await world.finish(engine.run((tx) => markStable(tx, store(1), 6))), 1);
  // Chunk 2 is stable on minReplicas nodes now, and covers chunk 1: the next write over both lets chunk 1 go.
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 3 }], { replicas: unstable(7) });
  assert.equal(await count(world, GARBAGE), 1);
});

test('D3: a chunk that all its nodes lost before it was stable gives its block back the earlier content, and names the file', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const { engine } = world.core;
  await commit(client, inode, [{ offset: 0, length: 100, chunk: 1 }]);
  const before = await usedBytes(world);
  const unstable = [replicaOf('n1', { stable: false }), replicaOf('n2', { stable: false })];
  await commit(client, inode, [{ offset: 0, length: 150, chunk: 2 }], { replicas: unstable });
  const lose = async (name: string) => {
    const store = storeOf(name, 2);
    const asked = await world.finish(engine.run((tx) => doubtfulReplicas(tx, store)));
    assert.equal(asked.length, 1);
    return world.finish(engine.run((tx) => settleDoubt(tx, store, asked, new Set())));
  };
  assert.deepEqual(await lose('n1'), []);
  assert.equal(await count(world, UNDER_REPLICATED), 1);
  assert.equal((await blocks(client, inode)).chunks.length, 1);
  assert.deepEqual(await lose('n2'), [{ inode, block: 0, chunk: testChunk(2).toString('hex') }]);
  const page = await blocks(client, inode);
  assert.deepEqual(page.blocks[0]?.slices, [sliceOf({ offset: 0, length: 100, chunk: 1 })]);
  assert.deepEqual(
    page.chunks.map(({ chunk }) => chunk),
    [testChunk(1)],
  );
  assert.equal(await usedBytes(world), before);
  assert.equal(await count(world, UNDER_REPLICATED), 0);
  assert.equal((await world.finish(engine.run(losses))).blocks, 1);
  // Sent again from the client's spool it is a new chunk; the lost one stays refused (D2).
  await assert.rejects(commit(client, inode, [{ offset: 0, length: 150, chunk: 2 }]), code('chunk_condemned'));
});

test('D3: what a node still has after its start is stable', async () => {
  await using parts = await start();
  const { client, inode, world } = parts;
  const { engine } = world.core;
  await commit(client, inode, [{ offset: 0, length: 100, chunk: 1 }], {
    replicas: [replicaOf('n1', { stable: false })],
  });
  const store = storeOf('n1', 2);
  const asked = await world.finish(engine.run((tx) => doubtfulReplicas(tx, store)));
  const held = new Set(asked.map(({ chunk }) => chunk));
  assert.deepEqual(await world.finish(engine.run((tx) => settleDoubt(tx, store, asked, held))), []);
  assert.equal(await count(world, UNSTABLE), 0);
});

test('D3: hundreds of lost chunks are settled in one step', async () => {
  const world = await SessionWorld.start({ core: { cacheEntriesMax: 100 } });
  const client = await world.client();
  const { engine } = world.core;
  for (let i = 1; i <= 400; i++)
    await client.make(ROOT, `f${i}`, {
      content: contentOf([{ offset: 0, length: 10, chunk: i }], {
        replicas: [replicaOf('n1', { stable: false, sequence: i })],
      }),
    });
  await world.clock.advance(1_000);
  const store = storeOf('n1', 2);
  const asked = await world.finish(engine.run((tx) => doubtfulReplicas(tx, store)));
  assert.equal(asked.length, 400);
  assert.equal((await world.finish(engine.run((tx) => settleDoubt(tx, store, asked, new Set())))).length, 400);
  await world[Symbol.asyncDispose]();
});

test('D3: hundreds of replicas are settled without a stop for each', async () => {
  const world = await SessionWorld.start({ core: { cacheEntriesMax: 100 } });
  const client = await world.client();
  const { engine } = world.core;
  for (let i = 1; i <= 400; i++) {
    const replicas = ['n1', 'n2'].map((node) => replicaOf(node, { stable: false, sequence: i }));
    await client.make(ROOT, `f${i}`, { content: contentOf([{ offset: 0, length: 10, chunk: i }], { replicas }) });
  }
  await world.clock.advance(1_000);
  const stopsOf = async <T>(operation: (tx: OperationRun) => T): Promise<[T, number]> => {
    const { prefetches } = engine.counters;
    const value = await world.finish(engine.run(operation));
    return [value, engine.counters.prefetches - prefetches];
  };
  const [marked, stopsToMark] = await stopsOf((tx) => markStable(tx, storeOf('n1', 1), 400));
  assert.equal(marked, 400);
  assert.ok(stopsToMark <= 5, `${stopsToMark} stops to mark them`);
  await world.clock.advance(1_000);
  const store = storeOf('n2', 2);
  const asked = await world.finish(engine.run((tx) => doubtfulReplicas(tx, store)));
  const held = new Set(asked.slice(0, 200).map(({ chunk }) => chunk));
  const [, stopsToSettle] = await stopsOf((tx) => settleDoubt(tx, store, asked, held));
  assert.ok(stopsToSettle <= 5, `${stopsToSettle} stops to settle what is in doubt`);
  assert.equal(await count(world, UNSTABLE), 0);
  assert.equal(await count(world, UNDER_REPLICATED), 200);
  await world[Symbol.asyncDispose]();
});

test('M9, M10: bytes of a quota are exact over many sessions and their grants', async () => {
  await using world = await SessionWorld.start();
  await world.finish(
    world.core.createRealm({
      path: '/q',
      quotaBytes: 10 * MiB,
      quotaInodes: 0,
      replicas: 0,
      minReplicas: 0,
      compressionOff: false,
    } as never),
  );
  await world.subject('root', { admin: true });
  const clients: ScriptedClient[] = [];
  for (let i = 0; i < 4; i++) clients.push(await world.client());
  const [one, two, three] = clients as [ScriptedClient, ScriptedClient, ScriptedClient];
  const { inode: dir, realm } = await one.lookup(ROOT, 'q');
  const replenish = async (client: ScriptedClient, bytes: number) =>
    (await client.call({ $case: 'replenish', value: { realm, bytes, chunks: 4 } }, 'replenished')).bytes;
  assert.equal(await replenish(one, 4 * MiB), 4 * MiB);
  assert.equal(await replenish(two, 8 * MiB), 6 * MiB);
  await assert.rejects(replenish(three, 1), code('quota_exceeded'));
  // Against its own grant a session may write, against that of another it may not.
  const { inode } = await one.make(dir, 'a', { content: contentOf([{ offset: 0, length: 4 * MiB, chunk: 1 }]) });
  await assert.rejects(
    three.make(dir, 'b', { content: contentOf([{ offset: 0, length: 1, chunk: chunkOf(3, 2) }]) }),
    code('quota_exceeded'),
  );
  await two.make(dir, 'c', { content: contentOf([{ offset: 0, length: 4 * MiB, chunk: chunkOf(2, 3) }]) });
  await two.detach();
  assert.equal(await replenish(three, 8 * MiB), 2 * MiB);
  // What is overwritten is no growth, but it used the grant: nothing lies idle for ever.
  await commit(one, inode, [{ offset: 0, length: 4 * MiB, chunk: 4 }]);
  await three.make(dir, 'd', { content: contentOf([{ offset: 0, length: 2 * MiB, chunk: chunkOf(3, 5) }]) });
  await assert.rejects(
    one.make(dir, 'e', { content: contentOf([{ offset: 0, length: 1, chunk: 6 }]) }),
    code('quota_exceeded'),
  );
  await one.unlink(dir, 'a', { permanent: true });
  assert.equal(await replenish(one, 8 * MiB), 4 * MiB);
});

test('M10: overwriting the same bytes again and again leaves no grant behind', async () => {
  await using world = await SessionWorld.start();
  await world.finish(
    world.core.createRealm({
      path: '/q',
      quotaBytes: 10 * MiB,
      quotaInodes: 0,
      replicas: 0,
      minReplicas: 0,
      compressionOff: false,
    } as never),
  );
  await world.subject('root', { admin: true });
  const client = await world.client();
  const { inode: dir, realm } = await client.lookup(ROOT, 'q');
  const { inode } = await client.make(dir, 'f');
  for (let i = 1; i <= 20; i++) {
    assert.equal(
      (await client.call({ $case: 'replenish', value: { realm, bytes: 2 * MiB, chunks: 1 } }, 'replenished')).bytes,
      2 * MiB,
    );
    await commit(client, inode, [{ offset: 0, length: 2 * MiB, chunk: i }]);
  }
});

test('M10: no room on the nodes is found before bytes are acknowledged, and replicas count', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const replenish = async (bytes: number) =>
    (await client.call({ $case: 'replenish', value: { realm: 1, bytes, chunks: 1 } }, 'replenished')).bytes;
  world.nodes.free = 2_000;
  assert.equal(await replenish(5_000), 1_000);
  await assert.rejects(replenish(1), code('no_space'));
  assert.equal(await replenish(0), 0);
  world.nodes.names = [];
  await assert.rejects(replenish(0), code('no_space'));
});

test('M10, D7: chunk ids of two sessions never overlap, however often they ask', async () => {
  await using world = await SessionWorld.start();
  const given: { first: number; end: number }[] = [];
  for (let i = 0; i < 3; i++) {
    const client = await world.client();
    for (let asked = 0; asked < 5; asked++) {
      const { firstChunk, chunks } = await client.call(
        { $case: 'replenish', value: { realm: 1, bytes: 0, chunks: 10_000 } },
        'replenished',
      );
      given.push({ first: firstChunk, end: firstChunk + chunks });
    }
  }
  given.sort((a, b) => a.first - b.first);
  for (let i = 1; i < given.length; i++) assert.ok((given[i]?.first ?? 0) >= (given[i - 1]?.end ?? 0));
});
