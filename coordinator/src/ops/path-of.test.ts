import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InodeNumber } from '@collective/base/ids';
import { makeOp, ROOT } from '../session/scripted-operations.ts';
import { SessionWorld } from '../session/session-harness.ts';
import { INODES } from '../tables/tables.ts';
import { pathOf, pathsOf } from './path-of.ts';

const path = (world: SessionWorld, inode: number): Promise<string | undefined> =>
  world.finish(world.core.engine.run((tx) => pathOf(tx, inode as InodeNumber)));

test('the path of a directory follows renames of what lies above it', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode: a } = await client.mkdir(ROOT, 'a');
  const { inode: b } = await client.mkdir(a, 'grün');
  const { inode: c } = await client.mkdir(b, 'c');
  assert.equal(await path(world, ROOT), '/');
  assert.equal(await path(world, c), '/a/grün/c');
  await client.rename(ROOT, 'a', ROOT, 'x');
  assert.equal(await path(world, c), '/x/grün/c');
  await client.rename(a, 'grün', ROOT, 'top');
  assert.equal(await path(world, c), '/top/c');
  const { inode: d } = await client.mkdir(a, 'd');
  await client.rename(ROOT, 'top', a, 'd', 2);
  assert.deepEqual([await path(world, c), await path(world, d)], ['/x/d/c', '/top']);
  await world.restart('kill');
  assert.equal(await path(world, c), '/x/d/c');
});

test('many paths are found together, and what is not in memory is fetched in one go', async () => {
  await using world = await SessionWorld.start({ core: { cacheEntriesMax: 50 } });
  const client = await world.client();
  const wanted = new Map<InodeNumber, string>();
  let at = { inode: ROOT as number, path: '' };
  for (let level = 0; level < 300; level++) {
    const { inode } = await client.mkdir(at.inode, `n${level}`);
    at = { inode, path: `${at.path}/n${level}` };
    wanted.set(inode as InodeNumber, at.path);
  }
  const before = world.core.engine.counters.prefetches;
  const found = await world.finish(world.core.engine.run((tx) => pathsOf(tx, [...wanted.keys()])));
  for (const [inode, expected] of wanted) assert.equal(found.get(inode), expected);
  assert.ok(world.core.engine.counters.prefetches - before <= 1);
});

test('a directory whose row does not know its name is looked for among the entries of its parent', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode: parent } = await client.mkdir(ROOT, 'p');
  await world.finish(Promise.all(Array.from({ length: 2_100 }, (_, i) => client.send(makeOp(parent, `f${i}`)))));
  const { inode } = await client.mkdir(parent, 'old');
  await world.finish(
    world.core.engine.run((tx) => {
      const row = tx.get(INODES, inode as InodeNumber);
      assert.ok(row);
      tx.put(INODES, { ...row, name: Buffer.alloc(0) }, inode as InodeNumber);
    }),
  );
  assert.equal(await path(world, inode), '/p/old');
});

test('what is gone has no path, and neither has what lay below it', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode: a } = await client.mkdir(ROOT, 'a');
  const { inode: b } = await client.mkdir(a, 'b');
  await world.finish(world.core.engine.run((tx) => tx.remove(INODES, a as InodeNumber)));
  assert.equal(await path(world, a), undefined);
  assert.equal(await path(world, b), undefined);
});
