/** What hands that know ls, ln, mv, chmod and kubectl expect of the command, on a real member. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CliWorld, freePortBase, type UpProcess } from './cli-world.ts';

let world: CliWorld;
let up: UpProcess;
let base: number;

before(async () => {
  world = await CliWorld.create();
  base = await freePortBase();
  up = await world.up(['--member', 'alice', '--port-base', String(base)]);
});

after(async () => {
  await up.stop();
  await world[Symbol.asyncDispose]();
});

async function lines(args: readonly string[]): Promise<string[]> {
  return (await world.here.ok(args)).trimEnd().split('\n');
}

async function store(path: string, content: string): Promise<void> {
  await world.here.ok(['write', path], { stdin: content });
}

test('ls sorts by name, time, size or not at all, and lists files before directories', async () => {
  await world.here.ok(['mkdir', '/sorted', '/sorted/dir']);
  await store('/sorted/b', '333');
  await store('/sorted/a', '1');
  await store('/sorted/c', '22');
  assert.deepEqual(await lines(['ls', '/sorted']), ['a', 'b', 'c', 'dir']);
  assert.deepEqual(await lines(['ls', '-U', '/sorted']), ['dir', 'b', 'a', 'c']);
  assert.deepEqual(await lines(['ls', '-t', '/sorted']), ['c', 'a', 'b', 'dir']);
  assert.deepEqual((await lines(['ls', '-S', '/sorted'])).slice(0, 3), ['b', 'c', 'a']);
  assert.deepEqual(await lines(['ls', '-r', '/sorted']), ['dir', 'c', 'b', 'a']);
  const named = await world.here.ok(['ls', '-l', '/sorted/dir', '/sorted/b', '/sorted/a']);
  assert.match(named, /^-rw\S+ .* \/sorted\/a\n-rw\S+ .* \/sorted\/b\n\n\/sorted\/dir:\n$/);
});

test('ls shows a link that leads nowhere, follows one in a short listing only, and misses nothing beside what fails', async () => {
  await world.here.ok(['mkdir', '/linked', '/linked/dir']);
  await store('/linked/dir/f', 'f');
  await world.here.ok(['ln', '-s', 'nowhere', '/linked/dangling']);
  await world.here.ok(['ln', '-s', 'dir', '/linked/link']);
  assert.deepEqual(await lines(['ls', '/linked/dangling']), ['/linked/dangling']);
  assert.deepEqual(await lines(['ls', '/linked/link']), ['f']);
  assert.match(await world.here.ok(['ls', '-l', '/linked/link']), /^l.* \/linked\/link -> dir\n$/);
  assert.match(await world.here.ok(['ls', '-l', '/linked/link/']), /^-.* f\n$/);
  const some = await world.here.fails(3, /'\/linked\/none': not found/, ['ls', '/linked/none', '/linked/dir']);
  assert.equal(some.out, '/linked/dir:\nf\n');
});

test('one thing that fails leaves standard output empty in every format; among several the others are shown', async () => {
  for (const command of ['ls', 'find', 'du', 'df', 'usage', 'verify', 'stat']) {
    for (const format of ['json', 'yaml', 'name']) {
      const { out } = await world.here.fails(3, /not_found/, [command, '/none', '-o', format]);
      assert.equal(out, '', `${command} -o ${format}`);
    }
    const { out } = await world.here.fails(3, /not_found/, [command, '/none', '/', '-o', 'json', '-q']);
    const shown = JSON.parse(out) as unknown[];
    assert.ok(shown.length > 0, command);
  }
});

test('errors name the part of a path that is wrong, and no inode', async () => {
  await world.here.ok(['mkdir', '-p', '/parts/d']);
  await store('/parts/f', 'f');
  const cases: { args: string[]; exit: number; says: string }[] = [
    { args: ['ls', '/parts/x/y'], exit: 3, says: "Look up '/parts/x/y': '/parts/x' not found [not_found]" },
    {
      args: ['ls', '/parts/f/y'],
      exit: 1,
      says: "Look up '/parts/f/y': '/parts/f' is not a directory [not_directory]",
    },
    { args: ['mkdir', '/parts/d'], exit: 1, says: "Make directory '/parts/d': exists already [exists]" },
    { args: ['mkdir', '/'], exit: 1, says: "Make directory '/': exists already [exists]" },
    { args: ['write', '/'], exit: 1, says: "Write '/': is a directory [is_directory]" },
    {
      args: ['mv', '/parts/x', '/parts/y'],
      exit: 3,
      says: "Rename '/parts/x' to '/parts/y': '/parts/x' not found [not_found]",
    },
    { args: ['mv', '/parts/f', '/no/y'], exit: 3, says: "Rename '/parts/f' to '/no/y': '/no' not found [not_found]" },
    {
      args: ['mv', '-n', '-T', '/parts/f', '/parts/d'],
      exit: 1,
      says: "Rename '/parts/f' to '/parts/d': exists already [exists]",
    },
    { args: ['cat', '/parts/x'], exit: 3, says: "Read '/parts/x': not found [not_found]" },
    { args: ['tree', '/parts/f'], exit: 1, says: 'Draw /parts/f: it is not a directory [not_directory]' },
  ];
  for (const { args, exit, says } of cases) {
    const ran = await world.here.run(args);
    assert.equal(ran.exit, exit, args.join(' '));
    assert.equal(ran.err.split('\n')[0], `Error: ${says}`);
    assert.doesNotMatch(ran.err, /because|inode|directory \d/, args.join(' '));
    assert.equal(ran.out, '');
  }
});

test('ln makes links in directories, replaces in one step, and leaves nothing beside them', async () => {
  await world.here.ok(['mkdir', '/ln', '/ln/dir']);
  await store('/ln/a', 'a');
  await store('/ln/b', 'b');
  await world.here.ok(['ln', '/ln/a', '/ln/dir/']);
  await world.here.ok(['ln', '-s', '../b', '/ln/dir']);
  assert.deepEqual(await lines(['ls', '/ln/dir']), ['a', 'b']);
  // Two names of one file: a rename between them does nothing.
  await world.here.ok(['ln', '-f', '/ln/a', '/ln/dir/a']);
  await world.here.ok(['ln', '-f', '/ln/b', '/ln/dir/a']);
  assert.equal(await world.here.ok(['cat', '/ln/dir/a']), 'b');
  await world.here.ok(['ln', '-s', 'dir', '/ln/current']);
  await world.here.ok(['ln', '-sf', 'a', '/ln/current']);
  assert.match(await world.here.ok(['ls', '-l', '/ln/current']), /current -> a/);
  await world.here.fails(1, /-s makes a symbolic link/, ['ln', '/ln/dir', '/ln/other']);
  await world.here.fails(1, /\[is_directory\]/, ['ln', '-f', '-T', '/ln/a', '/ln/dir']);
  await world.here.fails(3, /\[not_found\]/, ['ln', '/ln/a', '/ln/none/']);
  assert.deepEqual(await lines(['ls', '/ln', '/ln/dir']), [
    '/ln:',
    'a',
    'b',
    'current',
    'dir',
    '',
    '/ln/dir:',
    'a',
    'b',
  ]);
});

test('mv takes a slash behind a new name at its word, rm keeps the root by every spelling, chmod takes bits away', async () => {
  await world.here.ok(['mkdir', '/mv']);
  await store('/mv/f', 'f');
  await world.here.fails(3, /there is no such directory/, ['mv', '/mv/f', '/mv/none/']);
  await world.here.ok(['mkdir', '/mv/d']);
  await world.here.ok(['mv', '/mv/d', '/mv/e/']);
  await world.here.ok(['mv', '/mv/f', '/mv/e/']);
  assert.equal(await world.here.ok(['cat', '/mv/e/f']), 'f');
  for (const root of ['/', '/.', '//', '/./']) {
    await world.here.fails(4, /the root stays \[not_permitted\]/, ['rm', '-rf', root]);
  }
  await world.here.ok(['chmod', '755', '/mv/e/f']);
  await world.here.ok(['chmod', '-x', '/mv/e/f']);
  assert.equal(JSON.parse(await world.here.ok(['stat', '-o', 'json', '/mv/e/f'])).mode, '0644');
});

test('a write that cannot be makes no file', async () => {
  await world.here.fails(1, /at most 16.0 TiB \[too_large\]/, ['write', '--offset', '16TiB', '/never'], { stdin: 'x' });
  await world.here.fails(3, /not_found/, ['stat', '/never']);
});

test('df shows the realm that a path lies in, with what is used', async () => {
  await world.here.ok(['realm', 'create', '/room', '--quota', '10MB']);
  await world.here.ok(['mkdir', '/room/below']);
  await world.here.ok(['write', '/room/below/f'], { stdin: randomBytes(1_000_000) });
  const [row] = JSON.parse(await world.here.ok(['df', '-o', 'json', '/room/below'])) as Record<string, unknown>[];
  assert.deepEqual(
    [row?.path, row?.realm, row?.totalBytes, row?.usedBytes],
    ['/room/below', '/room', 10_000_000, 1_000_000],
  );
  assert.match(await world.here.ok(['df', '/room/below']), / \/room\n$/);
});

test('verify follows a link that was named, counts what it read, and says so', async () => {
  await world.here.ok(['mkdir', '/ver', '/ver/dir']);
  await store('/ver/dir/f', 'f');
  await store('/ver/dir/empty', '');
  await world.here.ok(['ln', '-s', 'dir', '/ver/to-dir']);
  await world.here.ok(['ln', '-s', 'dir/f', '/ver/to-file']);
  for (const [path, count] of [
    ['/ver', '2 files'],
    ['/ver/to-dir', '2 files'],
    ['/ver/to-file', '1 file'],
  ] as const) {
    const ran = await world.here.run(['verify', path, '--only-bad']);
    assert.equal(ran.exit, 0);
    assert.match(ran.err, new RegExp(`^${count}, 2 B read: all replicas are well\\.\\n$`));
  }
  assert.equal((await world.here.run(['verify', '-q', '/ver'])).err, '');
});

test('contexts: a typo in an address is refused, what is missing is named by its flag, --current changes the current one', async () => {
  const config = { env: { COLLECTIVE_CONFIG: join(world.home, 'habits', 'config.yaml') } };
  const set = ['config', 'set-context'];
  await world.here.fails(2, /--coordinator HOST:PORT and --member NAME are missing/, [...set, 'a'], config);
  await world.here.fails(2, /--member NAME is missing/, [...set, 'a', '--coordinator', 'h:1'], config);
  await world.here.fails(
    2,
    /'garbage' as a coordinator/,
    [...set, 'a', '--coordinator', 'garbage', '--member', 'm'],
    config,
  );
  await world.here.fails(
    2,
    /name it, or change the current one by --current/,
    [...set, '--listener', 'internal'],
    config,
  );
  const made = await world.here.run([...set, 'a', '--coordinator', ':7420', '--member-id', 'm'], config);
  assert.match(made.err, /Context 'a' is made/);
  assert.match(made.out, /Current: +yes\n.*\nMember: +m\.home\nCoordinator: localhost:7420/);
  await world.here.ok([...set, 'b', '--coordinator', 'h:1', '--member', 'm'], config);
  await world.here.ok([...set, '--current', '--listener', 'internal'], config);
  assert.match(await world.here.ok(['config', 'get-contexts', 'a', '-o', 'yaml'], config), /listener: internal/);
  assert.equal(await world.here.ok(['config', 'get-contexts', 'b', '-o', 'name'], config), 'b\n');
  await world.here.fails(3, /no such context/, ['config', 'get-contexts', 'c'], config);
  await world.here.fails(3, /'collective init' makes one/, ['auth', 'info', '--context', 'b'], config);
});

test('a token lives for a second at least and 30 days at most', async () => {
  for (const ttl of ['0s', '500ms', '31d']) {
    await world.here.fails(2, /as --ttl: it lies between 1s and 30d/, [
      'token',
      'create',
      '--for',
      'user/x',
      '--ttl',
      ttl,
    ]);
  }
});
