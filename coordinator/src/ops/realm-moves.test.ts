import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InodeType } from '@collective/protocol/gen/session';
import { code, commitOp, contentOf, type Op, ROOT } from '../session/scripted-operations.ts';
import type { ScriptedClient } from '../session/session-harness.ts';
import { JOB_FAILED } from './realm-moves.ts';
import { RealmWorld } from './realm-world.ts';

let chunk = 1;
const bytesOf = (length = 100) => contentOf([{ offset: 0, length, chunk: chunk++ }]);
const linkOp = (inode: number, parent: number, name: string): Op => ({
  $case: 'link',
  value: { inode, parent, name: Buffer.from(name) },
});

interface Tree {
  readonly top: number;
  readonly sub: number;
  readonly deep: number;
  readonly files: readonly number[];
}

/** /top/{a,b,c,link}, /top/sub/{d,e}, /top/sub/deep/{f}, and /beside. */
async function tree(client: ScriptedClient): Promise<Tree> {
  const { inode: top } = await client.mkdir(ROOT, 'top');
  const { inode: sub } = await client.mkdir(top, 'sub');
  const { inode: deep } = await client.mkdir(sub, 'deep');
  const files: number[] = [];
  for (const [parent, name] of [
    [top, 'a'],
    [top, 'b'],
    [top, 'c'],
    [sub, 'd'],
    [sub, 'e'],
    [deep, 'f'],
  ] as const)
    files.push((await client.make(parent, name, { content: bytesOf() })).inode);
  await client.make(top, 'link', { type: InodeType.SYMLINK, linkTarget: Buffer.from('a') });
  await client.make(ROOT, 'beside', { content: bytesOf() });
  return { top, sub, deep, files };
}

test('M9: a directory with something in it becomes a realm: inodes, usage, chunks and trash go along', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { top, sub, deep } = await tree(client);
  await client.unlink(sub, 'e');
  await client.unlink(deep, 'f');
  await client.unlink(sub, 'deep', { directory: true });
  const before = await realms.realm('/');
  const made = await realms.create('/top', { replicas: 3, quotaBytes: 1_000 });
  assert.notEqual(made.job, 0);
  const job = await realms.finishWell();
  assert.deepEqual([job.kind, job.moved, job.passes], ['make-realm', 10, 2]);
  const [inner, outer] = [await realms.realm('/top'), await realms.realm('/')];
  assert.deepEqual([inner.usedInodes, inner.usedBytes, inner.trashInodes, inner.trashBytes], [10, 600, 3, 200]);
  assert.deepEqual([outer.usedInodes, outer.usedBytes, outer.trashInodes], [2, 100, 0]);
  assert.equal(inner.usedInodes + outer.usedInodes, before.usedInodes);
  assert.deepEqual([inner.job, inner.sharesRights, inner.quotaBytes], [0, true, 1_000]);
  await realms.verify();
  // It is a realm like any other from here on.
  await assert.rejects(client.rename(top, 'a', ROOT, 'a'), code('cross_realm'));
  await assert.rejects(client.unlink(ROOT, 'top', { directory: true }), code('not_empty'));
  assert.equal((await client.make(sub, 'new')).realm, inner.realm);
  await assert.rejects(client.make(sub, 'more', { content: bytesOf(500) }), code('quota_exceeded'));
  await realms.world.restart('kill');
  await realms.verify();
});

test('M9: a realm is dissolved into the one around it, with what it has in its trash, and its number is not given again', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { top, sub, deep } = await tree(client);
  const made = await realms.create('/top');
  await realms.finishWell();
  const nested = await realms.create('/top/sub/nested');
  await client.unlink(deep, 'f');
  await client.unlink(sub, 'deep', { directory: true });
  // Its directory goes for good: no walk comes to the file, but it is not left behind.
  await client.unlink(top, 'c');
  await client.mkdir(top, 'gone');
  const { inode: gone } = await client.lookup(top, 'gone');
  await client.make(gone, 'g');
  await client.unlink(gone, 'g');
  await client.unlink(top, 'gone', { directory: true, permanent: true });
  await realms.dissolve('/top');
  const job = await realms.finishWell();
  assert.equal(job.kind, 'dissolve-realm');
  assert.deepEqual(
    (await realms.realms()).map(({ path }) => path),
    ['/', '/top/sub/nested'],
  );
  const root = await realms.realm('/');
  assert.deepEqual([root.trashInodes, root.usedBytes], [4, 700]);
  await realms.verify();
  await client.rename(top, 'a', ROOT, 'a');
  assert.equal((await client.lookup(sub, 'nested')).realm, nested.realm);
  // A client that has not heard of it asks for room in the old realm, and gets it where its files are.
  const granted = await client.call(
    { $case: 'replenish', value: { realm: made.realm, bytes: 100, chunks: 1 } },
    'replenished',
  );
  assert.equal(granted.bytes, 100);
  const again = await realms.create('/again');
  assert.ok(again.realm > nested.realm);
  assert.notEqual(again.realm, made.realm);
  await assert.rejects(realms.dissolve('/'), code('not_permitted'));
  await assert.rejects(realms.dissolve('/top'), code('not_found'));
});

test('M9: a realm is not dissolved where the quota around it would break', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { top } = await tree(client);
  await realms.create('/top');
  await realms.finishWell();
  await realms.world.finish(realms.world.core.setRealm({ path: '/', quotaBytes: 650 } as never));
  await assert.rejects(realms.dissolve('/top'), code('quota_exceeded'));
  await realms.world.finish(realms.world.core.setRealm({ path: '/', quotaBytes: 0, quotaInodes: 5 } as never));
  await assert.rejects(realms.dissolve('/top'), code('quota_exceeded'));
  await client.make(top, 'still-a-realm');
  assert.equal((await realms.realm('/top')).job, 0);
});

test('M9: a hard link to the outside ends the job, which takes back what it did and names the file', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { deep, files } = await tree(client);
  const [a, , , d, , f] = files as [number, number, number, number, number, number];
  await client.call(linkOp(f, ROOT, 'outside'), 'attributes');
  await client.call(linkOp(d, deep, 'inside'), 'attributes');
  await client.call(linkOp(a, deep, 'a2'), 'attributes');
  const before = await realms.realm('/');
  await realms.create('/top');
  const job = await realms.finish();
  assert.equal(job.state, JOB_FAILED);
  assert.match(
    job.failure,
    new RegExp(`^Make '/top' a realm: /top/sub/deep/f \\(inode ${f}\\) has 2 names, and 1 of them outside; remove`),
  );
  assert.deepEqual(await realms.realms(), [before]);
  await realms.verify();
  // Without that name it can be done; links within are no hindrance.
  await client.unlink(ROOT, 'outside');
  await realms.create('/top');
  await realms.finishWell();
  assert.equal((await client.stat(f)).realm, (await realms.realm('/top')).realm);
  assert.equal((await client.stat(a)).links, 2);
  await realms.verify();
});

test('M9: while the job runs both realms are one below the border, and nothing crosses it', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { top, sub, deep, files } = await tree(client);
  const [a, , , , , f] = files as [number, number, number, number, number, number];
  const { inode: out } = await client.mkdir(ROOT, 'out');
  const { inode: beside } = await client.lookup(ROOT, 'beside');
  await realms.create('/top');
  // Nothing was visited yet: only the border itself is in the new realm.
  for (const round of ['before', 'after']) {
    const crossing = code('cross_realm');
    await assert.rejects(client.rename(top, 'a', out, 'a'), crossing, round);
    await assert.rejects(client.rename(deep, 'f', ROOT, 'f'), crossing, round);
    await assert.rejects(client.rename(ROOT, 'beside', deep, 'beside'), crossing, round);
    await assert.rejects(client.rename(ROOT, 'beside', top, 'a', 2), crossing, round);
    await assert.rejects(client.rename(top, 'sub', out, 'sub'), crossing, round);
    await assert.rejects(client.rename(ROOT, 'top', out, 'top'), crossing, round);
    await assert.rejects(client.call(linkOp(a, out, 'a'), 'attributes'), crossing, round);
    await assert.rejects(client.call(linkOp(f, ROOT, 'f'), 'attributes'), crossing, round);
    await assert.rejects(client.call(linkOp(beside, deep, 'beside'), 'attributes'), crossing, round);
    await client.rename(top, 'a', deep, 'a');
    await client.rename(deep, 'a', top, 'a');
    await client.rename(deep, 'f', top, 'f');
    await client.rename(top, 'f', deep, 'f');
    await client.call(linkOp(f, top, `f-${round}`), 'attributes');
    await client.rename(ROOT, 'beside', out, 'beside');
    await client.rename(out, 'beside', ROOT, 'beside');
    await client.rename(ROOT, 'top', ROOT, 'top-again');
    await client.rename(ROOT, 'top-again', ROOT, 'top');
    await client.make(sub, `made-${round}`, { content: bytesOf() });
    await realms.step();
  }
  await realms.finishWell();
  await realms.verify();
});

test('M9: another job of the same realm waits for its turn, one elsewhere does not', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  await tree(client);
  const { inode: two } = await client.mkdir(ROOT, 'two');
  await client.make(two, 'x');
  await realms.create('/top');
  await assert.rejects(realms.create('/two'), code('busy'));
  await assert.rejects(realms.dissolve('/top'), code('busy'));
  // One with nothing in it needs no job.
  await realms.create('/three');
  await realms.finishWell();
  await realms.create('/two');
  await realms.finishWell();
  await realms.verify();
});

test('M9, M10: both realms together keep the quota of the outer one, exactly, while inodes move', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { top, deep } = await tree(client);
  const used = await realms.realm('/');
  await realms.world.finish(
    realms.world.core.setRealm({
      path: '/',
      quotaInodes: used.usedInodes + 2,
      quotaBytes: used.usedBytes + 150,
    } as never),
  );
  await realms.create('/top', { quotaInodes: 1, quotaBytes: 1 });
  await client.make(deep, 'one', { content: bytesOf() });
  await realms.step();
  await assert.rejects(client.make(top, 'bytes', { content: bytesOf() }), code('quota_exceeded'));
  await client.make(top, 'two');
  await assert.rejects(client.make(ROOT, 'three'), code('quota_exceeded'));
  await assert.rejects(client.make(deep, 'three'), code('quota_exceeded'));
  await realms.finishWell();
  // From here on each has its own: the inner one is over it, so nothing more fits in.
  await assert.rejects(client.make(deep, 'three'), code('quota_exceeded'));
  await client.make(ROOT, 'three');
  await realms.verify();
});

test('M9, T3a: who could use the directory before still can, and a realm with rights of its own is for its own', async () => {
  await using realms = await RealmWorld.start();
  const { world } = realms;
  await world.subject('bob', { trusted: true, uid: 0 });
  await world.subject('reader', { trusted: true, realms: [{ realm: 1, readOnly: true }] });
  const root = await realms.client();
  const { top, deep } = await tree(root);
  const bob = await realms.client({ user: 'bob' });
  const reader = await realms.client({ user: 'reader' });
  await realms.create('/top');
  for (let step = 0; step < 3; step++) {
    await bob.make(top, `bob-${step}`);
    await bob.make(deep, `bob-${step}`);
    assert.ok((await reader.names(top)).includes(`bob-${step}`));
    await assert.rejects(reader.make(top, 'x'), code('read_only'));
    await realms.step();
  }
  await realms.finishWell();
  await bob.make(deep, 'after');
  await assert.rejects(reader.make(deep, 'x'), code('read_only'));
  await bob.renew();
  await world.clock.until(() => bob.realmsTold.length > 0, { withinMs: 1_000 });
  assert.deepEqual(
    bob.realmsTold.at(-1)?.map(({ path, within, readOnly }) => [path, within, readOnly]),
    [
      ['/', false, false],
      ['/top', true, false],
    ],
  );
  await world.finish(world.core.setRealm({ path: '/top', sharesRights: false } as never));
  await assert.rejects(bob.names(top), code('permission_denied'));
  await world.finish(world.core.setRealm({ path: '/top', sharesRights: true } as never));
  await bob.names(top);
  await world.restart('kill');
  const again = await realms.client({ user: 'bob' });
  await again.names(top);
});

test('M9: a file goes on being written while it moves, with the room that was granted in the realm that it was in', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { files } = await tree(client);
  const [a] = files as [number];
  const outer = (await realms.realm('/')).realm;
  const replenish = (bytes: number) =>
    client.call({ $case: 'replenish', value: { realm: outer, bytes, chunks: 4 } }, 'replenished');
  assert.equal((await replenish(1_000)).bytes, 1_000);
  const write = async (offset: number) => {
    await client.call(commitOp(a, [{ offset, length: 100, chunk: chunk++ }]), 'committed');
    return realms.world.core.grantedBytes(outer as never);
  };
  assert.equal(await write(100), 900);
  await realms.create('/top');
  assert.equal(await write(200), 800);
  await realms.step();
  assert.equal(await write(300), 700);
  // A chunk that was committed before it moved is named again.
  const known = chunk - 1;
  await client.call(commitOp(a, [{ offset: 400, length: 50, chunk: known }]), 'committed');
  await realms.finishWell();
  assert.equal(await write(500), 550);
  await realms.verify();
});

test('M3: a large tree moves in bounded steps, with little in memory too, and a restart goes on where it was', async () => {
  await using realms = await RealmWorld.start({ core: { cacheEntriesMax: 300 } });
  const client = await realms.client();
  const { inode: top } = await client.mkdir(ROOT, 'top');
  const folders: number[] = [];
  for (let i = 0; i < 30; i++) folders.push((await client.mkdir(folders[Math.floor(i / 3) - 1] ?? top, `d${i}`)).inode);
  for (let i = 0; i < 1_200; i++)
    await client.make(folders[i % 30] ?? top, `f${i}`, i % 100 === 0 ? { content: bytesOf() } : {});
  const big = await client.make(top, 'big');
  for (let block = 0; block < 40; block++)
    await client.call(
      commitOp(big.inode, [{ offset: block * 4 * 1024 ** 2, length: 10, chunk: chunk++ }]),
      'committed',
    );
  await realms.create('/top');
  let steps = 0;
  for (let row = await realms.step(); row !== undefined && row.ended === undefined; row = await realms.step()) {
    steps += 1;
    if (steps % 7 === 0) await realms.world.restart('kill');
    const { '/': outer, '/top': inner } = Object.fromEntries((await realms.realms()).map((each) => [each.path, each]));
    assert.equal((outer?.usedInodes ?? 0) + (inner?.usedInodes ?? 0), 1_233, 'the sums are exact at every moment');
  }
  assert.ok(steps >= 15, `${steps} steps`);
  assert.equal((await realms.realm('/top')).usedInodes, 1_232);
  await realms.verify();
});

test('M7: who caches the attributes of what moves hears of it', async () => {
  await using realms = await RealmWorld.start();
  const client = await realms.client();
  const { files } = await tree(client);
  const watcher = await realms.client({ caches: true });
  await watcher.stat(files[0] ?? 0);
  const before = watcher.recalls.length;
  await realms.create('/top');
  await realms.finishWell();
  assert.ok(watcher.recalls.slice(before).some(({ inode }) => inode === files[0]));
});

test('M9: a step of a move stops for a few looks at the store, however many files it moves', async () => {
  await using realms = await RealmWorld.start({ core: { cacheEntriesMax: 100 } });
  const client = await realms.client();
  const { inode: top } = await client.mkdir(ROOT, 'top');
  for (let i = 0; i < 300; i++) await client.make(top, `f${i}`, { content: bytesOf() });
  const { engine } = realms.world.core;
  const stopsAStep = async (): Promise<number> => {
    await realms.world.clock.advance(1_000);
    const { prefetches } = engine.counters;
    let steps = 0;
    while ((await realms.step()) !== undefined) steps += 1;
    return (engine.counters.prefetches - prefetches) / steps;
  };
  await realms.create('/top');
  const toMake = await stopsAStep();
  assert.equal((await realms.realm('/top')).usedInodes, 301);
  await realms.dissolve('/top');
  const toDissolve = await stopsAStep();
  assert.ok(toMake < 8 && toDissolve < 8, `${toMake} stops a step to make a realm, ${toDissolve} to dissolve it`);
  await realms.verify();
});
