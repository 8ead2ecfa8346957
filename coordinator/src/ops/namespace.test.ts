import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Existing, InodeType, RenameMode } from '@collective/protocol/gen/session';
import { chunkOf, code, contentOf, makeOp, type Op, ROOT } from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from '../session/session-harness.ts';
import { members, page, symlink } from './three-users.ts';

const { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_REPLACE } = RenameMode;

const link = (client: ScriptedClient, inode: number, parent: number, name: string | Buffer) =>
  client.call({ $case: 'link', value: { inode, parent, name: Buffer.from(name) } }, 'attributes');

const BAD_NAMES: readonly { readonly what: string; readonly name: Buffer; readonly expected: string }[] = [
  { what: 'empty', name: Buffer.alloc(0), expected: 'invalid_name' },
  { what: '.', name: Buffer.from('.'), expected: 'invalid_name' },
  { what: '..', name: Buffer.from('..'), expected: 'invalid_name' },
  { what: 'with a slash', name: Buffer.from('a/b'), expected: 'invalid_name' },
  { what: 'with NUL', name: Buffer.from('a\0b'), expected: 'invalid_name' },
  { what: 'of 256 bytes', name: Buffer.alloc(256, 'x'), expected: 'name_too_long' },
  { what: 'of 128 characters with 256 bytes', name: Buffer.from('é'.repeat(128)), expected: 'name_too_long' },
  { what: 'with a lone continuation byte', name: Buffer.from([0x61, 0x80]), expected: 'invalid_name' },
  { what: 'cut in the middle of a character', name: Buffer.from('é').subarray(0, 1), expected: 'invalid_name' },
  { what: 'with an overlong slash', name: Buffer.from([0xc0, 0xaf]), expected: 'invalid_name' },
  { what: 'with a surrogate', name: Buffer.from([0xed, 0xa0, 0x80]), expected: 'invalid_name' },
];

for (const { what, name, expected } of BAD_NAMES)
  test(`a name is refused everywhere: ${what}`, async () => {
    await using world = await SessionWorld.start();
    const client = await world.client();
    const { inode } = await client.make(ROOT, 'f');
    const old = Buffer.from('f');
    const operations: [Op, Parameters<ScriptedClient['call']>[1]][] = [
      [makeOp(ROOT, name), 'attributes'],
      [{ $case: 'lookup', value: { parent: ROOT, name } }, 'attributes'],
      [{ $case: 'link', value: { inode, parent: ROOT, name } }, 'attributes'],
      [
        {
          $case: 'unlink',
          value: { parent: ROOT, name, directory: false, held: false, expectedInode: 0, permanent: false },
        },
        'unlinked',
      ],
      [
        {
          $case: 'rename',
          value: {
            parent: ROOT,
            name: old,
            newParent: ROOT,
            newName: name,
            mode: 0,
            targetHeld: false,
            targetInode: 0,
          },
        },
        'empty',
      ],
      [
        {
          $case: 'rename',
          value: { parent: ROOT, name, newParent: ROOT, newName: old, mode: 0, targetHeld: false, targetInode: 0 },
        },
        'empty',
      ],
    ];
    for (const [op, result] of operations) await assert.rejects(client.call(op, result), code(expected), op.$case);
    const resolved = await client.call(
      { $case: 'resolve', value: { start: ROOT, names: [name], followLast: false } },
      'resolved',
    );
    assert.equal(resolved.failure?.code, expected);
    assert.deepEqual(await client.names(ROOT), ['f']);
  });

test('names of 255 bytes and of any UTF-8 are kept byte for byte', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const names = ['x'.repeat(255), 'ä'.repeat(127), '日本語', '😀', ' ', '-rf', 'a\nb', '\u{7f}', '...'];
  for (const name of names) {
    const { inode } = await client.make(ROOT, name);
    assert.equal((await client.lookup(ROOT, name)).inode, inode);
  }
  assert.deepEqual(await client.names(ROOT), names);
});

for (const inode of [0, 2 ** 48, 2 ** 52])
  test(`inode number ${inode} is refused, not taken for another`, async () => {
    await using world = await SessionWorld.start();
    const client = await world.client();
    await assert.rejects(client.stat(inode), code('invalid_argument'));
    await assert.rejects(client.mkdir(inode, 'd'), code('invalid_argument'));
  });

test('makeNode: every type, with the mode that the umask leaves', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { FILE, DIRECTORY, FIFO, SOCKET, CHARACTER, BLOCK } = InodeType;
  for (const type of [FILE, DIRECTORY, FIFO, SOCKET, CHARACTER, BLOCK]) {
    const made = await client.make(ROOT, `n${type}`, { type, mode: 0o7777, umask: 0o027, rdev: 0x0103 });
    assert.deepEqual(
      { type: made.type, mode: made.mode, links: made.links },
      { type, mode: 0o7750, links: type === DIRECTORY ? 2 : 1 },
    );
    assert.equal(made.rdev, 0x0103);
  }
  assert.equal((await client.stat(ROOT)).links, 3);
});

test('makeNode: what is refused', async () => {
  await using parts = await members();
  const { root, bob } = parts;
  await root.make(ROOT, 'f');
  await root.mkdir(ROOT, 'd');
  await assert.rejects(root.make(ROOT, 'x', { type: 0 }), code('invalid_argument'));
  await assert.rejects(root.make(ROOT, 'x', { type: 99 as never }), code('invalid_argument'));
  await assert.rejects(root.make(ROOT, 'x', { type: InodeType.SYMLINK }), code('invalid_argument'));
  await assert.rejects(symlink(root, ROOT, 'x', 'y'.repeat(4_096)), code('name_too_long'));
  await assert.rejects(
    root.make(ROOT, 'x', { type: InodeType.DIRECTORY, content: contentOf([]) }),
    code('invalid_argument'),
  );
  await assert.rejects(bob.make(ROOT, 'x', { type: InodeType.BLOCK }), code('not_permitted'));
  await assert.rejects(root.make(ROOT, 'f'), code('exists'));
  await assert.rejects(root.mkdir(ROOT, 'd'), code('exists'));
  await assert.rejects(root.make(ROOT, 'd', { existing: Existing.OPEN }), code('is_directory'));
  await assert.rejects(root.make(ROOT, 'd', { existing: Existing.REPLACE }), code('is_directory'));
  const { inode } = await root.lookup(ROOT, 'f');
  await assert.rejects(root.make(inode, 'x'), code('not_directory'));
  await assert.rejects(
    bob.make(ROOT, 'x', { content: contentOf([], { xattrs: [{ name: 'trusted.a', value: Buffer.from('1') }] }) }),
    code('not_permitted'),
  );
  assert.deepEqual(await root.names(ROOT), ['f', 'd']);
});

test('makeNode with OPEN answers what is there and changes nothing; with REPLACE the name goes to a new file', async () => {
  await using parts = await members();
  const { root, world } = parts;
  const first = await root.make(ROOT, 'f', { mode: 0o640 });
  await world.clock.advance(50);
  assert.deepEqual(await root.make(ROOT, 'f', { existing: Existing.OPEN, mode: 0o777 }), first);
  const replaced = await root.make(ROOT, 'f', {
    existing: Existing.REPLACE,
    mode: 0o777,
    content: contentOf([{ offset: 0, length: 4, chunk: 1 }]),
  });
  assert.notEqual(replaced.inode, first.inode);
  assert.deepEqual(
    { mode: replaced.mode, size: replaced.size, links: replaced.links },
    { mode: 0o640, size: 4, links: 1 },
  );
  await assert.rejects(root.stat(first.inode), code('stale'));
  assert.deepEqual(await root.names(ROOT), ['f']);
});

test('a file that somebody else replaces keeps its owner, but not its set-id bits', async () => {
  await using parts = await members();
  const { root, bob } = parts;
  await root.make(ROOT, 'tool', { mode: 0o777 });
  const { inode } = await root.lookup(ROOT, 'tool');
  await root.set(inode, { mode: 0o6777 });
  const replaced = await bob.make(ROOT, 'tool', {
    existing: Existing.REPLACE,
    content: contentOf([{ offset: 0, length: 4, chunk: chunkOf(2, 1) }]),
  });
  assert.deepEqual({ uid: replaced.uid, mode: replaced.mode }, { uid: 0, mode: 0o777 });
});

test('a set-gid directory hands its group on, and set-gid falls on a file of a group that the maker is not in', async () => {
  await using parts = await members();
  const { root, bob } = parts;
  const { inode } = await root.mkdir(ROOT, 'shared', 0o777);
  await root.set(inode, { gid: 500, mode: 0o2777 });
  const file = await bob.make(inode, 'f', { mode: 0o2755 });
  assert.deepEqual({ gid: file.gid, mode: file.mode, uid: file.uid }, { gid: 500, mode: 0o755, uid: 1000 });
  const below = await bob.mkdir(inode, 'd', 0o755);
  assert.deepEqual({ gid: below.gid, mode: below.mode }, { gid: 500, mode: 0o2755 });
});

test('T3a: a squashed session is always its own user, whatever credential it names', async () => {
  await using parts = await members();
  const { eve } = parts;
  const made = await eve.make(ROOT, 'f', {}, { credential: { uid: 0, gid: 0, groups: [0] } });
  assert.deepEqual({ uid: made.uid, gid: made.gid }, { uid: 1001, gid: 1001 });
  await assert.rejects(
    eve.set(ROOT, { mode: 0o700 }, { credential: { uid: 0, gid: 0, groups: [] } }),
    code('not_permitted'),
  );
});

test('mode bits: search to look up, read to list, write and search to change entries', async () => {
  await using parts = await members();
  const { root, bob } = parts;
  const { inode } = await root.mkdir(ROOT, 'd', 0o700);
  await root.make(inode, 'f');
  const allowed = async (mode: number): Promise<string> => {
    await root.set(inode, { mode });
    const tries: [string, () => Promise<unknown>][] = [
      ['lookup', () => bob.lookup(inode, 'f')],
      ['list', () => page(bob, inode, 0, 10)],
      ['make', () => bob.make(inode, 'g').then(() => root.unlink(inode, 'g'))],
    ];
    const done: string[] = [];
    for (const [name, attempt] of tries) {
      try {
        await attempt();
        done.push(name);
      } catch (error) {
        code('permission_denied')(error);
      }
    }
    return done.join(' ');
  };
  assert.equal(await allowed(0o700), '');
  assert.equal(await allowed(0o701), 'lookup');
  assert.equal(await allowed(0o704), 'list');
  assert.equal(await allowed(0o702), '');
  assert.equal(await allowed(0o703), 'lookup make');
  assert.equal(await allowed(0o707), 'lookup list make');
  await root.set(inode, { gid: 2000 });
  assert.equal(await allowed(0o070), 'lookup list make');
  // The class decides, not the sum: a member of the group gets nothing from the others' bits.
  assert.equal(await allowed(0o007), '');
});

test("in a sticky directory entries are taken away by their owner, the directory's owner and root", async () => {
  await using parts = await members();
  const { root, bob, eve } = parts;
  const { inode } = await root.mkdir(ROOT, 'tmp', 0o777);
  await root.set(inode, { mode: 0o1777 });
  await bob.make(inode, 'f');
  await eve.make(inode, 'e');
  await assert.rejects(eve.unlink(inode, 'f'), code('not_permitted'));
  await assert.rejects(eve.rename(inode, 'f', inode, 'g'), code('not_permitted'));
  await assert.rejects(eve.rename(inode, 'e', inode, 'f'), code('not_permitted'));
  await assert.rejects(eve.rename(inode, 'e', inode, 'f', RENAME_EXCHANGE), code('not_permitted'));
  await bob.rename(inode, 'f', inode, 'g');
  await bob.unlink(inode, 'g');
  await root.unlink(inode, 'e');
});

test('unlink and rmdir: each on its own kind, an empty directory, the expected inode', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.mkdir(ROOT, 'd');
  await client.make(inode, 'f');
  await assert.rejects(client.unlink(ROOT, 'd'), code('is_directory'));
  await assert.rejects(client.unlink(ROOT, 'd', { directory: true }), code('not_empty'));
  await assert.rejects(client.unlink(inode, 'f', { directory: true }), code('not_directory'));
  await assert.rejects(client.unlink(inode, 'g'), code('not_found'));
  await assert.rejects(client.unlink(inode, 'f', { expectedInode: inode, permanent: false }), code('stale'));
  await client.unlink(inode, 'f');
  await client.unlink(ROOT, 'd', { directory: true });
  assert.equal((await client.stat(ROOT)).links, 2);
});

test('rename: a table of what replaces what', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const kinds = ['file', 'empty', 'full', 'none'] as const;
  const expected: Record<string, Record<string, string>> = {
    file: { file: 'ok', empty: 'is_directory', full: 'is_directory', none: 'ok' },
    empty: { file: 'not_directory', empty: 'ok', full: 'not_empty', none: 'ok' },
    full: { file: 'not_directory', empty: 'ok', full: 'not_empty', none: 'ok' },
    none: { file: 'not_found', empty: 'not_found', full: 'not_found', none: 'not_found' },
  };
  let round = 0;
  const place = async (parent: number, name: string, kind: string): Promise<void> => {
    if (kind === 'file') await client.make(parent, name);
    if (kind === 'empty' || kind === 'full') {
      const { inode } = await client.mkdir(parent, name);
      if (kind === 'full') await client.make(inode, 'x');
    }
  };
  for (const from of kinds)
    for (const to of kinds)
      for (const mode of [RENAME_REPLACE, RENAME_NOREPLACE]) {
        const { inode } = await client.mkdir(ROOT, `t${round++}`);
        await place(inode, 'a', from);
        await place(inode, 'b', to);
        const plain = expected[from]?.[to] ?? '';
        const wanted = mode === RENAME_NOREPLACE && from !== 'none' && to !== 'none' ? 'exists' : plain;
        if (wanted === 'ok') {
          await client.rename(inode, 'a', inode, 'b', mode);
          assert.deepEqual(await client.names(inode), ['b']);
        } else
          await assert.rejects(
            client.rename(inode, 'a', inode, 'b', mode),
            code(wanted),
            `${from} over ${to}, mode ${mode}`,
          );
        const subdirectories = (await page(client, inode, 0, 10)).entries.filter(
          ({ type }) => type === InodeType.DIRECTORY,
        ).length;
        assert.equal((await client.stat(inode)).links, 2 + subdirectories);
      }
});

test('rename: exchange swaps two names, also of a file and a directory in two directories', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const one = await client.mkdir(ROOT, 'one');
  const two = await client.mkdir(ROOT, 'two');
  const file = await client.make(one.inode, 'x');
  const folder = await client.mkdir(two.inode, 'y');
  await client.make(folder.inode, 'inside');
  await client.rename(one.inode, 'x', two.inode, 'y', RENAME_EXCHANGE);
  assert.equal((await client.lookup(one.inode, 'x')).inode, folder.inode);
  assert.equal((await client.lookup(two.inode, 'y')).inode, file.inode);
  assert.deepEqual([(await client.stat(one.inode)).links, (await client.stat(two.inode)).links], [3, 2]);
  await client.rename(one.inode, 'x', one.inode, 'x', RENAME_EXCHANGE);
  await assert.rejects(client.rename(one.inode, 'x', two.inode, 'z', RENAME_EXCHANGE), code('not_found'));
  await assert.rejects(client.rename(one.inode, 'x', two.inode, 'y', 9 as never), code('invalid_argument'));
});

test('a directory is not moved below itself, not by exchange either', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const a = await client.mkdir(ROOT, 'a');
  const b = await client.mkdir(a.inode, 'b');
  const c = await client.mkdir(b.inode, 'c');
  await assert.rejects(client.rename(ROOT, 'a', c.inode, 'x'), code('invalid_argument'));
  await assert.rejects(client.rename(ROOT, 'a', a.inode, 'x'), code('invalid_argument'));
  await assert.rejects(client.rename(ROOT, 'a', b.inode, 'c', RENAME_EXCHANGE), code('invalid_argument'));
  await assert.rejects(client.rename(b.inode, 'c', ROOT, 'a', RENAME_EXCHANGE), code('invalid_argument'));
  await assert.rejects(client.rename(b.inode, 'c', ROOT, 'a'), code('not_empty'));
  await client.rename(b.inode, 'c', ROOT, 'c');
  assert.deepEqual([(await client.stat(b.inode)).links, (await client.stat(ROOT)).links], [2, 4]);
});

test('rename over another name of the same file does nothing, as POSIX says', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'a');
  await link(client, inode, ROOT, 'b');
  await client.rename(ROOT, 'a', ROOT, 'b');
  await client.rename(ROOT, 'a', ROOT, 'a');
  assert.deepEqual(await client.names(ROOT), ['a', 'b']);
  assert.equal((await client.stat(inode)).links, 2);
});

test('hard links: counted, bounded, never of a directory', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'a');
  const { inode: dir } = await client.mkdir(ROOT, 'd');
  assert.equal((await link(client, inode, dir, 'b')).links, 2);
  await assert.rejects(link(client, dir, ROOT, 'e'), code('not_permitted'));
  await assert.rejects(link(client, inode, dir, 'b'), code('exists'));
  await assert.rejects(link(client, inode, inode, 'x'), code('not_directory'));
  assert.equal((await client.unlink(ROOT, 'a')).attributes?.links, 1);
  assert.equal((await client.lookup(dir, 'b')).inode, inode);
  assert.equal((await client.unlink(dir, 'b')).attributes, undefined);
});

test('times: a new entry changes those of the directory, chmod only ctime, and nanoseconds are kept', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.mkdir(ROOT, 'd');
  const born = await client.stat(inode);
  assert.deepEqual([born.mtime, born.ctime], [born.birth, born.birth]);
  await world.clock.advance(1_000.123);
  await client.make(inode, 'f');
  const entered = await client.stat(inode);
  assert.notDeepEqual(entered.mtime, born.mtime);
  assert.deepEqual(entered.mtime, entered.ctime);
  await world.clock.advance(1_000);
  const changed = await client.set(inode, { mode: 0o700 });
  assert.deepEqual(changed.mtime, entered.mtime);
  assert.notDeepEqual(changed.ctime, entered.ctime);
  for (const mtime of [
    { seconds: -1, nanos: 999_999_999 },
    { seconds: 0, nanos: 0 },
    { seconds: 2 ** 33, nanos: 1 },
  ])
    assert.deepEqual((await client.set(inode, { mtime })).mtime, mtime);
  await assert.rejects(client.set(inode, { mtime: { seconds: 0, nanos: 1e9 } }), code('invalid_argument'));
  await assert.rejects(client.set(inode, { birth: { seconds: 0, nanos: 4e9 } }), code('invalid_argument'));
});

test('setAttributes: who may change what', async () => {
  await using parts = await members();
  const { root, bob, eve } = parts;
  const { inode } = await bob.make(ROOT, 'f', { mode: 0o666 });
  await assert.rejects(eve.set(inode, { mode: 0o777 }), code('not_permitted'));
  await assert.rejects(bob.set(inode, { uid: 1001 }), code('not_permitted'));
  await assert.rejects(bob.set(inode, { gid: 3000 }), code('not_permitted'));
  await assert.rejects(eve.set(inode, { mtime: { seconds: 1, nanos: 0 } }), code('not_permitted'));
  await eve.set(inode, { mtimeNow: true });
  await eve.set(inode, { size: 10 });
  await bob.set(inode, { mode: 0o6755 });
  await assert.rejects(eve.set(inode, { mtimeNow: true }), code('permission_denied'));
  await assert.rejects(eve.set(inode, { size: 0 }), code('permission_denied'));
  await assert.rejects(eve.set(inode, { clearSetId: true }), code('permission_denied'));
  assert.deepEqual((({ gid, mode }) => ({ gid, mode }))(await bob.set(inode, { gid: 2000 })), {
    gid: 2000,
    mode: 0o755,
  });
  assert.equal((await root.set(inode, { uid: 1001 })).uid, 1001);
  const { inode: dir } = await root.mkdir(ROOT, 'd');
  await assert.rejects(root.set(dir, { size: 0 }), code('is_directory'));
  const { inode: arrow } = await symlink(root, ROOT, 'l', 'f');
  await assert.rejects(root.set(arrow, { mode: 0o700 }), code('unsupported'));
  await assert.rejects(root.set(arrow, { size: 0 }), code('invalid_argument'));
});

test('symbolic links: the target byte for byte, and resolve stops where the client must go on', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const target = Buffer.from([0x2f, 0xff, 0xfe, 0x61]);
  const { inode, size } = await symlink(client, ROOT, 'raw', target);
  assert.equal(size, 4);
  assert.deepEqual((await client.call({ $case: 'readLink', value: { inode } }, 'linkTarget')).target, target);
  const a = await client.mkdir(ROOT, 'a');
  await client.make(a.inode, 'f');
  await symlink(client, ROOT, 'to-a', 'a');
  const walk = (names: string[], followLast = false) =>
    client.call(
      { $case: 'resolve', value: { start: ROOT, names: names.map((name) => Buffer.from(name)), followLast } },
      'resolved',
    );
  const through = await walk(['to-a', 'f']);
  assert.deepEqual({ found: through.found.length, target: through.linkTarget.toString() }, { found: 1, target: 'a' });
  assert.equal((await walk(['to-a'])).linkTarget.length, 0);
  assert.equal((await walk(['to-a'], true)).linkTarget.toString(), 'a');
  assert.equal((await walk(['a', 'f'])).found.length, 2);
  assert.equal((await walk(['a', 'f', 'g'])).failure?.code, 'not_directory');
  assert.equal((await walk(['a', 'x', 'g'])).failure?.code, 'not_found');
  await assert.rejects(walk(Array.from({ length: 2_100 }, () => 'a')), code('name_too_long'));
  await assert.rejects(
    client.call({ $case: 'readLink', value: { inode: a.inode } }, 'linkTarget'),
    code('invalid_argument'),
  );
});
