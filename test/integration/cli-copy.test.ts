import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmod,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connect, type Member } from '@collective/client';
import { CliWorld, freePortBase, signalAt, type UpProcess } from './cli-world.ts';

const MAIN = fileURLToPath(import.meta.resolve('@collective/cli/main'));
const MiB = 1024 * 1024;

let world: CliWorld;
let up: UpProcess;
let member: Member;

before(async () => {
  world = await CliWorld.create();
  const base = await freePortBase();
  up = await world.up(['--member', 'alice', '--port-base', String(base)]);
  member = await connect({
    coordinator: `127.0.0.1:${base}`,
    trustDomain: 'alice.home',
    credentials: join(world.dataOf('alice'), 'user'),
  });
});

after(async () => {
  await member.close();
  await up.stop();
  await world[Symbol.asyncDispose]();
});

/** A folder of its own in the member and on this machine. */
async function place(name: string): Promise<{ remote: string; local: string }> {
  await world.here.ok(['mkdir', `/${name}`]);
  const local = join(world.work, name);
  await mkdir(local);
  return { remote: `/${name}`, local };
}

async function content(path: string): Promise<string> {
  return (await world.here.run(['cat', path])).out;
}

test('an upload whose process was killed is taken over at once, and nothing is left beside the file', async () => {
  const { remote, local } = await place('killed');
  const bytes = randomBytes(160 * MiB);
  await writeFile(join(local, 'big'), bytes);
  const arrived = async (): Promise<number> => {
    for await (const entry of member.files.list(remote)) {
      if (entry.name.endsWith('.partial')) return entry.attributes?.sizeBytes ?? 0;
    }
    return 0;
  };
  const child: ChildProcess = spawn(process.execPath, [MAIN, 'cp', join(local, 'big'), `collective:${remote}/`], {
    env: world.env,
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  await signalAt(child, 'SIGKILL', async () => (await arrived()) >= 8 * MiB, 'a part has arrived');
  await ended;
  const before = await arrived();
  assert.ok(before >= 8 * MiB && before < bytes.length, `${before} bytes had arrived when it was killed`);
  const { inode } = await partialOf(remote);

  await world.here.ok(['cp', '--continue', join(local, 'big'), `collective:${remote}/`]);
  assert.equal((await member.files.stat(`${remote}/big`)).inode, inode, 'the file is what the killed process began');
  assert.deepEqual(await world.here.ok(['ls', remote]), 'big\n');
  assert.ok(bytes.equals(await member.files.readAll(`${remote}/big`, { bytesMax: bytes.length })));
});

async function partialOf(folder: string): Promise<{ inode: number }> {
  for await (const entry of member.files.list(folder)) if (entry.name.endsWith('.partial')) return entry;
  throw new Error(`There is no partial file in ${folder}`);
}

test('an upload that is under way is not taken over by another of the same file', async () => {
  const { remote, local } = await place('twice');
  const bytes = randomBytes(40 * MiB);
  await writeFile(join(local, 'f'), bytes);
  await Promise.all([0, 1].map(() => world.here.ok(['cp', join(local, 'f'), `collective:${remote}/`])));
  assert.deepEqual(await world.here.ok(['ls', remote]), 'f\n');
  assert.ok(bytes.equals(await member.files.readAll(`${remote}/f`)));
});

test('a sparse file is sparse in the member and comes back sparse, with its bytes', async () => {
  const { remote, local } = await place('sparse');
  const source = join(local, 'image');
  await writeFile(source, 'begin');
  await truncate(source, 256 * MiB);
  const file = await open(source, 'r+');
  await file.write('middle', 100 * MiB);
  await file.close();
  await world.here.ok(['cp', source, `collective:${remote}/`]);
  assert.ok((await member.files.stat(`${remote}/image`)).storedBytes <= 8 * MiB);
  await world.here.ok(['cp', `collective:${remote}/image`, join(local, 'back')]);
  const back = await stat(join(local, 'back'));
  assert.equal(back.size, 256 * MiB);
  assert.ok(back.blocks * 512 <= 16 * MiB, `${back.blocks * 512} bytes are occupied`);
  assert.ok((await readFile(source)).equals(await readFile(join(local, 'back'))));
  await world.here.ok(['cp', `collective:${remote}/image`, `collective:${remote}/copy`]);
  assert.ok((await member.files.stat(`${remote}/copy`)).storedBytes <= 8 * MiB);
});

test('names that are not UTF-8 are named and left out, the rest is copied', async () => {
  const { remote, local } = await place('names');
  const odd = ['new\nline', 'tab\t', 'crab-🦀', '-dash', 'back\\slash', ' blank '];
  for (const name of odd) await writeFile(join(local, name), name);
  const bad = Buffer.concat([Buffer.from(`${local}/bad`), Buffer.from([0xff, 0x0a])]);
  try {
    await writeFile(bad, 'x');
  } catch {
    // Some file systems refuse such names themselves; the others are what is tested.
    return;
  }
  const ran = await world.here.fails(2, /bad\\xff\\n: its name is not UTF-8 \[invalid_name\]/, [
    ...['cp', '-r', '-T', local, `collective:${remote}`],
  ]);
  assert.equal(ran.err.split('\n').length, 3, ran.err);
  for (const name of odd) assert.equal(String(await member.files.readAll(`${remote}/${name}`)), name);
  const names: string[] = [];
  for await (const entry of member.files.list(remote)) names.push(entry.name);
  assert.deepEqual(names.sort(), [...odd].sort());
  assert.equal((await world.here.ok(['ls', '-l', remote])).trim().split('\n').length, odd.length);
});

test('a target that is a link is written through, and a device is written into', async () => {
  const { remote, local } = await place('links');
  await world.here.ok(['write', `${remote}/f`], { stdin: 'new' });
  await writeFile(join(local, 'real'), 'old');
  await symlink('real', join(local, 'link'));
  await world.here.ok(['cp', `collective:${remote}/f`, join(local, 'link')]);
  assert.equal(await readlink(join(local, 'link')), 'real');
  assert.equal(await readFile(join(local, 'real'), 'utf8'), 'new');
  await symlink('nowhere', join(local, 'dangling'));
  await world.here.fails(3, /is a symbolic link that leads nowhere/, [
    'cp',
    `collective:${remote}/f`,
    join(local, 'dangling'),
  ]);
  await symlink('/dev/null', join(local, 'sink'));
  await world.here.ok(['cp', `collective:${remote}/f`, join(local, 'sink')]);
  assert.equal(await readlink(join(local, 'sink')), '/dev/null');
});

test('a tree that is fetched never leads out of its folder through links that lie there', async () => {
  const { remote, local } = await place('inside');
  await world.here.ok(['mkdir', '-p', `${remote}/t/sub`, `${remote}/t/other`]);
  for (const path of ['sub/f', 'other/f', 'f']) await world.here.ok(['write', `${remote}/t/${path}`], { stdin: 'new' });
  const [target, outside] = [join(local, 't'), join(local, 'outside')];
  await mkdir(target);
  await mkdir(outside);
  await writeFile(join(outside, 'f'), 'mine');
  await symlink(outside, join(target, 'sub'));
  await symlink(join(outside, 'f'), join(target, 'f'));
  await world.here.fails(1, /sub: it is a symbolic link on this machine, which is not followed/, [
    ...['cp', '-r', '-T', `collective:${remote}/t`, target],
  ]);
  assert.equal(await readFile(join(outside, 'f'), 'utf8'), 'mine');
  assert.equal(await readFile(join(target, 'other', 'f'), 'utf8'), 'new');
  // A link below gives way to the file that has its name.
  assert.ok((await lstat(join(target, 'f'))).isFile());
});

test('-L copies what links point at, in all directions, and a circle of links ends', async () => {
  const { remote, local } = await place('followed');
  const source = join(local, 's');
  await mkdir(join(source, 'deep', 'er'), { recursive: true });
  await writeFile(join(source, 'f'), 'f');
  await writeFile(join(source, 'deep', 'g'), 'g');
  await symlink('f', join(source, 'to-file'));
  await symlink('deep', join(source, 'to-folder'));
  await symlink('..', join(source, 'deep', 'er', 'up'));
  await world.here.fails(1, /up: it leads to a directory that it lies in/, [
    'cp',
    '-rL',
    source,
    `collective:${remote}/l`,
  ]);
  assert.equal(await content(`${remote}/l/to-file`), 'f');
  assert.equal(await content(`${remote}/l/to-folder/g`), 'g');
  assert.equal((await member.files.lstat(`${remote}/l/to-folder`)).type, 'directory');

  await world.here.ok(['cp', '-r', source, `collective:${remote}/s`]);
  assert.equal((await member.files.lstat(`${remote}/s/to-folder`)).type, 'symlink');
  await world.here.fails(1, /leads to a directory/, [
    'cp',
    '-rL',
    `collective:${remote}/s`,
    `collective:${remote}/within`,
  ]);
  assert.equal(await content(`${remote}/within/to-folder/g`), 'g');
  await world.here.fails(1, /leads to a directory/, ['cp', '-rL', `collective:${remote}/s/`, join(local, 'back')]);
  assert.equal(await readFile(join(local, 'back', 'to-folder', 'g'), 'utf8'), 'g');
  assert.ok((await lstat(join(local, 'back', 'to-file'))).isFile());
});

test('a link takes the place of another and of nothing else', async () => {
  const { remote, local } = await place('replaced');
  const source = join(local, 's');
  await mkdir(source);
  await symlink('new', join(source, 'a'));
  // A file whose name an earlier way of replacing links would have used.
  await world.here.ok(['ln', '-s', 'old', `${remote}/a`]);
  await world.here.ok(['write', `${remote}/a.link`], { stdin: 'precious' });
  await world.here.ok(['cp', '-r', '-T', source, `collective:${remote}`]);
  assert.equal(await member.files.readlink(`${remote}/a`), 'new');
  assert.equal(await content(`${remote}/a.link`), 'precious');
  assert.equal(await world.here.ok(['ls', remote]), 'a\na.link\n');
  await world.here.ok(['rm', `${remote}/a`]);
  await world.here.ok(['mkdir', `${remote}/a`]);
  await world.here.fails(1, /\[is_directory\]/, ['cp', '-r', '-T', source, `collective:${remote}`]);
});

test('--continue skips what is there already, within the member too', async () => {
  const { remote } = await place('skipped');
  await world.here.ok(['mkdir', `${remote}/s`]);
  await world.here.ok(['write', `${remote}/s/f`], { stdin: 'f' });
  const twice = ['cp', '-r', '-T', '--continue', `collective:${remote}/s`, `collective:${remote}/t`];
  await world.here.ok(twice);
  const { inode } = await member.files.stat(`${remote}/t/f`);
  await world.here.ok(twice);
  assert.equal((await member.files.stat(`${remote}/t/f`)).inode, inode);
});

test('--no-preserve leaves modes to this machine, and an existing file its own', async () => {
  const { remote, local } = await place('modes');
  await world.here.ok(['write', '-m', '600', `${remote}/f`], { stdin: 'f' });
  await world.here.ok(['cp', '--no-preserve', `collective:${remote}/f`, join(local, 'f')]);
  assert.equal((await stat(join(local, 'f'))).mode & 0o777, 0o666 & ~process.umask());
  await chmod(join(local, 'f'), 0o640);
  await utimes(join(local, 'f'), 1, 1);
  await world.here.ok(['cp', '--no-preserve', `collective:${remote}/f`, join(local, 'f')]);
  assert.equal((await stat(join(local, 'f'))).mode & 0o777, 0o640);
  assert.ok((await stat(join(local, 'f'))).mtimeMs > 1_000);
  await world.here.ok(['cp', `collective:${remote}/f`, join(local, 'f')]);
  assert.equal((await stat(join(local, 'f'))).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(local), ['f']);
});

test('a directory is never copied into itself, by whatever path', async () => {
  const { remote } = await place('itself');
  await world.here.ok(['mkdir', '-p', `${remote}/d/e`]);
  await world.here.ok(['write', `${remote}/d/f`], { stdin: 'f' });
  await world.here.ok(['ln', '-s', `${remote}/d/e`, `${remote}/way-in`]);
  await world.here.fails(2, /the target lies in the source/, [
    'cp',
    '-r',
    `collective:${remote}/d`,
    `collective:${remote}/way-in`,
  ]);
  await world.here.fails(2, /they are the same/, ['cp', `collective:${remote}/d/f`, `collective:${remote}/d/f`]);
});

test('a move between realms takes owner and extended attributes along, and is one step or nothing', async () => {
  const { remote } = await place('moved');
  await world.here.ok(['realm', 'create', '/elsewhere']);
  await world.here.ok(['mkdir', `${remote}/d`]);
  await world.here.ok(['write', '-m', '640', `${remote}/d/f`], { stdin: 'f' });
  await world.here.ok(['ln', '-s', 'f', `${remote}/d/l`]);
  await member.files.setAttributes(`${remote}/d/f`, { uid: 1234, gid: 99, modified: { seconds: 1_000, nanos: 5 } });
  await member.files.setXattr(`${remote}/d/f`, 'user.colour', Buffer.from('blue'));
  await world.here.ok(['mv', '--copy', `${remote}/d`, '/elsewhere/d']);
  const moved = await member.files.stat('/elsewhere/d/f');
  assert.deepEqual([moved.uid, moved.gid, moved.mode, moved.modified], [1234, 99, 0o640, { seconds: 1_000, nanos: 5 }]);
  assert.equal(String(await member.files.getXattr('/elsewhere/d/f', 'user.colour')), 'blue');
  assert.equal(await member.files.readlink('/elsewhere/d/l'), 'f');
  assert.equal(await member.files.exists(`${remote}/d`), false);
});

test('client store from standard input needs a path', async () => {
  await world.here.fails(2, /--id names the path/, ['client', 'store', '--file', '-'], { stdin: 'x' });
  await world.here.ok(['client', 'store', '--file', '-', '--id', '/piped'], { stdin: 'x' });
  assert.equal(await content('/piped'), 'x');
});
