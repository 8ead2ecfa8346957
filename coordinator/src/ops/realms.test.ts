import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_INODE } from '@collective/base/ids';
import {
  type FallocateMode,
  InodeType,
  LockFamily,
  LockType,
  type Operation,
  RenameMode,
} from '@collective/protocol/gen/session';
import { THE_MEMBER } from '../session/realm-rights.ts';
import {
  code,
  commitOp,
  contentOf,
  makeOp,
  type Op,
  ROOT,
  renameOp,
  resultOf,
  setOp,
  unlinkOp,
} from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from '../session/session-harness.ts';
import { INODES } from '../tables/tables.ts';
import { PLAIN_OPERATIONS, SESSION_OPERATIONS } from './operations.ts';
import { realmAt } from './realm-settings.ts';

/** Without a trash: what is removed gives its room back at once. */
const request = (path: string, more: { quotaBytes?: number; quotaInodes?: number } = {}) =>
  ({
    path,
    quotaBytes: 0,
    quotaInodes: 0,
    replicas: 0,
    minReplicas: 0,
    compressionOff: false,
    trashSeconds: 0,
    ...more,
  }) as never;

interface Parts {
  readonly world: SessionWorld;
  readonly admin: ScriptedClient;
  readonly dir: number;
  readonly realm: number;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A realm '/r' with a directory 'd', a file 'f' and a symlink 'l'; the admin is root there. */
async function start(more: { quotaBytes?: number; quotaInodes?: number } = {}): Promise<Parts> {
  const world = await SessionWorld.start();
  await world.subject('root', { admin: true });
  await world.finish(world.core.createRealm(request('/r', more)));
  const admin = await world.client();
  const { inode: dir, realm } = await admin.lookup(ROOT, 'r');
  return { world, admin, dir, realm, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

/** Each operation that names an inode, aimed at one or two. */
function aimedAt(inode: number, parent: number): { readonly [Name in NonNullable<Operation['op']>['$case']]?: Op[] } {
  const name = Buffer.from('f');
  const lock = { family: LockFamily.LOCK_POSIX, type: LockType.LOCK_READ, owner: 1, start: 0, end: 1, pid: 1 };
  return {
    lookup: [{ $case: 'lookup', value: { parent, name } }],
    getAttributes: [{ $case: 'getAttributes', value: { inode, opens: true } }],
    setAttributes: [setOp(inode, { mode: 0o777 }), setOp(inode, { size: 0 })],
    makeNode: [makeOp(parent, 'new'), makeOp(parent, 'f', { existing: 1 }), makeOp(parent, 'f', { existing: 2 })],
    link: [
      { $case: 'link', value: { inode, parent: ROOT, name: Buffer.from('l2') } },
      { $case: 'link', value: { inode, parent, name: Buffer.from('l2') } },
    ],
    unlink: [unlinkOp(parent, 'f'), unlinkOp(parent, 'd', { directory: true })],
    rename: [renameOp(parent, 'f', ROOT, 'g'), renameOp(parent, 'f', parent, 'g'), renameOp(ROOT, 'own', parent, 'g')],
    readLink: [{ $case: 'readLink', value: { inode } }],
    readDirectory: [{ $case: 'readDirectory', value: { inode: parent, after: 0, limit: 10, withAttributes: true } }],
    getXattr: [{ $case: 'getXattr', value: { inode, name: 'user.a' } }],
    setXattr: [{ $case: 'setXattr', value: { inode, name: 'user.a', value: Buffer.from('1'), mode: 0 } }],
    listXattrs: [{ $case: 'listXattrs', value: { inode } }],
    removeXattr: [{ $case: 'removeXattr', value: { inode, name: 'user.a' } }],
    commitSlices: [commitOp(inode, [{ offset: 0, length: 1, chunk: 99 }])],
    readBlocks: [{ $case: 'readBlocks', value: { inode, first: 0, count: 1 } }],
    fallocate: [{ $case: 'fallocate', value: { inode, mode: 0 as FallocateMode, offset: 0, length: 1 } }],
    sync: [{ $case: 'sync', value: { inode } }],
    statFileSystem: [{ $case: 'statFileSystem', value: { inode } }],
    getLock: [{ $case: 'getLock', value: { inode, lock } }],
    setLock: [{ $case: 'setLock', value: { inode, lock, wait: false } }],
    usage: [{ $case: 'usage', value: { inode: parent, resume: Buffer.alloc(0) } }],
    wantWrite: [{ $case: 'wantWrite', value: { inode } }],
  };
}

/** They name no inode to act on, or only give up what the session itself has. */
const HARMLESS = ['resolve', 'release', 'replenish', 'cancel', 'forget'];

test('M9: an inode outside the realms of a session is refused in every operation', async () => {
  await using parts = await start();
  const { world, admin, dir } = parts;
  await admin.set(dir, { mode: 0o777 });
  const { inode } = await admin.make(dir, 'f', {
    mode: 0o666,
    content: contentOf([{ offset: 0, length: 3, chunk: 1 }], { xattrs: [{ name: 'user.a', value: Buffer.from('x') }] }),
  });
  await admin.mkdir(dir, 'd', 0o777);
  await world.subject('stranger');
  const stranger = await world.client({ user: 'stranger', caches: true });
  await stranger.make(ROOT, 'own');
  const tries = aimedAt(inode, dir);
  for (const name of [...Object.keys(PLAIN_OPERATIONS), ...Object.keys(SESSION_OPERATIONS)])
    assert.ok(HARMLESS.includes(name) || Object.hasOwn(tries, name), `${name} is tried`);
  for (const op of Object.values(tries).flat()) {
    const { result } = await stranger.reply(op);
    assert.equal(result?.$case === 'failure' && result.value.code, 'permission_denied', op.$case);
  }
  const walked = await stranger.call(
    { $case: 'resolve', value: { start: dir, names: [Buffer.from('f')], followLast: true } },
    'resolved',
  );
  assert.deepEqual([walked.found.length, walked.failure?.code], [0, 'permission_denied']);
  await stranger.reply({ $case: 'release', value: { inode } });
  // Nothing has changed, and nothing was promised.
  assert.deepEqual(await admin.names(dir), ['f', 'd']);
  assert.equal((await admin.stat(inode)).size, 3);
  assert.equal((await admin.stat(inode)).mode, 0o666);
});

test('M9: the mark of a walk is no way into another realm', async () => {
  await using parts = await start();
  const { world, admin, dir } = parts;
  await admin.make(dir, 'secret', { content: contentOf([{ offset: 0, length: 3, chunk: 1 }]) });
  await world.subject('stranger');
  const stranger = await world.client({ user: 'stranger' });
  const forged = Buffer.alloc(32);
  forged.writeBigUInt64BE(BigInt(ROOT), 0);
  forged.writeBigUInt64BE(BigInt(dir), 16);
  await assert.rejects(
    stranger.call({ $case: 'usage', value: { inode: ROOT, resume: forged } }, 'usage'),
    code('permission_denied'),
  );
  const honest = await stranger.call({ $case: 'usage', value: { inode: ROOT, resume: Buffer.alloc(0) } }, 'usage');
  assert.deepEqual([honest.directories, honest.files, honest.bytes], [1, 0, 0]);
});

test('M9: a realm that was given for reading is read, and not changed by any operation', async () => {
  await using parts = await start();
  const { world, admin, dir, realm } = parts;
  await admin.set(dir, { mode: 0o777 });
  const { inode } = await admin.make(dir, 'f', { mode: 0o666 });
  await admin.mkdir(dir, 'd', 0o777);
  await world.subject('reader', {
    realms: [
      { realm: 1, readOnly: false },
      { realm, readOnly: true },
    ],
  });
  const reader = await world.client({ user: 'reader' });
  await reader.make(ROOT, 'own');
  const tries = aimedAt(inode, dir);
  for (const name of [
    'setAttributes',
    'makeNode',
    'link',
    'unlink',
    'rename',
    'setXattr',
    'removeXattr',
    'commitSlices',
    'fallocate',
    'wantWrite',
  ] as const)
    for (const op of tries[name] ?? []) {
      // Opening a file that exists changes nothing.
      if (op.$case === 'makeNode' && op.value.existing === 1) continue;
      const { result } = await reader.reply(op);
      assert.equal(result?.$case === 'failure' && result.value.code, 'read_only', JSON.stringify(op));
    }
  await assert.rejects(
    reader.call({ $case: 'replenish', value: { realm, bytes: 1, chunks: 1 } }, 'replenished'),
    code('read_only'),
  );
  assert.deepEqual(await reader.names(dir), ['f', 'd']);
  assert.equal(reader.attached?.realms.find((each) => each.realm === realm)?.readOnly, true);
});

test('M9: moving and linking across realms is refused with EXDEV', async () => {
  await using parts = await start();
  const { admin, dir } = parts;
  const { inode } = await admin.make(dir, 'f');
  await admin.mkdir(dir, 'd');
  await admin.make(ROOT, 'out');
  await assert.rejects(admin.rename(dir, 'f', ROOT, 'f'), code('cross_realm'));
  await assert.rejects(admin.rename(dir, 'd', ROOT, 'd'), code('cross_realm'));
  await assert.rejects(admin.rename(ROOT, 'out', dir, 'f'), code('cross_realm'));
  await assert.rejects(admin.rename(dir, 'f', ROOT, 'out', 2), code('cross_realm'));
  await assert.rejects(
    admin.call({ $case: 'link', value: { inode, parent: ROOT, name: Buffer.from('x') } }, 'attributes'),
    code('cross_realm'),
  );
  await admin.rename(dir, 'f', dir, 'g');
});

test('M9: the root of a realm stays where it is, and is not removed', async () => {
  await using parts = await start();
  const { admin } = parts;
  const { inode: sub } = await admin.mkdir(ROOT, 'sub');
  await assert.rejects(admin.unlink(ROOT, 'r', { directory: true }), code('busy'));
  await assert.rejects(admin.rename(ROOT, 'r', sub, 'r'), code('cross_realm'));
  await admin.mkdir(ROOT, 'empty');
  await assert.rejects(admin.rename(ROOT, 'empty', ROOT, 'r'), code('busy'));
});

test('M9: what is made below belongs to the realm, and usage is counted there', async () => {
  await using parts = await start();
  const { world, admin, dir, realm } = parts;
  const usage = async () => {
    const found = (await world.finish(world.core.listRealms())).find((each) => each.path === '/r');
    return [found?.usedInodes, found?.usedBytes];
  };
  assert.deepEqual(await usage(), [1, 0]);
  const below = await admin.mkdir(dir, 'd');
  assert.equal(below.realm, realm);
  await admin.make(below.inode, 'f', { content: contentOf([{ offset: 0, length: 100, chunk: 1 }]) });
  assert.deepEqual(await usage(), [3, 100]);
  await admin.make(below.inode, 'f', { existing: 2, content: contentOf([{ offset: 0, length: 40, chunk: 2 }]) });
  assert.deepEqual(await usage(), [3, 40]);
  await world.restart('kill');
  assert.deepEqual(await usage(), [3, 40]);
  await admin.attach();
  admin.replayed();
  await admin.unlink(below.inode, 'f');
  await admin.unlink(dir, 'd', { directory: true });
  assert.deepEqual(await usage(), [1, 0]);
});

test('M9: inodes of a quota are exact, also when many sessions make them at once', async () => {
  await using parts = await start({ quotaInodes: 11 });
  const { world, admin, dir } = parts;
  const clients: ScriptedClient[] = [];
  for (let i = 0; i < 5; i++) clients.push(await world.client());
  const replies = await world.finish(
    Promise.all(
      clients.flatMap((client, i) => Array.from({ length: 4 }, (_, j) => client.send(makeOp(dir, `${i}-${j}`)))),
    ),
  );
  const made = replies.filter(({ result }) => result?.$case === 'attributes');
  assert.equal(made.length, 10);
  for (const reply of replies)
    if (reply.result?.$case === 'failure') assert.throws(() => resultOf(reply, 'attributes'), code('quota_exceeded'));
  const [first] = await admin.names(dir);
  await admin.unlink(dir, first ?? '');
  await admin.make(dir, 'again');
  // To replace a file takes no more.
  await admin.make(dir, 'again', { existing: 2 });
  await assert.rejects(admin.mkdir(dir, 'more'), code('quota_exceeded'));
  const figures = await admin.call({ $case: 'statFileSystem', value: { inode: dir } }, 'fileSystem');
  assert.deepEqual([figures.totalInodes, figures.freeInodes], [11, 0]);
});

test('M9: bytes of a quota bound sparse files by what they store, and rewriting is no growth', async () => {
  await using parts = await start({ quotaBytes: 1_000 });
  const { admin, dir } = parts;
  const { inode } = await admin.make(dir, 'f');
  await admin.set(inode, { size: 1e12 });
  await admin.call(commitOp(inode, [{ offset: 5e11 - (5e11 % 4194304), length: 1_000, chunk: 1 }]), 'committed');
  await assert.rejects(
    admin.call(commitOp(inode, [{ offset: 0, length: 1, chunk: 2 }]), 'committed'),
    code('quota_exceeded'),
  );
  await admin.call(commitOp(inode, [{ offset: 5e11 - (5e11 % 4194304), length: 1_000, chunk: 3 }]), 'committed');
  await admin.set(inode, { size: 0 });
  await admin.call(commitOp(inode, [{ offset: 0, length: 1_000, chunk: 4 }]), 'committed');
});

test('createRealm: an empty directory becomes one at once, what is no directory is refused', async () => {
  await using parts = await start();
  const { world, admin } = parts;
  const { inode } = await admin.mkdir(ROOT, 'ready', 0o700);
  const realm = await world.finish(world.core.createRealm(request('/ready')));
  assert.equal(realm.root, inode);
  assert.equal((await admin.stat(inode)).realm, realm.realm);
  assert.equal((await admin.stat(inode)).mode, 0o700);
  await admin.make(ROOT, 'file');
  const { inode: full } = await admin.mkdir(ROOT, 'full');
  await admin.make(full, 'x');
  for (const [path, expected] of [
    ['/', 'exists'],
    ['/ready', 'exists'],
    ['/file', 'not_directory'],
    ['/file/x', 'not_directory'],
    ['/none/x', 'not_found'],
    ['/full/..', 'invalid_name'],
    [`/${'x'.repeat(256)}`, 'name_too_long'],
  ] as const)
    await assert.rejects(world.finish(world.core.createRealm(request(path))), code(expected), path);
  const below = await world.finish(world.core.createRealm(request('/full/deep')));
  assert.equal(below.path, '/full/deep');
  assert.equal((await admin.lookup(full, 'deep')).type, InodeType.DIRECTORY);
});

test('M9: a realm is called what its directories are called now, also after a restart', async () => {
  await using world = await SessionWorld.start();
  await world.subject('root', { admin: true });
  const client = await world.client();
  const a = await client.mkdir(ROOT, 'a');
  await client.mkdir(a.inode, 'b');
  const made = await world.finish(world.core.createRealm(request('/a/b/r', { quotaInodes: 1, quotaBytes: 10 })));
  const paths = async () => (await world.finish(world.core.listRealms())).map(({ path }) => path);
  const pathAtAttach = async () => {
    await client.attach();
    client.replayed();
    return client.attached?.realms.find(({ realm }) => realm === made.realm)?.path;
  };
  assert.deepEqual(await paths(), ['/', '/a/b/r']);
  await client.rename(ROOT, 'a', ROOT, 'x');
  await client.rename(a.inode, 'b', ROOT, 'y');
  assert.deepEqual(await paths(), ['/', '/y/r']);
  const y = await client.lookup(ROOT, 'y');
  await client.rename(y.inode, 'r', y.inode, 's');
  assert.deepEqual(await paths(), ['/', '/y/s']);
  await client.rename(ROOT, 'x', ROOT, 'y', RenameMode.RENAME_EXCHANGE);
  assert.deepEqual(await paths(), ['/', '/x/s']);
  assert.equal(await pathAtAttach(), '/x/s');
  // Errors name it so, and it is found by this name only.
  const full = { code: 'quota_exceeded', message: /in realm \/x\/s:/ };
  await assert.rejects(client.make(made.root, 'f'), full);
  await assert.rejects(
    client
      .call({ $case: 'replenish', value: { realm: made.realm, bytes: 11, chunks: 1 } }, 'replenished')
      .then(() =>
        client.call({ $case: 'replenish', value: { realm: made.realm, bytes: 11, chunks: 1 } }, 'replenished'),
      ),
    full,
  );
  const { engine } = world.core;
  assert.equal((await world.finish(engine.run((tx) => realmAt(tx, '/x/s')))).realm, made.realm);
  await assert.rejects(world.finish(engine.run((tx) => realmAt(tx, '/a/b/r'))), code('not_found'));
  await world.restart('kill');
  assert.equal(await pathAtAttach(), '/x/s');
  // The old name is free for another.
  await client.mkdir(ROOT, 'a');
  const other = await world.finish(world.core.createRealm(request('/a/r')));
  assert.notEqual(other.realm, made.realm);
  assert.deepEqual(await paths(), ['/', '/x/s', '/a/r']);
});

test('M9, T3a: a directory that is made for a realm belongs to the squashed one who asked, else to the owner of the one around it', async () => {
  await using world = await SessionWorld.start();
  const squashed = await world.subject('ann', { admin: true, trusted: false, uid: 100_007, gid: 100_008 });
  const trusted = await world.subject('root', { admin: true });
  const { engine } = world.core;
  const rowOf = (path: string) =>
    world.finish(engine.run((tx) => tx.get(INODES, path === '/' ? ROOT_INODE : realmAt(tx, path).root)));
  const around = await rowOf('/');
  for (const [path, subject, uid, gid] of [
    ['/hers', squashed, 100_007, 100_008],
    ['/ours', trusted, around?.uid, around?.gid],
    ['/of-the-operator', 'spiffe://alice.home/operator', around?.uid, around?.gid],
  ] as const) {
    await world.finish(world.core.createRealm(request(path), { ...THE_MEMBER, subject }));
    const made = await rowOf(path);
    assert.deepEqual([made?.uid, made?.gid, made?.mode], [uid, gid, 0o755], path);
  }
});
