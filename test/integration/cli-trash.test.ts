import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { CliWorld, freePortBase, type UpProcess, until } from './cli-world.ts';
import { seededFile } from './random-file.ts';

let world: CliWorld;
let up: UpProcess;
let base: number;

interface Entry {
  readonly id: number;
  readonly path: string;
  readonly size: number;
  readonly type: string;
  readonly keptUntil?: string;
}

before(async () => {
  world = await CliWorld.create();
  base = await freePortBase();
  up = await world.up(['--member', 'alice', '--port-base', String(base)]);
});

after(async () => {
  await up.stop();
  await world[Symbol.asyncDispose]();
});

const listed = async (...args: string[]): Promise<Entry[]> =>
  JSON.parse(await world.ok(['trash', 'list', '-o', 'json', ...args])) as Entry[];

/** Names, types, modes, link targets, times of files and bytes below a local folder. */
async function summary(folder: string): Promise<string> {
  const { stdout } = await promisify(execFile)(
    'sh',
    [
      '-c',
      `find . -printf '%p %y %m %l\\n' | sort; find . -type f -printf '%p %T@\\n' | sort; find . -type f -exec sha256sum {} + | sort`,
    ],
    { cwd: folder },
  );
  return stdout;
}

test('M8: a tree that was removed comes back byte for byte, with modes, times and links', async () => {
  const tree = join(world.work, 'tree');
  await mkdir(join(tree, 'deep', 'deeper'), { recursive: true });
  await mkdir(join(tree, 'empty'));
  await writeFile(join(tree, 'small'), 'some words');
  await writeFile(join(tree, 'deep', 'large'), seededFile(1, 9 * 1024 * 1024));
  await writeFile(join(tree, 'deep', 'deeper', 'grün'), seededFile(2, 70_000));
  await symlink('../small', join(tree, 'deep', 'link'));
  await chmod(join(tree, 'small'), 0o640);
  await chmod(join(tree, 'empty'), 0o700);
  await utimes(join(tree, 'small'), 1_600_000_000, 1_600_000_000);
  await world.ok(['cp', '-r', '-p', tree, 'collective:/tree']);
  await world.ok(['cp', '-r', '-p', 'collective:/tree', join(world.work, 'first')]);
  await world.ok(['rm', '-r', '/tree']);
  await world.fails(3, /not_found/, ['ls', '/tree']);
  assert.equal((await listed('/tree')).length, 8);

  const restored = JSON.parse(await world.ok(['trash', 'restore', '-o', 'json', '/tree']))[0] as Record<string, number>;
  assert.deepEqual([restored.files, restored.directories, restored.skipped], [4, 4, 0]);
  await world.ok(['cp', '-r', '-p', 'collective:/tree', join(world.work, 'second')]);
  assert.equal(await summary(join(world.work, 'second')), await summary(join(world.work, 'first')));
  assert.deepEqual(await listed('/tree'), []);
});

test('M8: earlier contents of a file are found by time and by id, and a name that is taken is not replaced', async () => {
  await world.ok(['mkdir', '/notes']);
  for (const text of ['one', 'two', 'three']) await world.ok(['write', '/notes/plan'], { stdin: text });
  const versions = await listed('/notes');
  assert.deepEqual(
    versions.map(({ path, size }) => [path, size]),
    [
      ['/notes/plan', 3],
      ['/notes/plan', 3],
    ],
  );
  await world.fails(1, /the name is taken; restore it under another with --to PATH/, [
    'trash',
    'restore',
    '/notes/plan',
  ]);
  await world.ok(['trash', 'restore', String(versions[1]?.id), '--to', '/notes/plan.1']);
  await world.ok(['trash', 'restore', '/notes/plan', '--to', '/notes/plan.2']);
  assert.equal(await world.ok(['cat', '/notes/plan.1', '/notes/plan.2', '/notes/plan']), 'onetwothree');
  await world.ok(['rm', '/notes/plan']);
  assert.match(
    await world.ok(['trash', 'list', '-l', '/notes']),
    /file +5 B +0 +user\/\S+ +\d{4}-\S+ \S+ +\/notes\/plan\n/,
  );
  await world.fails(3, /nothing of that path/, ['trash', 'restore', '/notes/plan', '--at', '1d']);
  await world.ok(['trash', 'restore', '/notes/plan']);
  assert.equal(await world.ok(['cat', '/notes/plan']), 'three');
  await world.ok(['rm', '--permanent', '/notes/plan']);
  await world.fails(3, /nothing of that path/, ['trash', 'restore', '/notes/plan']);
  await world.fails(2, /--at/, ['trash', 'restore', '/x', '--at', 'yesterday']);
});

test('M8, M9: the trash counts in a quota until it is emptied, or yields where the realm says so', async () => {
  const MiB = 1024 * 1024;
  const file = join(world.work, 'six');
  await writeFile(file, seededFile(3, 6 * MiB));
  await world.ok(['realm', 'create', '/strict', '--quota', '10MiB']);
  await world.ok(['cp', file, 'collective:/strict/a']);
  await world.ok(['rm', '/strict/a']);
  const full = await world.fails(6, /quota_exceeded/, ['cp', '-v', file, 'collective:/strict/b']);
  assert.match(full.err, /6291456 bytes are in the trash: `collective trash empty`/);
  const realms = JSON.parse(await world.ok(['realm', 'list', '-o', 'json'])) as Record<string, unknown>[];
  const strict = realms.find(({ path }) => path === '/strict');
  assert.deepEqual([strict?.usedBytes, strict?.trashBytes, strict?.trashInodes], [6 * MiB, 6 * MiB, 1]);
  const room = JSON.parse(await world.ok(['df', '-o', 'json', '/strict'])) as Record<string, unknown>[];
  assert.equal(room[0]?.trashBytes, 6 * MiB);
  assert.match(await world.ok(['status']), /in the trash \d+ with \d/);
  assert.match(await world.ok(['trash', 'empty', '/strict']), /Destroyed 1 file and 0 directories with 6.0 MiB/);
  await world.ok(['cp', file, 'collective:/strict/b']);

  await world.ok(['realm', 'create', '/soft', '--quota', '10MiB', '--trash-yields']);
  await world.ok(['cp', file, 'collective:/soft/a']);
  await world.ok(['rm', '/soft/a']);
  assert.equal((await listed('/soft')).length, 1);
  await world.ok(['cp', file, 'collective:/soft/b']);
  assert.deepEqual(await listed('/soft'), []);
});

test('M8: what is older than its realm keeps it is destroyed, and a realm without a trash keeps nothing', async () => {
  await world.ok(['realm', 'create', '/short', '--trash', '1s']);
  await world.ok(['write', '/short/f'], { stdin: 'gone soon' });
  await world.ok(['rm', '/short/f']);
  await until(async () => (await listed('/short')).length === 0, 'the removed file is destroyed', 30_000);
  await world.ok(['realm', 'create', '/none', '--trash', 'off']);
  await world.ok(['write', '/none/f'], { stdin: 'gone at once' });
  await world.ok(['rm', '/none/f']);
  assert.deepEqual(await listed('/none'), []);
  assert.match(await world.ok(['realm', 'list', '-o', 'wide']), /\/none .*destroyed at once/);
});

test('M8, T3a: a person sees and restores her own, and an administrator all', async () => {
  const token = (await world.ok(['token', 'create', '--for', 'user/anna'])).trim();
  await using anna = await CliWorld.create();
  const trust = join(world.dataOf('alice'), 'user', 'trust.pem');
  await anna.ok(['init', '--coordinator', `127.0.0.1:${base}`, '--ca-cert', trust, '--token', token]);
  await world.ok(['mkdir', '-m', '777', '/shared']);
  await anna.ok(['write', '/shared/hers'], { stdin: 'hers' });
  await world.ok(['write', '/shared/ours'], { stdin: 'ours' });
  await world.ok(['rm', '/shared/hers', '/shared/ours']);
  const hers = JSON.parse(await anna.ok(['trash', 'list', '-o', 'json'])) as Entry[];
  assert.deepEqual(
    hers.map(({ path }) => path),
    ['/shared/hers'],
  );
  assert.deepEqual(
    (await listed('/shared')).map(({ path }) => path),
    ['/shared/ours', '/shared/hers'],
  );
  await anna.fails(3, /nothing of that path/, ['trash', 'restore', '/shared/ours']);
  const part = await anna.run(['trash', 'restore', '/shared']);
  assert.equal(part.exit, 0);
  assert.match(part.err, /1 left in the trash.*\/shared\/ours/);
  assert.equal(await anna.ok(['cat', '/shared/hers']), 'hers');
  await world.ok(['rm', '/shared/hers']);
  assert.match(await anna.ok(['trash', 'empty']), /Destroyed 1 file /);
  await world.ok(['trash', 'restore', '/shared/ours']);
  assert.equal(await world.ok(['cat', '/shared/ours']), 'ours');
});
