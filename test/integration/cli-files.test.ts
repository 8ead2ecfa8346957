import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, readdir, readFile, readlink, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse as parseYaml } from 'yaml';
import { CliWorld, freePortBase, type UpProcess } from './cli-world.ts';

let world: CliWorld;
let up: UpProcess;

before(async () => {
  world = await CliWorld.create();
  up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase())]);
});

after(async () => {
  await up.stop();
  await world[Symbol.asyncDispose]();
});

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A folder of its own in the member and on this machine, so that tests do not see each other. */
async function place(name: string): Promise<{ remote: string; local: string }> {
  await world.ok(['mkdir', `/${name}`]);
  const local = join(world.work, name);
  await mkdir(local);
  return { remote: `/${name}`, local };
}

test('cp stores a tree of files and links and brings it back with bytes, modes and times', async () => {
  const { remote, local } = await place('tree');
  const source = join(local, 'src');
  await mkdir(join(source, 'deep', 'deeper'), { recursive: true });
  const files: Record<string, Buffer> = {
    empty: Buffer.alloc(0),
    'small.txt': Buffer.from('hello\n'),
    'deep/middle.bin': randomBytes(300_000),
    'deep/deeper/large.bin': randomBytes(9_000_001),
    'deep/naïve 文件 name': randomBytes(10),
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(source, name), content);
  await chmod(join(source, 'small.txt'), 0o751);
  await utimes(join(source, 'small.txt'), 1_600_000_000, 1_500_000_000.25);
  await symlink('../small.txt', join(source, 'deep', 'link'));
  await utimes(join(source, 'deep'), 1_600_000_000, 1_400_000_000);

  await world.ok(['cp', '-r', source, `collective:${remote}/`]);
  await world.ok(['cp', '-r', `collective:${remote}/src`, join(local, 'back')]);
  for (const [name, content] of Object.entries(files)) {
    assert.equal(sha256(await readFile(join(local, 'back', name))), sha256(content), name);
  }
  const back = await stat(join(local, 'back', 'small.txt'));
  assert.equal(back.mode & 0o7777, 0o751);
  assert.equal(back.mtimeMs, 1_500_000_000_250);
  assert.equal((await stat(join(local, 'back', 'deep'))).mtimeMs, 1_400_000_000_000);
  assert.equal(await readlink(join(local, 'back', 'deep', 'link')), '../small.txt');

  await world.ok(['cp', '-r', `collective:${remote}/src`, `collective:${remote}/copy`]);
  assert.equal(
    sha256(Buffer.from((await world.run(['cat', `${remote}/copy/deep/deeper/large.bin`])).out, 'latin1')),
    sha256(files['deep/deeper/large.bin'] as Buffer),
  );
  await world.ok(['cp', '--no-preserve', join(source, 'small.txt'), `collective:${remote}/plain.txt`]);
  assert.equal(JSON.parse(await world.ok(['stat', '-o', 'json', `${remote}/plain.txt`])).mode, '0644');
});

test('cp takes many files at once, standard input and output, and says which of them failed', async () => {
  const { remote, local } = await place('many');
  const names = Array.from({ length: 40 }, (_, i) => join(local, `f${i}`));
  for (const name of names) await writeFile(name, randomBytes(5_000));
  await world.ok(['cp', ...names, `collective:${remote}/`]);
  assert.equal((await world.ok(['ls', remote])).trim().split('\n').length, 40);
  assert.equal(
    sha256(await readFile(names[7] as string)),
    sha256(Buffer.from((await world.run(['cat', `${remote}/f7`])).out, 'latin1')),
  );

  const piped = randomBytes(100_000);
  await world.ok(['cp', '-', `collective:${remote}/piped`], { stdin: piped });
  assert.deepEqual(Buffer.from((await world.run(['cp', `collective:${remote}/piped`, '-'])).out, 'latin1'), piped);

  const some = await world.fails(3, /missing-file on this machine/, [
    'cp',
    join(local, 'missing-file'),
    names[0] as string,
    `collective:${remote}/`,
  ]);
  assert.equal(some.out, '');
  await world.fails(1, /-r copies it/, ['cp', local, `collective:${remote}/x`]);
  await world.fails(1, /exists/, ['cp', '-n', names[0] as string, `collective:${remote}/f0`]);
  await world.fails(1, /is no directory/, ['cp', names[0] as string, names[1] as string, `collective:${remote}/f0`]);
  await world.fails(3, /there is no such directory/, ['cp', names[0] as string, `collective:${remote}/nowhere/`]);
  await world.fails(2, /the target lies in the source/, [
    'cp',
    '-r',
    `collective:${remote}`,
    `collective:${remote}/below`,
  ]);
});

test('cp --continue skips what is there and completes the rest', async () => {
  const { remote, local } = await place('continue');
  await mkdir(join(local, 's'));
  for (const name of ['a', 'b', 'c']) await writeFile(join(local, 's', name), randomBytes(20_000));
  await world.ok(['cp', '-r', join(local, 's'), `collective:${remote}/`]);
  const first = JSON.parse(await world.ok(['stat', '-o', 'json', `${remote}/s/a`])) as { inode: number };
  await world.ok(['rm', `${remote}/s/b`]);
  await writeFile(join(local, 's', 'c'), 'changed');
  await world.ok(['cp', '-r', '-T', '--continue', join(local, 's'), `collective:${remote}/s`]);
  assert.equal(
    (JSON.parse(await world.ok(['stat', '-o', 'json', `${remote}/s/a`])) as { inode: number }).inode,
    first.inode,
  );
  assert.equal(await world.ok(['cat', `${remote}/s/c`]), 'changed');
  assert.equal((await world.ok(['ls', `${remote}/s`])).trim().split('\n').sort().join(), 'a,b,c');
});

test('mkdir, ls, stat, mv, rm, ln, chmod do what their names say, and their errors have the exit codes of the catalogue', async () => {
  const { remote } = await place('names');
  await world.ok(['mkdir', '-p', `${remote}/a/b/c`, `${remote}/a/b`]);
  await world.fails(1, /\[exists\]/, ['mkdir', `${remote}/a`]);
  await world.fails(3, /\[not_found\]/, ['mkdir', `${remote}/x/y`]);
  await world.ok(['write', `${remote}/a/f`], { stdin: 'one' });
  await world.ok(['ln', `${remote}/a/f`, `${remote}/a/hard`]);
  await world.ok(['ln', '-s', 'f', `${remote}/a/soft`]);
  await world.ok(['ln', '-sf', 'hard', `${remote}/a/soft`]);
  assert.match(await world.ok(['ls', '-l', `${remote}/a`]), /lrwxrwxrwx .* soft -> hard/);
  assert.deepEqual((await world.ok(['ls', `${remote}/a`])).trim().split('\n').sort(), ['b', 'f', 'hard', 'soft']);
  assert.match(await world.ok(['ls', '-R', remote]), new RegExp(`^${remote}/a/b:$`, 'm'));
  assert.equal(JSON.parse(await world.ok(['stat', '-o', 'json', `${remote}/a/f`])).links, 2);

  await world.ok(['chmod', '600', `${remote}/a/f`]);
  await world.ok(['chmod', 'g+r', `${remote}/a/f`]);
  assert.equal(JSON.parse(await world.ok(['stat', '--json', `${remote}/a/f`])).mode, '0640');
  await world.ok(['chmod', '-R', 'o=', `${remote}/a`]);
  assert.equal(JSON.parse(await world.ok(['stat', '--json', `${remote}/a/b/c`])).mode, '0750');

  await world.ok(['mv', `${remote}/a/f`, `${remote}/g`]);
  await world.ok(['mv', `${remote}/g`, `${remote}/a/b`]);
  assert.equal(await world.ok(['cat', `${remote}/a/b/g`]), 'one');
  await world.ok(['write', `${remote}/other`], { stdin: 'two' });
  await world.fails(1, /\[exists\]/, ['mv', '-n', `${remote}/other`, `${remote}/a/hard`]);
  await world.ok(['mv', '--exchange', `${remote}/other`, `${remote}/a/hard`]);
  assert.equal(await world.ok(['cat', `${remote}/other`]), 'one');

  await world.fails(1, /\[is_directory\]/, ['rm', `${remote}/a`]);
  await world.fails(1, /\[not_empty\]/, ['rm', '-d', `${remote}/a`]);
  await world.fails(3, /\[not_found\]/, ['rm', `${remote}/none`]);
  await world.ok(['rm', '-f', `${remote}/none`]);
  await world.ok(['rm', '-r', `${remote}/a`]);
  await world.fails(4, /\[not_permitted\]/, ['rm', '-r', '/']);
  await world.fails(3, /\[not_found\]/, ['ls', `${remote}/a`]);
});

test('read and write reach any part of a file, append adds, and nothing is half written', async () => {
  const { remote } = await place('parts');
  const content = randomBytes(5_000_000);
  await world.ok(['write', `${remote}/f`], { stdin: content });
  const part = await world.run(['read', `${remote}/f`, '--offset', '4MiB', '--length', '1000']);
  assert.deepEqual(Buffer.from(part.out, 'latin1'), content.subarray(4 * 1024 * 1024, 4 * 1024 * 1024 + 1000));
  await world.ok(['write', '--offset', '10', `${remote}/f`], { stdin: 'XYZ' });
  await world.ok(['write', '--append', `${remote}/f`], { stdin: 'end' });
  const wanted = Buffer.concat([content, Buffer.from('end')]);
  wanted.write('XYZ', 10);
  assert.equal(sha256(Buffer.from((await world.run(['cat', `${remote}/f`])).out, 'latin1')), sha256(wanted));
  assert.equal((await world.run(['read', `${remote}/f`, '--offset', '1GiB'])).out, '');
  await world.fails(1, /\[exists\]/, ['write', '-n', `${remote}/f`], { stdin: 'no' });
  await world.fails(3, /\[not_found\]/, ['cat', `${remote}/none`]);
  await world.fails(1, /\[is_directory\]/, ['cat', remote]);
});

test('find, tree, du, df, usage count and show what is there', async () => {
  const { remote } = await place('look');
  await world.ok(['mkdir', `${remote}/d`]);
  await world.ok(['write', `${remote}/d/big.raw`], { stdin: randomBytes(2_000_000) });
  await world.ok(['write', `${remote}/small.txt`], { stdin: 'x' });
  assert.equal(await world.ok(['find', remote, '-name', '*.raw']), `${remote}/d/big.raw\n`);
  assert.equal(await world.ok(['find', remote, '--type', 'd']), `${remote}\n${remote}/d\n`);
  assert.equal(await world.ok(['find', remote, '--size', '+1MB', '--print0']), `${remote}/d/big.raw\0`);
  assert.equal(
    await world.ok(['tree', remote]),
    `${remote}\n├── d\n│   └── big.raw\n└── small.txt\n\n1 directory, 2 files\n`,
  );
  const [usage] = JSON.parse(await world.ok(['usage', '-o', 'json', remote])) as { files: number; bytes: number }[];
  assert.deepEqual([usage?.files, usage?.bytes], [2, 2_000_001]);
  assert.match(await world.ok(['du', '-s', '--apparent-size', remote]), new RegExp(`^2000001 +${remote}$`, 'm'));
  const [room] = JSON.parse(await world.ok(['df', '-o', 'json'])) as {
    path: string;
    totalBytes: number;
    freeBytes: number;
  }[];
  assert.equal(room?.path, '/');
  assert.ok((room?.freeBytes ?? 0) > 0 && (room?.totalBytes ?? 0) >= (room?.freeBytes ?? 0));
});

test('verify re-reads all replicas and says that they are well', async () => {
  const { remote } = await place('verified');
  await world.ok(['write', `${remote}/f`], { stdin: randomBytes(6_000_000) });
  const [report] = JSON.parse(await world.ok(['verify', '-o', 'json', remote])) as {
    state: string;
    chunks: number;
    replicas: number;
  }[];
  assert.deepEqual([report?.state, report?.chunks, report?.replicas], ['OK', 2, 4]);
});

test('client store and client retrieve are short forms of cp', async () => {
  const { remote, local } = await place('short');
  const content = randomBytes(70_000);
  await writeFile(join(local, 'f.bin'), content);
  await world.ok(['client', 'store', '--file', join(local, 'f.bin'), '--id', `${remote}/f.bin`]);
  await world.ok(['client', 'retrieve', '--id', `${remote}/f.bin`, '--output', join(local, 'g.bin')]);
  assert.deepEqual(await readFile(join(local, 'g.bin')), content);
  assert.deepEqual((await readdir(local)).sort(), ['f.bin', 'g.bin']);
});

test('status, nodes list and realms print in every format', async () => {
  const status = await world.ok(['status']);
  assert.match(status, /Health: +OK/);
  assert.match(status, /node-1 +ready/);
  const json = JSON.parse(await world.ok(['status', '-o', 'json'])) as {
    trustDomain: string;
    nodes: { state: string }[];
  };
  assert.equal(json.trustDomain, 'alice.home');
  assert.deepEqual(
    json.nodes.map(({ state }) => state),
    ['ready', 'ready'],
  );
  assert.equal(await world.ok(['nodes', 'list', '-o', 'name']), 'node-1\nnode-2\n');
  assert.match(await world.ok(['nodes', 'list', '-o', 'wide']), /^NAME .*ADDRESSES.*\nnode-1 /);
  assert.equal((parseYaml(await world.ok(['nodes', 'list', '-o', 'yaml'])) as unknown[]).length, 2);

  await world.ok(['realm', 'create', '/scratch', '--quota', '1MB', '--replicas', '1']);
  assert.match(await world.ok(['realm', 'list']), /^\/scratch +ready +0 B +977 KiB .* 1 \(at least 1\)/m);
  await world.fails(6, /\[quota_exceeded\]/, ['write', '/scratch/too-much'], { stdin: randomBytes(2_000_000) });
  await world.ok(['write', '/outside'], { stdin: 'x' });
  await world.fails(1, /\[cross_realm\]/, ['mv', '/outside', '/scratch/inside']);
  await world.ok(['mv', '--copy', '/outside', '/scratch/inside']);
  assert.equal(await world.ok(['cat', '/scratch/inside']), 'x');
  await world.fails(3, /\[not_found\]/, ['stat', '/outside']);
});

const badInput: { name: string; args: string[]; exit: number; says: RegExp }[] = [
  { name: 'a name of 256 bytes', args: ['mkdir', `/${'n'.repeat(256)}`], exit: 2, says: /\[name_too_long\]/ },
  {
    name: 'a name of 128 two-byte letters',
    args: ['mkdir', `/${'ä'.repeat(128)}`],
    exit: 2,
    says: /\[name_too_long\]/,
  },
  { name: "'..' in a path", args: ['ls', '/a/../b'], exit: 2, says: /\[invalid_name\]/ },
  { name: 'a path of 5000 bytes', args: ['ls', '/a'.repeat(2_500)], exit: 2, says: /\[name_too_long\]/ },
  { name: 'a negative offset', args: ['read', '/x', '--offset', '-5'], exit: 2, says: /negative/ },
  { name: 'a size without sense', args: ['realm', 'create', '/r', '--quota', '5XB'], exit: 2, says: /no unit 'XB'/ },
  { name: 'an unknown flag', args: ['ls', '--colour'], exit: 2, says: /unknown option '--colour'/ },
  { name: 'an unknown context', args: ['ls', '--context', 'nobody'], exit: 3, says: /no such context/ },
  { name: 'a mode without sense', args: ['chmod', '999', '/'], exit: 2, says: /'999'/ },
  { name: 'an empty path', args: ['ls', 'collective:'], exit: 2, says: /it is empty/ },
];

for (const { name, args, exit, says } of badInput) {
  test(`bad input is refused with a reason: ${name}`, async () => {
    const ran = await world.fails(exit, says, args);
    assert.equal(ran.out, '');
  });
}

test('bad input is refused with a reason: a name that is not UTF-8', async () => {
  const ran = await shell(`"$NODE" "$MAIN" mkdir "$(printf '/a\\377b')"; echo "exit $?"`);
  assert.match(ran.err, /\[invalid_name\]/);
  assert.equal(ran.out, 'exit 2\n');
});

test('a reader that stops early ends cat without an error of its own', async () => {
  const { remote } = await place('pipe');
  await world.ok(['write', `${remote}/f`], { stdin: randomBytes(8_000_000) });
  const { out, err } = await shell(`"$NODE" "$MAIN" cat ${remote}/f | head -c 100 | wc -c`);
  assert.equal(out.trim(), '100');
  assert.equal(err, '');
});

async function shell(script: string): Promise<{ out: string; err: string }> {
  const MAIN = new URL(import.meta.resolve('@collective/cli/main')).pathname;
  const env = { ...world.env, NODE: process.execPath, MAIN };
  const child = spawn('sh', ['-c', script], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (piece: Buffer) => {
    out += piece.toString();
  });
  child.stderr.on('data', (piece: Buffer) => {
    err += piece.toString();
  });
  await once(child, 'close');
  return { out, err };
}

test('completion offers remote names, contexts and flags, and nothing when the coordinator is away', async () => {
  const { remote } = await place('completed');
  await world.ok(['mkdir', `${remote}/album`]);
  await world.ok(['write', `${remote}/alone`], { stdin: '' });
  const offered = await world.ok(['__complete', '--', 'ls', `${remote}/al`]);
  assert.deepEqual(offered.trim().split('\n').sort(), [`${remote}/album/`, `${remote}/alone`]);
  assert.equal(
    await world.ok(['__complete', '--', 'cp', `collective:${remote}/alb`]),
    `collective:${remote}/album/\n:nospace\n`,
  );
  assert.match(await world.ok(['__complete', '--', '--context', '']), /^alice\t/m);
  assert.match(await world.ok(['__complete', '--', 'config', 'use-context', '']), /^alice\t/m);
  const away = await world.run(['__complete', '--', 'ls', '--coordinator', '127.0.0.1:9', '/'], {
    env: { COLLECTIVE_COMPLETION_WITHIN: '' },
  });
  assert.deepEqual([away.exit, away.out, away.err], [0, '', '']);
});
