import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import type { Member } from '@collective/client';
import { seededBytes, seededFile, sha256Of } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;

function code(expected: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof CollectiveError, String(error));
    assert.equal(error.code, expected);
    if (message !== undefined) assert.match(error.message, message);
    return true;
  };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe('the SDK and a real member', () => {
  let running: RunningMember;
  let member: Member;
  let files: Member['files'];
  let folders = 0;

  before(async () => {
    running = await RunningMember.start();
    member = await running.connect();
    files = member.files;
  });
  after(() => running?.[Symbol.asyncDispose]());
  afterEach((t) => running.printLogs(t as never));

  async function newFolder(): Promise<string> {
    const path = `/sdk-${folders++}`;
    await files.mkdir(path);
    return path;
  }

  test('the session says who it is and what it may use', async () => {
    const { session } = member;
    assert.equal(session.member, 'alice');
    assert.equal(session.trustDomain, 'alice.home');
    assert.equal(session.state, 'attached');
    assert.equal(session.trusted, true);
    assert.deepEqual(
      session.realms.map(({ path, readOnly, replicas, minReplicas }) => ({ path, readOnly, replicas, minReplicas })),
      [{ path: '/', readOnly: false, replicas: 2, minReplicas: 1 }],
    );
    const who = await member.admin.whoAmI();
    assert.equal(who.subject, 'spiffe://alice.home/user/ann');
    assert.equal(who.admin, true);
  });

  test('files of all sizes around a block come back byte for byte', async () => {
    const folder = await newFolder();
    const sizes = [
      0,
      1,
      131_071,
      131_072,
      131_073,
      4 * MiB - 1,
      4 * MiB,
      4 * MiB + 1,
      16 * MiB,
      16 * MiB + 1,
      37 * MiB + 5,
    ];
    await Promise.all(
      sizes.map(async (size, seed) => {
        const path = `${folder}/${size}`;
        const attributes = await files.write(path, seededBytes(seed, size));
        assert.equal(attributes.sizeBytes, size);
        assert.equal((await files.stat(path)).sizeBytes, size);
        assert.equal(await sha256Of(files.read(path)), await sha256Of(seededBytes(seed, size)), `content of ${path}`);
      }),
    );
    const names = (await collect(files.list(folder))).map(({ name }) => name);
    assert.deepEqual(names.sort(), sizes.map(String).sort(), 'no partial file is left');
  });

  test('ranges are read exactly, also across frames and blocks and beyond the end', async () => {
    const folder = await newFolder();
    const path = `${folder}/ranges`;
    const whole = seededFile(3, 9 * MiB + 77);
    await files.write(path, whole);
    await using handle = await files.open(path);
    for (const [offset, length] of [
      [0, 1],
      [131_072, 1],
      [131_071, 2],
      [4 * MiB - 3, 6],
      [4 * MiB, 4 * MiB],
      [1_000, 9 * MiB],
      [9 * MiB + 70, 100],
      [20 * MiB, 5],
      [5, 0],
    ] as const) {
      const expected = whole.subarray(offset, offset + length);
      assert.ok((await handle.read(offset, length)).equals(expected), `handle ${offset}+${length}`);
      const streamed = Buffer.concat(await collect(files.read(path, { offset, length })));
      assert.ok(streamed.equals(expected), `read ${offset}+${length}`);
    }
    await assert.rejects(handle.read(-1, 5), code('invalid_argument'));
    await assert.rejects(handle.read(0, 65 * MiB), code('range'));
    await assert.rejects(handle.write(0, Buffer.from('x')), code('invalid_argument', /ranges/));
  });

  test('D1: overwrites, holes and truncation give what an array of bytes would', async () => {
    const folder = await newFolder();
    await using handle = await files.open(`${folder}/patchwork`, { access: 'write', create: true });
    const model = Buffer.alloc(10 * MiB);
    let size = 0;
    for (let round = 0; round < 40; round++) {
      const offset = Math.floor((randomBytes(4).readUInt32LE() / 2 ** 32) * 9 * MiB);
      const bytes = randomBytes(1 + (randomBytes(4).readUInt32LE() % (round % 8 === 0 ? MiB : 5_000)));
      if (round % 10 === 9) {
        await handle.truncate(offset);
        model.fill(0, offset);
        size = offset;
      }
      if (round % 10 === 5) {
        await handle.punchHole(offset, 100_000);
        model.fill(0, offset, Math.min(size, offset + 100_000));
      }
      await handle.write(offset, bytes);
      bytes.copy(model, offset);
      size = Math.max(size, offset + bytes.length);
    }
    assert.equal((await handle.attributes()).sizeBytes, size);
    assert.ok((await handle.read(0, size)).equals(model.subarray(0, size)));
  });

  test('a file of zeros stores nothing, and far offsets are holes', async () => {
    const folder = await newFolder();
    const zeros = await files.write(`${folder}/zeros`, Buffer.alloc(9 * MiB));
    assert.equal(zeros.sizeBytes, 9 * MiB);
    assert.equal(zeros.storedBytes, 0);
    assert.ok((await files.readAll(`${folder}/zeros`)).equals(Buffer.alloc(9 * MiB)));
    await using far = await files.open(`${folder}/far`, { access: 'write', create: true });
    await far.write(8 * 1024 ** 4, Buffer.from('end'));
    assert.equal((await far.attributes()).sizeBytes, 8 * 1024 ** 4 + 3);
    assert.equal((await far.read(8 * 1024 ** 4 - 2, 10)).toString('latin1'), '\0\0end');
    await assert.rejects(far.write(16 * 1024 ** 4, Buffer.from('x')), code('too_large'));
  });

  test('F7: appends of several writers all land, one after the other', async () => {
    const folder = await newFolder();
    const path = `${folder}/log`;
    await using one = await files.open(path, { access: 'write', create: true });
    await using two = await files.open(path, { access: 'write' });
    const lines = Array.from({ length: 40 }, (_, i) => Buffer.from(`line ${i}\n`.padEnd(3 + i * 7, '.')));
    const offsets = await Promise.all(lines.map((line, i) => (i % 2 === 0 ? one : two).append(line)));
    const content = await files.readAll(path);
    assert.equal(
      content.length,
      lines.reduce((sum, { length }) => sum + length, 0),
    );
    for (const [i, line] of lines.entries()) {
      const offset = offsets[i] ?? -1;
      assert.ok(content.subarray(offset, offset + line.length).equals(line), `line ${i} at ${offset}`);
    }
  });

  test('D1: a block takes more pieces than one block may have, because its writer folds it', async () => {
    const folder = await newFolder();
    await using handle = await files.open(`${folder}/diary`, { access: 'write', create: true });
    const lines = Array.from({ length: 2_100 }, (_, i) => `line ${i}\n`);
    const appending = lines.values();
    const writer = async (): Promise<void> => {
      for (const line of appending) await handle.append(Buffer.from(line), { durability: 'written' });
    };
    await Promise.all(Array.from({ length: 16 }, writer));
    const content = (await handle.read(0, MiB)).toString();
    assert.deepEqual(content.split(/(?<=\n)/).sort(), [...lines].sort());
  });

  test('the namespace: make, list, link, rename in its three ways, remove', async () => {
    const folder = await newFolder();
    await files.mkdir(`${folder}/a/b/c`, { recursive: true });
    await files.mkdir(`${folder}/a/b/c`, { recursive: true });
    await assert.rejects(files.mkdir(`${folder}/a`), code('exists', /sdk-/));
    await files.write(`${folder}/a/one`, Buffer.from('1'));
    await files.write(`${folder}/a/two`, Buffer.from('2'));
    const linked = await files.link(`${folder}/a/one`, `${folder}/a/also-one`);
    assert.equal(linked.links, 2);
    await assert.rejects(files.rename(`${folder}/a/one`, `${folder}/a/two`, { mode: 'no-replace' }), code('exists'));
    await files.rename(`${folder}/a/one`, `${folder}/a/two`, { mode: 'exchange' });
    assert.equal((await files.readAll(`${folder}/a/two`)).toString(), '1');
    await files.rename(`${folder}/a/one`, `${folder}/a/b/moved`);
    assert.equal((await files.readAll(`${folder}/a/b/moved`)).toString(), '2');
    await assert.rejects(files.rename(`${folder}/a`, `${folder}/a/b/inside`), code('invalid_argument'));
    assert.deepEqual(
      (await collect(files.walk(folder))).map(({ path, depth }) => `${depth} ${path.slice(folder.length)}`),
      ['0 ', '1 /a', '2 /a/b', '3 /a/b/c', '3 /a/b/moved', '2 /a/also-one', '2 /a/two'],
    );
    await assert.rejects(files.remove(`${folder}/a`), code('not_empty'));
    await files.remove(folder, { recursive: true });
    assert.equal(await files.exists(folder), false);
    await files.remove(folder, { force: true });
    await assert.rejects(files.remove(folder), code('not_found'));
    await assert.rejects(files.remove('/', { recursive: true }), code('busy'));
  });

  test('symbolic links are followed, relative and absolute, up and around, and not for ever', async () => {
    const folder = await newFolder();
    await files.mkdir(`${folder}/x/y`, { recursive: true });
    await files.write(`${folder}/x/target`, Buffer.from('here'));
    await files.symlink('../target', `${folder}/x/y/up`);
    await files.symlink(`${folder}/x/y`, `${folder}/absolute`);
    await files.symlink('absolute/up', `${folder}/chain`);
    assert.equal((await files.readAll(`${folder}/chain`)).toString(), 'here');
    assert.equal((await files.readAll(`${folder}/absolute/up`)).toString(), 'here');
    assert.equal((await files.lstat(`${folder}/chain`)).type, 'symlink');
    assert.equal(await files.readlink(`${folder}/chain`), 'absolute/up');
    await files.write(`${folder}/chain`, Buffer.from('through the link'));
    assert.equal((await files.readAll(`${folder}/x/target`)).toString(), 'through the link');
    await files.symlink('b', `${folder}/a`);
    await files.symlink('a', `${folder}/b`);
    await assert.rejects(files.stat(`${folder}/a`), code('too_many_symlinks'));
    await files.symlink('nowhere', `${folder}/dangling`);
    await assert.rejects(files.stat(`${folder}/dangling`), code('not_found', /dangling/));
    await files.remove(`${folder}/absolute`);
    assert.equal((await files.stat(`${folder}/x/y`)).type, 'directory');
  });

  test('attributes, times, modes and extended attributes', async () => {
    const folder = await newFolder();
    const path = `${folder}/file`;
    const modified = { seconds: 1_234_567_890, nanos: 123_456_789 };
    const made = await files.write(path, Buffer.from('abc'), { mode: 0o640, modified });
    assert.equal(made.mode, 0o640);
    assert.deepEqual({ ...made.modified }, modified);
    await files.write(path, Buffer.from('abcd'));
    assert.equal((await files.stat(path)).mode, 0o640, 'a replaced file keeps its mode');
    assert.equal((await files.write(path, Buffer.from('x'), { mode: 0o600 })).mode, 0o600);
    assert.equal((await files.setAttributes(path, { mode: 0o4755, uid: 7, gid: 8 })).uid, 7);
    await files.setXattr(path, 'user.colour', Buffer.from('blue'));
    await assert.rejects(files.setXattr(path, 'user.colour', Buffer.from('red'), { mode: 'create' }), code('exists'));
    assert.equal((await files.getXattr(path, 'user.colour')).toString(), 'blue');
    assert.deepEqual(await files.listXattrs(path), ['user.colour']);
    await files.removeXattr(path, 'user.colour');
    await assert.rejects(files.getXattr(path, 'user.colour'), code('no_attribute'));
    await assert.rejects(files.setAttributes(path, { mode: 0o10000 }), code('invalid_argument'));
  });

  test('many small files at once; one that fails does not stop the others', async () => {
    const folder = await newFolder();
    const inputs = Array.from({ length: 200 }, (_, i) => ({
      path: i === 77 ? `${folder}/missing/77` : `${folder}/${i}`,
      content: Buffer.from(`content ${i}`),
    }));
    const outcomes = await collect(files.writeMany(inputs));
    const failed = outcomes.flatMap((outcome) => ('error' in outcome ? [outcome] : []));
    assert.equal(outcomes.length, 200);
    assert.deepEqual(
      failed.map(({ path }) => path),
      [`${folder}/missing/77`],
    );
    assert.deepEqual(
      { ...(await files.usage(folder)) },
      {
        files: 199,
        directories: 0,
        bytes: inputs.reduce((sum, { content }, i) => sum + (i === 77 ? 0 : content.length), 0),
        storedBytes: inputs.reduce((sum, { content }, i) => sum + (i === 77 ? 0 : content.length), 0),
      },
    );
    assert.equal((await files.readAll(`${folder}/150`)).toString(), 'content 150');
  });

  test('an upload that is given up leaves no name and no partial file', async () => {
    const folder = await newFolder();
    const abort = new AbortController();
    const source = async function* () {
      for (let i = 0; ; i++) {
        if (i === 40) abort.abort(new Error('enough'));
        yield seededFile(i, MiB);
      }
    };
    await assert.rejects(files.write(`${folder}/endless`, source(), { signal: abort.signal }), /enough/);
    assert.deepEqual(await collect(files.list(folder)), []);
    const broken = async function* () {
      yield seededFile(1, 30 * MiB);
      throw new Error('the source broke');
    };
    await assert.rejects(files.write(`${folder}/broken`, broken()), /the source broke/);
    assert.deepEqual(await collect(files.list(folder)), []);
  });

  test('an interrupted upload goes on behind what was committed, and only for the same source', async () => {
    const folder = await newFolder();
    const path = `${folder}/film`;
    const size = 60 * MiB + 11;
    const whole = seededFile(9, size);
    const identity = { sizeBytes: size, modified: { seconds: 99, nanos: 1 } };
    const failing = async function* () {
      yield whole.subarray(0, 40 * MiB);
      throw new Error('the line broke');
    };
    await assert.rejects(files.write(path, failing(), { resume: { identity, source: () => failing() } }), /line broke/);
    const left = await collect(files.list(folder));
    assert.equal(left.length, 1);
    assert.match(left[0]?.name ?? '', /^\.film\.[0-9a-f]{8}\.partial$/);
    const asked: number[] = [];
    const progress: number[] = [];
    const attributes = await files.write(path, Buffer.alloc(0), {
      resume: {
        identity,
        source: (offset) => {
          asked.push(offset);
          return [whole.subarray(offset)];
        },
      },
      onProgress: ({ storedBytes }) => progress.push(storedBytes),
    });
    assert.equal(attributes.sizeBytes, size);
    assert.equal(asked.length, 1);
    assert.ok((asked[0] ?? 0) >= 8 * MiB, `it went on at ${asked[0]}`);
    assert.equal(progress.at(-1), size);
    assert.ok((await files.readAll(path)).equals(whole));
    assert.deepEqual(
      (await collect(files.list(folder))).map(({ name }) => name),
      ['film'],
    );
    assert.deepEqual(await files.listXattrs(path), []);
  });

  test('verify reads every replica and finds all well', async () => {
    const folder = await newFolder();
    await files.write(`${folder}/file`, seededBytes(1, 13 * MiB));
    const report = await files.verify(`${folder}/file`);
    assert.deepEqual(report, {
      path: `${folder}/file`,
      chunks: 4,
      replicas: 8,
      bytesRead: 26 * MiB,
      underReplicated: 0,
      lost: 0,
      bad: [],
    });
  });

  test('M8: an open file outlives its last name, also when another session removes it', async () => {
    const folder = await newFolder();
    const path = `${folder}/open`;
    await files.write(path, Buffer.from('still here'));
    await using other = await running.connect();
    await using handle = await files.open(path);
    await other.files.remove(path);
    assert.equal(await files.exists(path), false);
    assert.equal((await handle.read(0, 100)).toString(), 'still here');
    assert.equal((await handle.attributes()).links, 0);
    await handle.close();
    const again = await files.open(path, { access: 'write', create: true });
    assert.notEqual(again.inode, handle.inode);
    await again.close();
  });

  test('locks: conflicts, waiting, fences that grow, giving up', async () => {
    const folder = await newFolder();
    const path = `${folder}/locked`;
    await files.write(path, Buffer.from('x'));
    await using other = await running.connect();
    await using mine = await files.open(path, { access: 'write' });
    await using theirs = await other.files.open(path, { access: 'write' });
    const first = await mine.lock({ type: 'write', start: 0, end: 9 });
    await assert.rejects(theirs.lock({ type: 'read', start: 5, end: 5 }), code('would_block'));
    assert.equal((await theirs.testLock({ type: 'read', start: 0, end: 3 }))?.type, 'write');
    await theirs.lock({ type: 'write', start: 10, end: 20 });
    const abort = new AbortController();
    const tired = theirs.lock({ type: 'write', start: 0, end: 1, wait: true }, { signal: abort.signal });
    abort.abort(new Error('no patience'));
    await assert.rejects(tired, /no patience/);
    const waiting = theirs.lock({ type: 'write', start: 0, end: 1, wait: true });
    await mine.unlock({ start: 0, end: 9 });
    assert.ok((await waiting).fence > first.fence);
  });

  test('M7: a session with caches sees what another has changed, at once', async () => {
    const folder = await newFolder();
    await using caching = await running.connect({ cache: true });
    await using other = await running.connect();
    for (let round = 0; round < 20; round++) {
      const path = `${folder}/${round % 3}`;
      await other.files.write(path, Buffer.from(`round ${round}`));
      assert.equal((await caching.files.readAll(path)).toString(), `round ${round}`);
      assert.equal((await caching.files.stat(path)).sizeBytes, `round ${round}`.length);
    }
    await other.files.remove(`${folder}/1`);
    assert.equal(await caching.files.exists(`${folder}/1`), false);
    await other.files.write(`${folder}/1`, Buffer.from('back'));
    assert.equal(await caching.files.exists(`${folder}/1`), true);
  });

  test('bad input is refused with a code and the path, and leaves nothing behind', async () => {
    const folder = await newFolder();
    const cases: [string, string][] = [
      ['relative', 'invalid_name'],
      ['', 'invalid_name'],
      ['/a/../b', 'invalid_name'],
      [`/${'n'.repeat(256)}`, 'name_too_long'],
      [`/${'ä'.repeat(128)}`, 'name_too_long'],
      ['/nul\0byte', 'invalid_name'],
      ['/lone\ud800surrogate', 'invalid_name'],
      [`/${'d/'.repeat(2_100)}`, 'name_too_long'],
    ];
    for (const [path, expected] of cases)
      await assert.rejects(files.write(path, Buffer.from('x')), code(expected), path);
    await files.write(`${folder}/${'n'.repeat(255)}`, Buffer.from('x'));
    await files.write(`${folder}/${'ä'.repeat(127)}`, seededBytes(5, 21 * MiB));
    await assert.rejects(files.stat(`${folder}/nothing/below`), code('not_found', /nothing\/below/));
    await assert.rejects(files.write(folder, Buffer.from('x')), code('is_directory'));
    await assert.rejects(collect(files.read(folder)), code('is_directory'));
    await assert.rejects(collect(files.list(`${folder}/${'n'.repeat(255)}`)), code('not_directory'));
    await assert.rejects(files.stat(`${folder}/${'n'.repeat(255)}/x`), code('not_directory'));
  });
});
