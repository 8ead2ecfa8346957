import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InodeType, type UsageTotals } from '@collective/protocol/gen/session';
import { chunkOf, code, contentOf, makeOp, ROOT, unlinkOp } from '../session/scripted-operations.ts';
import type { ScriptedClient } from '../session/session-harness.ts';
import { TrashWorld } from './trash-world.ts';

const bytesOf = (chunk: number, length = 100) => contentOf([{ offset: 0, length, chunk }]);

/** rm -r, as the client does it. */
async function removeAll(client: ScriptedClient, parent: number, name: string): Promise<void> {
  const { inode } = await client.lookup(parent, name);
  const { entries } = await client.call(
    { $case: 'readDirectory', value: { inode, after: 0, limit: 2_000, withAttributes: false } },
    'directory',
  );
  const files = entries.filter(({ type }) => type !== InodeType.DIRECTORY);
  for (const entry of entries) if (!files.includes(entry)) await removeAll(client, inode, entry.name.toString());
  const removals = files.map((entry) => ({ op: unlinkOp(inode, entry.name.toString()) }));
  if (removals.length > 0) await client.world.finish(Promise.all(client.sendAll(removals)));
  await client.unlink(parent, name, { directory: true });
}

async function tree(client: ScriptedClient, inode: number, at = ''): Promise<string[]> {
  const { entries } = await client.call(
    { $case: 'readDirectory', value: { inode, after: 0, limit: 2_000, withAttributes: true } },
    'directory',
  );
  const below: string[] = [];
  for (const { name, type, inode: child, attributes } of entries) {
    const path = `${at}/${name}`;
    const { mode = 0, uid, size, links } = attributes ?? {};
    below.push(`${path} ${mode.toString(8)} ${uid} ${size} ${links}`);
    if (type === InodeType.DIRECTORY) below.push(...(await tree(client, child, path)));
  }
  return below.sort();
}

const NOTHING = { path: '', files: 0, directories: 0, bytes: 0, skipped: 0, skippedPaths: [], calls: 0 };

const find = async (client: ScriptedClient, path: string): Promise<number> => {
  let inode = ROOT;
  for (const name of path.split('/').filter(Boolean)) inode = (await client.lookup(inode, name)).inode;
  return inode;
};

test('M8: a tree comes back as it was: names, modes, owners, attributes, links and bytes', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode: top } = await client.mkdir(ROOT, 'top', 0o750);
  const { inode: deep } = await client.mkdir(top, 'deep', 0o700);
  await client.set(deep, { uid: 1000, gid: 1000 });
  await client.call(
    { $case: 'setXattr', value: { inode: deep, name: 'user.k', value: Buffer.from('v'), mode: 0 } },
    'attributes',
  );
  await client.make(top, 'a', { content: bytesOf(1, 10), mode: 0o600 });
  await client.make(deep, 'grün', { content: bytesOf(2, 20) });
  await client.make(deep, 'link', { type: InodeType.SYMLINK, linkTarget: Buffer.from('../a') });
  await client.mkdir(deep, 'empty');
  const before = await tree(client, ROOT);
  const usage = await trash.usage();
  await removeAll(client, ROOT, 'top');
  assert.deepEqual(await tree(client, ROOT), []);
  assert.deepEqual((await trash.usage()).inodes, usage.inodes);
  assert.deepEqual(await trash.restore('/top'), {
    ...NOTHING,
    path: '/top',
    files: 3,
    directories: 3,
    bytes: 30,
    calls: 1,
  });
  assert.deepEqual(await tree(client, ROOT), before);
  assert.deepEqual(await trash.usage(), usage);
  assert.deepEqual(await trash.list(), []);
  const { value } = await client.call({ $case: 'getXattr', value: { inode: deep, name: 'user.k' } }, 'xattrValue');
  assert.equal(value.toString(), 'v');
  const link = await find(client, '/top/deep/link');
  assert.equal(
    (await client.call({ $case: 'readLink', value: { inode: link } }, 'linkTarget')).target.toString(),
    '../a',
  );
  await removeAll(client, ROOT, 'top');
  await trash.restore('/top');
  assert.deepEqual(await tree(client, ROOT), before);
});

test('M8: a file brings back the directories that went with it, and takes those that took their names', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode: a } = await client.mkdir(ROOT, 'a', 0o711);
  const { inode: b } = await client.mkdir(a, 'b');
  await client.make(b, 'f', { content: bytesOf(1) });
  await client.make(b, 'g', { content: bytesOf(2) });
  await removeAll(client, ROOT, 'a');
  assert.equal((await trash.restore('/a/b/f')).path, '/a/b/f');
  assert.equal(await find(client, '/a/b'), b);
  assert.equal((await client.stat(a)).mode, 0o711);
  assert.deepEqual(await client.names(b), ['f']);
  await removeAll(client, ROOT, 'a');
  await client.mkdir(ROOT, 'a');
  assert.equal((await trash.restore('/a/b/g')).path, '/a/b/g');
  assert.notEqual(await find(client, '/a'), a);
  assert.deepEqual(await client.names(await find(client, '/a/b')), ['g']);
  await removeAll(client, ROOT, 'a');
  await client.make(ROOT, 'a');
  await assert.rejects(trash.restore('/a/b/g'), code('exists'));
});

test('M8: a name that is taken is no place: another is asked for, within the realm', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  await client.make(ROOT, 'f', { content: bytesOf(1, 10) });
  await client.unlink(ROOT, 'f');
  await client.make(ROOT, 'f', { content: bytesOf(2, 20) });
  await assert.rejects(trash.restore('/f'), /the name is taken; restore it under another with --to PATH/);
  await assert.rejects(trash.restore({ path: '/f', to: '/none/f' }), code('not_found'));
  await assert.rejects(trash.restore({ path: '/f', to: '/f' }), code('exists'));
  await assert.rejects(trash.restore({ path: '/f', to: '/f/x' }), code('not_directory'));
  await assert.rejects(trash.restore({ path: '/f', to: '/' }), code('exists'));
  await trash.world.finish(
    trash.world.core.createRealm({
      path: '/r',
      quotaBytes: 0,
      quotaInodes: 0,
      replicas: 0,
      minReplicas: 0,
      compressionOff: false,
      trashSeconds: undefined,
      trashYields: false,
    }),
  );
  await assert.rejects(trash.restore({ path: '/f', to: '/r/f' }), code('cross_realm'));
  assert.deepEqual(await trash.paths(), ['/f']);
  const { inode: d } = await client.mkdir(ROOT, 'd');
  assert.equal((await trash.restore({ path: '/f', to: '/d/old' })).path, '/d/old');
  assert.equal((await client.lookup(d, 'old')).size, 10);
  assert.equal((await client.lookup(ROOT, 'f')).size, 20);
  await assert.rejects(trash.restore('/nothing'), code('not_found'));
  await assert.rejects(trash.restore({ id: 4711 }), code('not_found'));
});

test('M8: the newest of a name comes back, and at a time what had it then', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode: d } = await client.mkdir(ROOT, 'd');
  const times: { seconds: number; nanos: number }[] = [];
  const pause = async () => {
    await trash.world.clock.advance(10_000);
    times.push(trash.world.core.engine.freshDraws().now);
    await trash.world.clock.advance(10_000);
  };
  await pause();
  for (const size of [10, 20, 30]) {
    await client.make(d, 'f', { existing: 2, content: bytesOf(size, size) });
    await pause();
  }
  await removeAll(client, ROOT, 'd');
  const sizeOf = async (path: string) => (await client.stat(await find(client, path))).size;
  assert.deepEqual(
    (await trash.list('/d/f')).map(({ size }) => size),
    [30, 20, 10],
  );
  for (const [at, size] of [
    [times[1], 10],
    [times[2], 20],
    [times[3], 30],
  ] as const) {
    assert.equal((await trash.restore({ path: '/d/f', at, to: `/f${size}` })).files, 1);
    assert.equal(await sizeOf(`/f${size}`), size);
    await trash.world.finish(client.call(unlinkOp(ROOT, `f${size}`), 'unlinked'));
    assert.equal((await trash.restore({ path: `/f${size}`, to: '/x' })).files, 1);
    await client.rename(ROOT, 'x', ROOT, `y${size}`);
  }
  // Before it was made there was nothing of that name.
  await assert.rejects(trash.restore({ path: '/d/f', at: times[0] }), code('not_found'));
});

test('M8: a directory comes back with the newest of each name, or as it was at a time', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode: d } = await client.mkdir(ROOT, 'd');
  await client.make(d, 'kept', { content: bytesOf(1, 11) });
  await client.make(d, 'early', { content: bytesOf(2, 12) });
  await trash.world.clock.advance(10_000);
  await client.make(d, 'kept', { existing: 2, content: bytesOf(3, 21) });
  await client.unlink(d, 'early');
  await trash.world.clock.advance(10_000);
  const at = trash.world.core.engine.freshDraws().now;
  await trash.world.clock.advance(10_000);
  await client.make(d, 'kept', { existing: 2, content: bytesOf(4, 31) });
  await client.make(d, 'late', { content: bytesOf(5, 32) });
  await removeAll(client, ROOT, 'd');
  const sizes = async () =>
    Object.fromEntries(
      await Promise.all((await client.names(d)).map(async (name) => [name, (await client.lookup(d, name)).size])),
    );
  await trash.restore({ path: '/d', at });
  assert.deepEqual(await sizes(), { kept: 21 });
  await removeAll(client, ROOT, 'd');
  await trash.restore('/d');
  assert.deepEqual(await sizes(), { early: 12, kept: 21, late: 32 });
});

test('M8: a directory that is there means what was removed below it, and what is there stays', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode: d } = await client.mkdir(ROOT, 'd');
  const { inode: sub } = await client.mkdir(d, 'sub');
  await client.make(d, 'a', { content: bytesOf(1, 10) });
  await client.make(sub, 'b', { content: bytesOf(2, 20) });
  await client.make(sub, 'c', { content: bytesOf(3, 30) });
  await client.unlink(d, 'a');
  await client.unlink(sub, 'b');
  await client.unlink(sub, 'c');
  await client.make(sub, 'c', { content: bytesOf(4, 40) });
  const restored = await trash.restore('/d');
  assert.deepEqual([restored.files, restored.directories, restored.bytes], [2, 0, 30]);
  assert.deepEqual([restored.skipped, restored.skippedPaths], [1, ['/d/sub/c']]);
  assert.deepEqual(await client.names(sub), ['c', 'b']);
  assert.equal((await client.lookup(sub, 'c')).size, 40);
  assert.deepEqual(await trash.paths(), ['/d/sub/c']);
  assert.equal((await trash.restore({ path: '/d/sub/c', to: '/d/sub/c.old' })).files, 1);
});

test('M8: a directory that was removed and made again under its name is asked for by its id, or comes by its newest', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  for (const round of [1, 2]) {
    const { inode } = await client.mkdir(ROOT, 'd');
    await client.make(inode, `f${round}`);
    await removeAll(client, ROOT, 'd');
  }
  assert.deepEqual(await trash.paths('/d'), ['/d', '/d/f2', '/d', '/d/f1']);
  const old = (await trash.list('/d'))[2];
  await trash.restore('/d');
  assert.deepEqual(await client.names(await find(client, '/d')), ['f2']);
  await assert.rejects(trash.restore({ id: old?.id ?? 0 }), code('exists'));
  await trash.restore({ id: old?.id ?? 0, to: '/d1' });
  assert.deepEqual(await client.names(await find(client, '/d1')), ['f1']);
  assert.deepEqual(await trash.list(), []);
});

test('M3: thousands come back in bounded steps, with little in memory too, over more than one call', async () => {
  await using trash = await TrashWorld.start({ core: { cacheEntriesMax: 200 } });
  const client = await trash.client();
  const { inode: top } = await client.mkdir(ROOT, 'top');
  const folders: number[] = [];
  for (let i = 0; i < 20; i++) folders.push((await client.mkdir(top, `d${i}`)).inode);
  const ops = Array.from({ length: 3_300 }, (_, i) => ({ folder: folders[i % 20] ?? top, name: `f${i}` }));
  for (let at = 0; at < ops.length; at += 500) {
    const some = ops.slice(at, at + 500);
    await trash.world.finish(
      Promise.all(client.sendAll(some.map(({ folder, name }) => ({ op: makeOp(folder, name) })))),
    );
  }
  const before = await tree(client, ROOT);
  const count = async (): Promise<UsageTotals> =>
    client.call({ $case: 'usage', value: { inode: ROOT, resume: Buffer.alloc(0) } }, 'usage');
  await removeAll(client, ROOT, 'top');
  assert.equal((await count()).files, 0);
  assert.equal((await trash.usage()).trashInodes, 3_321);
  assert.equal((await trash.paths('/top', 'root', 300)).length, 3_321);
  const restored = await trash.restore('/top');
  assert.deepEqual([restored.files, restored.directories, restored.skipped], [3_300, 21, 0]);
  assert.ok(restored.calls >= 2);
  assert.deepEqual(await tree(client, ROOT), before);
});

test('M8: who stopped in the middle asks again by the path, and what is left comes back', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode: top } = await client.mkdir(ROOT, 'top');
  for (const name of ['a', 'b', 'c']) await client.make((await client.mkdir(top, name)).inode, name);
  const before = await tree(client, ROOT);
  await removeAll(client, ROOT, 'top');
  await trash.restore('/top/b/b');
  assert.deepEqual(await trash.restore('/top'), { ...NOTHING, path: '/top', files: 2, directories: 2, calls: 1 });
  assert.deepEqual(await tree(client, ROOT), before);
});

test('M8, T3a: people see and restore what they own, in realms that they may write', async () => {
  await using trash = await TrashWorld.start();
  const { world } = trash;
  await world.subject('bob', { trusted: false, uid: 1000, gid: 1000 });
  await world.subject('eve', { trusted: false, uid: 1001, gid: 1001 });
  await world.subject('ro', { trusted: false, uid: 1000, gid: 1000, realms: [{ realm: 1, readOnly: true }] });
  const root = await trash.client();
  await root.set(ROOT, { mode: 0o777 });
  const bob = await trash.client({ user: 'bob' });
  const eve = await trash.client({ user: 'eve' });
  const { inode: d } = await bob.mkdir(ROOT, 'd', 0o777);
  await bob.make(d, 'bobs', { content: bytesOf(chunkOf(2, 1), 10) });
  await eve.make(d, 'eves', { content: bytesOf(chunkOf(3, 2), 20) });
  await root.unlink(d, 'bobs');
  await root.unlink(d, 'eves');
  assert.deepEqual(await trash.paths('', 'bob'), ['/d/bobs']);
  assert.deepEqual(await trash.paths('', 'eve'), ['/d/eves']);
  assert.deepEqual(await trash.paths('', 'ro'), []);
  assert.deepEqual(await trash.paths('', 'root'), ['/d/eves', '/d/bobs']);
  await assert.rejects(trash.list('', 'stranger'), code('permission_denied'));
  const eves = (await trash.list('', 'eve'))[0]?.id ?? 0;
  await assert.rejects(trash.restore({ id: eves }, 'bob'), code('not_found'));
  await assert.rejects(trash.restore('/d/eves', 'bob'), code('not_found'));
  await assert.rejects(trash.restore('/d/bobs', 'ro'), code('not_found'));
  const restored = await trash.restore('/d', 'bob');
  assert.deepEqual([restored.files, restored.skippedPaths], [1, ['/d/eves']]);
  // What she may not write into is closed to her, also for what was hers.
  await root.set(d, { mode: 0o755 });
  await assert.rejects(trash.restore('/d/eves', 'eve'), code('permission_denied'));
  await root.set(ROOT, { mode: 0o755 });
  await assert.rejects(trash.restore({ path: '/d/eves', to: '/e' }, 'eve'), code('permission_denied'));
  assert.deepEqual(await trash.empty({}, 'bob'), { files: 0, directories: 0, bytes: 0 });
  assert.deepEqual(await trash.paths('', 'root'), ['/d/eves']);
  await root.unlink(d, 'bobs');
  await root.unlink(ROOT, 'd', { directory: true });
  await root.set(ROOT, { mode: 0o777 });
  await assert.rejects(trash.restore('/d/eves', 'eve'), /not yours to restore; say where to with --to PATH/);
  assert.deepEqual((await trash.restore({ path: '/d/eves', to: '/e' }, 'eve')).path, '/e');
  assert.equal((await eve.lookup(ROOT, 'e')).uid, 1001);
  assert.deepEqual(await trash.empty({}, 'bob'), { files: 1, directories: 1, bytes: 10 });
});

test('M7: who caches that a name is not there hears of its return before the restorer does', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const watcher = await trash.client({ caches: true });
  await client.make(ROOT, 'f');
  await client.unlink(ROOT, 'f');
  await watcher.names(ROOT);
  const before = watcher.recalls.length;
  await trash.restore('/f');
  const [recall] = watcher.recalls.slice(before);
  assert.equal(recall?.inode, ROOT);
  assert.deepEqual(recall.names.map(String), ['f']);
});

test('M8: the trash is emptied by age and by path, and what is gone stays gone', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const empty = await trash.rows();
  const { inode: a } = await client.mkdir(ROOT, 'a');
  await client.make(a, 'x', { content: bytesOf(1, 10) });
  await client.make(ROOT, 'ab', { content: bytesOf(2, 20) });
  await removeAll(client, ROOT, 'a');
  await client.unlink(ROOT, 'ab');
  await trash.world.clock.advance(60_000);
  await client.make(ROOT, 'young');
  await client.unlink(ROOT, 'young');
  assert.deepEqual(await trash.empty({ path: '/a' }), { files: 1, directories: 1, bytes: 10 });
  assert.deepEqual(await trash.paths(), ['/young', '/ab']);
  assert.deepEqual(await trash.empty({ olderThanSeconds: 30 }), { files: 1, directories: 0, bytes: 20 });
  assert.deepEqual(await trash.paths(), ['/young']);
  assert.deepEqual(await trash.empty(), { files: 1, directories: 0, bytes: 0 });
  await assert.rejects(trash.restore('/a/x'), code('not_found'));
  const left = await trash.rows();
  assert.deepEqual({ ...left, doomed: 0, block: 0 }, { ...empty, doomed: 0, block: 0 });
  assert.equal(left.doomed, 2);
});

test('M8: what lost its directory for good is restored to where a person says', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode: d } = await client.mkdir(ROOT, 'd');
  await client.make(d, 'f', { content: bytesOf(1) });
  await client.unlink(d, 'f');
  await client.unlink(ROOT, 'd', { directory: true, permanent: true });
  const [entry] = await trash.list();
  assert.deepEqual([entry?.path, entry?.parentGone], ['f', true]);
  await assert.rejects(trash.restore({ id: entry?.id ?? 0 }), /gone for good; say where to with --to PATH/);
  assert.equal((await trash.restore({ id: entry?.id ?? 0, to: '/f' })).path, '/f');
});

test('a mark that did not come from here is refused, and one that did opens nothing else', async () => {
  await using trash = await TrashWorld.start();
  const { world } = trash;
  await world.subject('eve', { trusted: false, uid: 1001, gid: 1001 });
  const client = await trash.client();
  const { inode: d } = await client.mkdir(ROOT, 'd', 0o700);
  await client.make(d, 'f');
  await client.unlink(d, 'f');
  const forged = Buffer.alloc(18);
  forged.writeBigUInt64BE(BigInt(d), 0);
  const restored = await trash.restoreOnce({ path: '/d', resume: forged }, 'eve');
  assert.deepEqual([restored.files, restored.skipped], [0, 1]);
  assert.deepEqual(await client.names(d), []);
  for (const length of [1, 17, 18, 19, 40]) {
    await assert.rejects(
      trash.restoreOnce({ path: '/d', resume: Buffer.alloc(length, 0xff) }, 'root'),
      code('invalid_argument'),
      `${length} bytes`,
    );
  }
});
