import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CliWorld, freePortBase } from './cli-world.ts';

const slow = { timeout: 240_000 };

test('M2a, D9: a member whose coordinator lost its disk goes on from a backup; its nodes follow', slow, async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const data = await world.folder();
  const args = ['--member', 'alice', '--data', data, '--port-base', String(base), '--capacity', '2GiB'];
  const first = await world.up(args);
  const [kept, removed, late] = [randomBytes(9_000_000), randomBytes(300_000), randomBytes(200_000)];
  await world.ok(['mkdir', '-p', '/photos/2026']);
  await world.ok(['write', '/photos/2026/kept.raw'], { stdin: kept });
  await world.ok(['write', '/photos/removed.raw'], { stdin: removed });
  await world.ok(['realm', 'create', '/small', '--quota', '1MB']);

  const authority = join(data, 'coordinator', 'ca');
  const made = JSON.parse(await world.ok(['backup', 'create', 'alice.backup', '--authority', authority, '--json']));
  assert.deepEqual([made.member, made.authority], ['alice.home', true]);
  const file = join(world.work, 'alice.backup');
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const again = await world.run(['backup', 'create', 'alice.backup']);
  assert.match(again.err, /--force replaces it/);

  // Hours of changes that the backup does not know.
  await world.ok(['write', '/photos/late.raw'], { stdin: late });
  await world.ok(['rm', '/photos/removed.raw']);
  await world.ok(['mv', '/photos/2026/kept.raw', '/photos/2026/moved.raw']);
  await first.stop();
  await rename(join(data, 'coordinator'), join(data, 'broken'));

  const whole = await readFile(file);
  const piped = JSON.parse(await world.ok(['backup', 'restore', '-', '--data', 'piped', '--json'], { stdin: whole }));
  assert.deepEqual([piped.member, piped.authority, piped.bytes], ['alice.home', true, whole.length]);
  await world.fails(7, /backup_damaged/, ['backup', 'restore', '-', '--data', 'cut'], { stdin: whole.subarray(0, -9) });
  await assert.rejects(stat(join(world.work, 'cut')), { code: 'ENOENT' });

  const restored = await world.run(['backup', 'restore', 'alice.backup', '--data', join(data, 'coordinator')]);
  assert.equal(restored.exit, 0, restored.err);
  assert.match(restored.err, /garbage-waits=false/);
  const second = await world.up(['--data', data]);
  assert.match(second.said, /ready/);
  assert.deepEqual(Buffer.from((await world.run(['cat', '/photos/2026/kept.raw'])).out, 'latin1'), kept);
  assert.deepEqual(Buffer.from((await world.run(['cat', '/photos/removed.raw'])).out, 'latin1'), removed);
  assert.equal((await world.run(['stat', '/photos/late.raw'])).exit, 3);
  assert.match(await world.ok(['realm', 'list']), /\/small/);
  await world.ok(['write', '/photos/new.raw'], { stdin: late });
  assert.deepEqual(Buffer.from((await world.run(['cat', '/photos/new.raw'])).out, 'latin1'), late);
  const { nodes } = JSON.parse(await world.ok(['status', '--json']));
  assert.deepEqual(
    nodes.map(({ state }: { state: string }) => state),
    ['ready', 'ready'],
  );
  await second.stop();
});

test('a folder of backups keeps the newest, and a certificate is enough to make one', slow, async () => {
  await using world = await CliWorld.create();
  const up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase()), '--capacity', '1GiB']);
  const folder = join(world.work, 'kept');
  await mkdir(folder);
  const older = ['alice-20250101T000000Z.backup', 'alice-20250102T000000Z.backup', 'bob-20250101T000000Z.backup'];
  for (const name of older) await writeFile(join(folder, name), '');
  const [context] = JSON.parse(await world.ok(['config', 'get-contexts', '--json'])) as [
    { coordinator: string; credentials: string },
  ];
  const identity = ['--identity', context.credentials, '--coordinator', context.coordinator];
  const made = JSON.parse(await world.ok(['backup', 'create', 'kept/', '--keep', '2', ...identity, '--json']));
  assert.equal(made.member, 'alice.home');
  const names = (await readdir(folder)).sort();
  assert.equal(names.length, 3);
  assert.deepEqual([names[0], names[2]], ['alice-20250102T000000Z.backup', 'bob-20250101T000000Z.backup']);
  assert.match(names[1] ?? '', /^alice-20[0-9]{6}T[0-9]{6}Z\.backup$/);
  assert.equal((await stat(join(folder, names[1] ?? ''))).size, made.bytes);

  const listed = JSON.parse(await world.ok(['backup', 'list', 'kept/', '--member', 'alice', '--json'])) as {
    name: string;
  }[];
  assert.deepEqual(
    listed.map(({ name }) => name),
    [names[1], names[0]],
  );
  const whose = await world.run(['backup', 'restore', 'kept/', '--data', 'fresh']);
  assert.match(whose.err, /backups of alice, bob; --member says whose/);
  const restore = ['backup', 'restore', 'kept/', '--member', 'alice', '--data', 'fresh', '--report', 'report.json'];
  await world.ok(restore);
  assert.equal(JSON.parse(await readFile(join(world.work, 'report.json'), 'utf8')).file, names[1]);
  const again = await world.run(restore);
  assert.deepEqual([again.exit, /was restored from this backup before/.test(again.err)], [0, true]);
  const other = await world.run([...restore.slice(0, -4), '--data', 'other', '--collective', 'work']);
  assert.match(other.err, /it is of alice\.home/);

  const wrong = await world.run(['backup', 'create', 'a.backup', '--keep', '2']);
  assert.match(wrong.err, /--keep is for a folder/);
  const nowhere = await world.run(['backup', 'create', 'a.backup', '--identity', context.credentials]);
  assert.match(nowhere.err, /--coordinator says where its member is/);
  await up.stop();
});

test('a backup that was cut or changed is told by show and restored by nobody', slow, async () => {
  await using world = await CliWorld.create();
  const up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase()), '--capacity', '1GiB']);
  const summary = JSON.parse(await world.ok(['backup', 'create', 'a.backup', '--json']));
  assert.equal(summary.authority, false);
  const shown = JSON.parse(await world.ok(['backup', 'show', 'a.backup', '--json']));
  assert.deepEqual([shown.rows, shown.position], [summary.rows, summary.position]);
  await up.stop();
  const bytes = await readFile(join(world.work, 'a.backup'));
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await writeFile(join(world.work, 'bad.backup'), bytes);
  for (const verb of [
    ['show', 'bad.backup'],
    ['restore', 'bad.backup', '--data', 'fresh'],
  ]) {
    const { exit, err } = await world.run(['backup', ...verb]);
    assert.equal(exit, 7, err);
    assert.match(err, /checksum/);
  }
  const missing = await world.run(['backup', 'show', 'none.backup']);
  assert.equal(missing.exit, 3);
  assert.match(missing.err, /there is no such file/);
});

test('D9: a backup that got no name on the disk was not made, for events and doctor', slow, async () => {
  await using world = await CliWorld.create();
  const up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase()), '--capacity', '1GiB']);
  await mkdir(join(world.work, 'a.backup', 'in-the-way'), { recursive: true });
  const failed = await world.run(['backup', 'create', 'a.backup', '--force']);
  assert.notEqual(failed.exit, 0);
  const made = async (): Promise<unknown[]> =>
    JSON.parse(await world.ok(['events', '--kind', 'backup-made', '--json'])) as unknown[];
  assert.deepEqual(await made(), []);
  assert.match(await world.ok(['doctor']), /backup: none was made/);
  const { position } = JSON.parse(await world.ok(['backup', 'create', 'b.backup', '--json']));
  const [{ details }] = (await made()) as [{ details: Record<string, string> }];
  assert.equal(details.position, String(position));
  assert.match(await world.ok(['doctor']), /All is well/);
  await up.stop();
});

test('T3a: who is no administrator gets no backup', slow, async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const up = await world.up(['--member', 'alice', '--port-base', String(base), '--capacity', '1GiB']);
  const { token } = JSON.parse(await world.ok(['token', 'create', '--for', 'user/ben', '--ttl', '1h', '--json']));
  const coordinator = `127.0.0.1:${base}`;
  const bundle = join(world.dataOf('alice'), 'user', 'trust.pem');
  const enrol = [
    'init',
    'ben',
    '--coordinator',
    coordinator,
    '--member',
    'alice',
    '--ca-cert',
    bundle,
    '--token',
    token,
  ];
  await world.ok(enrol);
  const refused = await world.run(['backup', 'create', 'ben.backup', '--context', 'ben']);
  assert.equal(refused.exit, 4, refused.err);
  assert.match(refused.err, /administrator/);
  await assert.rejects(stat(join(world.work, 'ben.backup')), { code: 'ENOENT' });
  await up.stop();
});
