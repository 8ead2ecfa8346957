/** From a member's data folder to a backup and back, with the real log, SQLite and engine. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileDisk } from '@collective/base/disk/file-disk';
import { type InodeNumber, ROOT_INODE } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { type MemberState, openMemberState } from '../member-state.ts';
import { EVENTS, INODES, MAINTENANCE, XATTRS } from '../tables/tables.ts';
import { BackupRewriter } from './add-authority.ts';
import { createBackup } from './create-backup.ts';
import { inspectBackup } from './inspect-backup.ts';
import { NUMBERS_PASSED_OVER, restoreBackup } from './restore-backup.ts';

const clock = new SystemClock();
const random = new SystemRandom();
const never = new AbortController().signal;
const slow = { timeout: 60_000 };

async function scratch(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'collective-backup-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function openMember(folder: string): Promise<MemberState> {
  await mkdir(folder, { recursive: true });
  return await openMemberState({
    clock,
    random,
    disk: await FileDisk.at(folder),
    folder,
    member: 'alice',
    collective: 'home',
    version: '0.1.0',
    rootOwner: { uid: 0, gid: 0 },
    log: silentLog,
    onFatal: (error) => assert.fail(error),
  });
}

const backupOf = ({ core }: MemberState): AsyncGenerator<Buffer, void, undefined> =>
  createBackup({ clock, engine: core.engine, facts: { member: 'alice', collective: 'home', version: '0.1.0' } }, never);

async function gather(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

async function* inPieces(bytes: Buffer, size = 10_000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const put = (state: MemberState, name: string, value: string): Promise<void> =>
  state.core.engine.run((tx) => tx.put(XATTRS, { value: Buffer.from(value) }, ROOT_INODE, name));

const read = (state: MemberState, name: string): Promise<string | undefined> =>
  state.core.engine.run((tx) => tx.get(XATTRS, ROOT_INODE, name)?.value.toString());

const newInode = (state: MemberState): Promise<InodeNumber> => state.core.engine.run((tx) => tx.newInode());

test(
  'M2a: a restored coordinator knows what was stable, in a generation and with numbers of its own',
  slow,
  async () => {
    await using folder = await scratch();
    const [old, fresh] = [join(folder.path, 'old'), join(folder.path, 'fresh')];
    const first = await openMember(old);
    for (let i = 0; i < 3_000; i++) void put(first, `user.${i}`, `value ${i}`);
    await put(first, 'user.last', 'last');
    const backup = await gather(backupOf(first));
    await put(first, 'user.after', 'too late');
    const given = await newInode(first);
    const { epoch, lastPosition } = first.core.engine;
    await first[Symbol.asyncDispose]();

    const inspected = await inspectBackup(inPieces(backup));
    assert.deepEqual([inspected.facts.member, inspected.facts.epoch, inspected.hasAuthority], ['alice', epoch, false]);
    const restored = await restoreBackup({ source: inPieces(backup), folder: fresh, clock, random });
    assert.equal(restored.rows, inspected.rows);
    assert.ok(restored.rows > 3_000);

    const second = await openMember(fresh);
    assert.equal(await read(second, 'user.2999'), 'value 2999');
    assert.equal(await read(second, 'user.last'), 'last');
    assert.equal(await read(second, 'user.after'), undefined);
    assert.ok(await second.core.engine.run((tx) => tx.get(INODES, ROOT_INODE)));
    const { engine } = second.core;
    assert.ok(engine.epoch.generation > epoch.generation, `${engine.epoch.generation} after ${epoch.generation}`);
    assert.equal(engine.epoch.generation, restored.generation);
    assert.ok(engine.recovered <= lastPosition && engine.recovered >= restored.facts.position);
    assert.ok(
      (await newInode(second)) >= given + NUMBERS_PASSED_OVER - 2 ** 20,
      'no number that was given since is given again',
    );
    await put(second, 'user.new', 'goes on');
    await second[Symbol.asyncDispose]();

    const third = await openMember(fresh);
    assert.equal(await read(third, 'user.new'), 'goes on');
    assert.deepEqual(third.core.engine.epoch, { generation: restored.generation, start: engine.epoch.start + 1 });
    await third[Symbol.asyncDispose]();
  },
);

test('D9: after a restore garbage waits for a person; the other settings stay', slow, async () => {
  await using folder = await scratch();
  const first = await openMember(join(folder.path, 'old'));
  await first.maintenance.change({ repairAfterSeconds: 77 });
  const backup = await gather(backupOf(first));
  await first[Symbol.asyncDispose]();
  const fresh = join(folder.path, 'fresh');
  await restoreBackup({ source: inPieces(backup), folder: fresh, clock, random });
  const second = await openMember(fresh);
  const { garbageWaits, repairAfterSeconds } = second.maintenance.current;
  assert.deepEqual([garbageWaits, repairAfterSeconds], [true, 77]);
  await second.maintenance.change({ garbageWaits: false });
  await second[Symbol.asyncDispose]();
  const third = await openMember(fresh);
  assert.equal(third.maintenance.current.garbageWaits, false);
  assert.equal((await third.core.engine.run((tx) => tx.get(MAINTENANCE)))?.garbageWaits, false);
  await third[Symbol.asyncDispose]();
});

test('M2: a backup that is made while others write holds each change whole or not at all', slow, async () => {
  await using folder = await scratch();
  const first = await openMember(join(folder.path, 'old'));
  const PAIRS = 400;
  let stop = false;
  const writer = (async () => {
    // Two rows a change: they are equal in every state that ever was.
    for (let round = 1; !stop; round++)
      await first.core.engine.run(
        (tx) => {
          for (let i = 0; i < PAIRS; i++) tx.put(XATTRS, { value: Buffer.from(`${round}`) }, ROOT_INODE, `user.p${i}`);
        },
        { durability: 'written' },
      );
    return true;
  })();
  for (let i = 0; i < 3; i++) {
    const backup = await gather(backupOf(first));
    const fresh = join(folder.path, `fresh-${i}`);
    await restoreBackup({ source: inPieces(backup, 1_000), folder: fresh, clock, random });
    const restored = await openMember(fresh);
    const values = await restored.core.engine.run((tx) =>
      Array.from({ length: PAIRS }, (_, p) => tx.get(XATTRS, ROOT_INODE, `user.p${p}`)?.value.toString()),
    );
    assert.equal(new Set(values).size, 1);
    await restored[Symbol.asyncDispose]();
  }
  stop = true;
  await writer;
  await first[Symbol.asyncDispose]();
});

test('a backup is restored into an empty folder only, and a damaged one leaves nothing', slow, async () => {
  await using folder = await scratch();
  const first = await openMember(join(folder.path, 'old'));
  const backup = await gather(backupOf(first));
  await first[Symbol.asyncDispose]();
  const used = join(folder.path, 'used');
  await mkdir(used);
  await writeFile(join(used, 'photo.jpg'), 'mine');
  const restore = (source: Buffer, into: string) =>
    restoreBackup({ source: inPieces(source), folder: into, clock, random });
  await assert.rejects(restore(backup, used), { code: 'not_empty', message: /photo\.jpg/ });
  assert.equal(await readFile(join(used, 'photo.jpg'), 'utf8'), 'mine');
  const fresh = join(folder.path, 'fresh');
  await mkdir(fresh);
  for (const spoiled of [
    backup.subarray(0, -1),
    Buffer.concat([backup, backup]),
    backup.subarray(100),
    Buffer.from('x'),
  ])
    await assert.rejects(restore(spoiled, fresh), { code: 'backup_damaged' });
  assert.deepEqual((await readdir(folder.path)).sort(), ['fresh', 'old', 'used']);
  await mkdir(`${fresh}.restoring`);
  await writeFile(join(`${fresh}.restoring`, 'photo.jpg'), 'mine');
  await assert.rejects(restore(backup, fresh), { code: 'exists', message: /another restore/ });
  assert.deepEqual(await readdir(`${fresh}.restoring`), ['photo.jpg'], 'what it did not make stays');
  await rm(`${fresh}.restoring`, { recursive: true });
  for (const other of [{ member: 'bob' }, { member: 'alice', collective: 'work' }])
    await assert.rejects(restoreBackup({ source: inPieces(backup), folder: fresh, of: other, clock, random }), {
      code: 'wrong_member',
      message: /it is of alice\.home/,
    });
  const of = { member: 'alice', collective: 'home' };
  await restoreBackup({ source: inPieces(backup), folder: fresh, of, clock, random });
  assert.ok((await readdir(fresh)).includes('member.json'));
});

test('a restore that was killed is begun again, and one that runs is left alone', slow, async () => {
  await using folder = await scratch();
  const first = await openMember(join(folder.path, 'old'));
  const backup = await gather(backupOf(first));
  await first[Symbol.asyncDispose]();
  const fresh = join(folder.path, 'fresh');
  const work = `${fresh}.restoring`;
  const restore = () => restoreBackup({ source: inPieces(backup), folder: fresh, clock, random });
  await mkdir(work);
  await writeFile(join(work, 'metadata.db'), 'half');
  const lock = await (await FileDisk.at(work)).lock('');
  await assert.rejects(restore(), { code: 'exists', message: /another restore that runs/ });
  assert.ok((await readdir(work)).includes('metadata.db'));
  await lock.release();
  assert.equal((await restore()).wasThere, false);
  assert.deepEqual((await readdir(folder.path)).sort(), ['fresh', 'old']);
});

test(
  'M2a: a restore that succeeded unheard does nothing the second time, and another backup is refused',
  slow,
  async () => {
    await using folder = await scratch();
    const first = await openMember(join(folder.path, 'old'));
    const backup = await gather(backupOf(first));
    await put(first, 'user.later', 'x');
    const later = await gather(backupOf(first));
    await first[Symbol.asyncDispose]();
    const fresh = join(folder.path, 'fresh');
    const restore = (source: Buffer) => restoreBackup({ source: inPieces(source), folder: fresh, clock, random });
    const once = await restore(backup);
    const second = await openMember(fresh);
    await put(second, 'user.since', 'kept');
    await second[Symbol.asyncDispose]();
    const twice = await restore(backup);
    assert.deepEqual([once.wasThere, twice.wasThere, twice.generation], [false, true, once.generation]);
    await assert.rejects(restore(later), { code: 'not_empty' });
    const third = await openMember(fresh);
    assert.equal(await read(third, 'user.since'), 'kept');
    assert.equal(third.core.engine.epoch.generation, once.generation);
    await third[Symbol.asyncDispose]();
  },
);

test(
  'T4: the authority comes from the folder of who saves it, and its key is for nobody else after a restore',
  slow,
  async () => {
    await using folder = await scratch();
    const first = await openMember(join(folder.path, 'old'));
    const rewriter = new BackupRewriter([
      { name: 'ca/ca.key', content: Buffer.from('secret key') },
      { name: 'ca/ca.crt', content: Buffer.from('certificate') },
    ]);
    const pieces: Buffer[] = [];
    for await (const piece of backupOf(first)) pieces.push(...rewriter.push(piece));
    assert.equal(rewriter.finish().hasAuthority, true);
    await first[Symbol.asyncDispose]();
    const fresh = join(folder.path, 'fresh');
    const restored = await restoreBackup({ source: inPieces(Buffer.concat(pieces)), folder: fresh, clock, random });
    assert.equal(restored.hasAuthority, true);
    assert.equal(await readFile(join(fresh, 'ca', 'ca.key'), 'utf8'), 'secret key');
    const { mode } = await (await import('node:fs/promises')).stat(join(fresh, 'ca', 'ca.key'));
    assert.equal(mode & 0o777, 0o600);
  },
);

test('a file with a foreign name in a backup is refused', slow, async () => {
  await using folder = await scratch();
  const first = await openMember(join(folder.path, 'old'));
  const rewriter = new BackupRewriter([{ name: 'ca/../../evil', content: Buffer.from('x') }]);
  const pieces: Buffer[] = [];
  for await (const piece of backupOf(first)) pieces.push(...rewriter.push(piece));
  await first[Symbol.asyncDispose]();
  const fresh = join(folder.path, 'fresh');
  await assert.rejects(restoreBackup({ source: inPieces(Buffer.concat(pieces)), folder: fresh, clock, random }), {
    code: 'backup_damaged',
    message: /has no place/,
  });
  assert.deepEqual(await readdir(folder.path), ['old']);
});

test('events are kept over a restore', slow, async () => {
  await using folder = await scratch();
  const first = await openMember(join(folder.path, 'old'));
  first.events.record('disk-lost', 'A disk was lost');
  await put(first, 'user.x', 'so that the event is stable');
  const backup = await gather(backupOf(first));
  await first[Symbol.asyncDispose]();
  const fresh = join(folder.path, 'fresh');
  await restoreBackup({ source: inPieces(backup), folder: fresh, clock, random });
  const second = await openMember(fresh);
  assert.equal(second.events.latest.at(-1)?.kind, 'disk-lost');
  second.events.record('another', 'Numbered behind it');
  await put(second, 'user.x', 'y');
  const kinds = await second.core.engine.run((tx) => tx.scan(EVENTS, 'V', 'W', 10).map(({ value }) => value.kind));
  assert.deepEqual(kinds, ['disk-lost', 'another']);
  await second[Symbol.asyncDispose]();
});
