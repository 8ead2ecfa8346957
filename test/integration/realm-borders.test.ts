import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { enrol, type Member, type TokenRequest } from '@collective/client';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import {
  Existing,
  FallocateMode,
  InodeType,
  LockFamily,
  LockType,
  type Operation,
  RenameMode,
  XattrMode,
} from '@collective/protocol/gen/session';
import { readTrustPems } from '@collective/protocol/tls/trust-files';
import { seededFile } from './random-file.ts';
import { type OperationBody, RawSession, trustOf } from './raw-session.ts';
import { RunningMember } from './running-member.ts';

describe('the borders of realms', () => {
  let member: RunningMember;
  let ann: Member;
  let bea: RawSession;
  let cal: RawSession;
  let secret: number;
  let root: number;
  let own: number;
  let hers: number;

  before(async () => {
    member = await RunningMember.start();
    ann = await member.connect();
    await ann.admin.createRealm({ path: '/bea' });
    secret = (await ann.files.write('/secret.raw', seededFile(1, 10_000), { mode: 0o666 })).inode;
    await ann.files.setXattr('/secret.raw', 'user.note', Buffer.from('x'));
    await ann.files.setAttributes('/', { mode: 0o777 });
    root = (await ann.files.stat('/')).inode;
    bea = await enrolled('bea', { realms: [{ path: '/bea' }] });
    cal = await enrolled('cal', { realms: [{ path: '/', readOnly: true }] });
    own = bea.attached.realms[0]?.root ?? 0;
    await ann.files.setAttributes('/bea', { mode: 0o777 });
    hers = (await bea.expect('attributes', make(own, 'hers'))).inode;
  });
  after(async () => {
    bea?.[Symbol.dispose]();
    cal?.[Symbol.dispose]();
    await member?.[Symbol.asyncDispose]();
  });
  afterEach((t) => member?.printLogs(t));

  async function enrolled(name: string, rights: Partial<TokenRequest>): Promise<RawSession> {
    const { token } = await ann.admin.createToken({ role: 'user', name, ttlSeconds: 60, ...rights });
    const folder = join(member.folder, name);
    const { bundlePem: caPem } = await readTrustPems(join(member.folder, 'ann'));
    const { coordinator, trustDomain } = member.connectOptions();
    await enrol({ coordinator, trustDomain, caPem, token, role: 'user', name, credentials: folder });
    return await RawSession.open(member, await trustOf(folder));
  }

  const name = Buffer.from('secret.raw');
  const lock = { family: LockFamily.LOCK_POSIX, type: LockType.LOCK_WRITE, owner: 1, start: 0, end: 9, pid: 1 };
  const make = (parent: number, fileName: string): OperationBody => ({
    $case: 'makeNode',
    value: {
      parent,
      name: Buffer.from(fileName),
      type: InodeType.FILE,
      mode: 0o644,
      umask: 0,
      rdev: 0,
      linkTarget: Buffer.alloc(0),
      existing: Existing.FAIL,
      content: undefined,
      targetHeld: false,
      targetInode: 0,
    },
  });
  const change = (inode: number): OperationBody => ({
    $case: 'setAttributes',
    value: {
      inode,
      mode: undefined,
      uid: undefined,
      gid: undefined,
      size: 0,
      mtime: undefined,
      mtimeNow: false,
      birth: undefined,
      clearSetId: false,
    },
  });
  const commit = (inode: number): OperationBody => ({
    $case: 'commitSlices',
    value: {
      inode,
      slices: [{ offset: 0, length: 4096, chunk: Buffer.alloc(0), chunkOffset: 0 }],
      chunks: [],
      mtime: undefined,
      append: false,
      sizeAtLeast: 4096,
      expected: [],
      clearSetId: false,
    },
  });

  const reads = (): OperationBody[] => [
    { $case: 'getAttributes', value: { inode: secret, opens: false } },
    { $case: 'lookup', value: { parent: root, name } },
    { $case: 'resolve', value: { start: root, names: [name], followLast: false } },
    { $case: 'readDirectory', value: { inode: root, after: 0, limit: 10, withAttributes: true } },
    { $case: 'readBlocks', value: { inode: secret, first: 0, count: 1 } },
    { $case: 'readLink', value: { inode: secret } },
    { $case: 'getXattr', value: { inode: secret, name: 'user.note' } },
    { $case: 'listXattrs', value: { inode: secret } },
    { $case: 'getLock', value: { inode: secret, lock } },
    { $case: 'statFileSystem', value: { inode: secret } },
    { $case: 'usage', value: { inode: root, resume: Buffer.alloc(0) } },
    { $case: 'sync', value: { inode: secret } },
  ];
  const writes = (): OperationBody[] => [
    change(secret),
    make(root, 'new'),
    {
      $case: 'unlink',
      value: { parent: root, name, directory: false, held: false, expectedInode: 0, permanent: false },
    },
    {
      $case: 'rename',
      value: {
        parent: root,
        name,
        newParent: root,
        newName: Buffer.from('renamed'),
        mode: RenameMode.RENAME_REPLACE,
        targetHeld: false,
        targetInode: 0,
      },
    },
    { $case: 'link', value: { inode: secret, parent: root, name: Buffer.from('linked') } },
    {
      $case: 'setXattr',
      value: { inode: secret, name: 'user.note', value: Buffer.from('y'), mode: XattrMode.XATTR_ANY },
    },
    { $case: 'removeXattr', value: { inode: secret, name: 'user.note' } },
    commit(secret),
    {
      $case: 'fallocate',
      value: { inode: secret, mode: FallocateMode.FALLOCATE_PUNCH_HOLE, offset: 0, length: 4096 },
    },
    { $case: 'wantWrite', value: { inode: secret } },
    { $case: 'replenish', value: { realm: 1, bytes: 4096, chunks: 1 } },
  ];

  /** A walk tells within its answer where it was stopped. */
  async function answer(session: RawSession, op: OperationBody, credential: Operation['credential']): Promise<void> {
    const result = await session.call(op, { credential });
    if (result.$case === 'resolved' && result.value.failure !== undefined && result.value.found.length === 0)
      throw fromFailure(result.value.failure);
    assert.fail(`${op.$case} was answered with ${JSON.stringify(result)}`);
  }

  async function refused(session: RawSession, op: OperationBody, code: string): Promise<void> {
    // The uid rule squashes: what the client says of itself changes nothing.
    for (const credential of [undefined, { uid: 0, gid: 0, groups: [0] }]) {
      await assert.rejects(answer(session, op, credential), (thrown) => {
        assert.ok(thrown instanceof CollectiveError, `${op.$case}: ${String(thrown)}`);
        assert.equal(thrown.code, code, `${op.$case}: ${thrown.message}`);
        return true;
      });
    }
  }

  test('M9: a session that asks by number for an inode outside its realms is refused, whatever it asks', async () => {
    assert.deepEqual(
      bea.attached.realms.map(({ path }) => path),
      ['/bea'],
    );
    for (const op of [...reads(), ...writes()]) await refused(bea, op, 'permission_denied');
    await refused(bea, { $case: 'setLock', value: { inode: secret, lock, wait: false } }, 'permission_denied');
  });

  test('M9: nothing is carried over a border: no link in, no move out', async () => {
    await refused(bea, { $case: 'link', value: { inode: secret, parent: own, name } }, 'permission_denied');
    const move = (parent: number, newParent: number): OperationBody => ({
      $case: 'rename',
      value: {
        parent,
        name: parent === root ? name : Buffer.from('hers'),
        newParent,
        newName: Buffer.from('moved'),
        mode: RenameMode.RENAME_REPLACE,
        targetHeld: false,
        targetInode: 0,
      },
    });
    await refused(bea, move(root, own), 'permission_denied');
    await refused(bea, move(own, root), 'permission_denied');
    await assert.rejects(ann.files.rename('/secret.raw', '/bea/secret.raw'), { code: 'cross_realm' });
    await assert.rejects(ann.files.link('/secret.raw', '/bea/secret.raw'), { code: 'cross_realm' });
  });

  test('M9: a realm given for reading only can be read and nothing else', async () => {
    for (const op of reads().filter(({ $case }) => $case !== 'readLink')) await cal.call(op);
    for (const op of writes()) await refused(cal, op, 'read_only');
  });

  test('M9, T3a: what was refused left no trace, and her own realm is hers', async () => {
    assert.ok((await ann.files.readAll('/secret.raw')).equals(seededFile(1, 10_000)));
    const names: string[] = [];
    for await (const entry of ann.files.list('/')) names.push(entry.name);
    assert.deepEqual(names.sort(), ['bea', 'secret.raw']);
    assert.equal((await ann.files.getXattr('/secret.raw', 'user.note')).toString(), 'x');
    const { uid } = await bea.expect('attributes', { $case: 'getAttributes', value: { inode: hers, opens: false } });
    assert.equal(uid, bea.attached.uid, 'T3a: files of a squashed subject belong to its uid');
    assert.ok(uid >= 1);
    await bea.call(commit(hers));
    await bea.call(change(hers));
  });
});
