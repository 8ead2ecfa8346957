import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CliWorld, freePortBase, type UpProcess, until } from './cli-world.ts';

/** Against hanging, not a promise. */
const STARTED_WITHIN_MS = 60_000;

let world: CliWorld;
let up: UpProcess;
let base: number;
let trust: string;

before(async () => {
  world = await CliWorld.create();
  base = await freePortBase();
  up = await world.up(['--member', 'alice', '--port-base', String(base)]);
  trust = join(world.dataOf('alice'), 'user', 'trust.pem');
});

after(async () => {
  await up.stop();
  await world[Symbol.asyncDispose]();
});

test('T3: a person enrols with a one-time token, works as a user of her own, and the token is good once', async () => {
  const token = (await world.ok(['token', 'create', '--for', 'user/anna', '--ttl', '10m'])).trim();
  assert.match(token, /^user\/anna:col1-/);
  await using anna = await CliWorld.create();
  const init = ['init', 'alice', '--coordinator', `127.0.0.1:${base}`, '--member', 'alice', '--ca-cert', trust];
  const made = await anna.run([...init, '--token', '-'], { stdin: `${token}\n` });
  assert.equal(made.exit, 0, made.err);
  assert.match(made.err, /Reached the coordinator of alice\.home/);
  const credentials = join(anna.env.XDG_CONFIG_HOME as string, 'collective', 'credentials', 'alice');
  assert.equal((await stat(join(credentials, 'tls.key'))).mode & 0o077, 0);

  const who = JSON.parse(await anna.ok(['auth', 'whoami', '-o', 'json'])) as {
    subject: string;
    admin: boolean;
    uid: number;
  };
  assert.equal(who.subject, 'spiffe://alice.home/user/anna');
  assert.equal(who.admin, false);
  await anna.fails(4, /only an administrator/, ['token', 'create', '--for', 'user/eve']);
  await anna.fails(4, /\[permission_denied\]/, ['mkdir', '/not-hers']);
  await world.ok(['mkdir', '-m', '777', '/shared']);
  await anna.ok(['write', '/shared/hers'], { stdin: 'hers' });
  assert.equal((JSON.parse(await world.ok(['stat', '-o', 'json', '/shared/hers'])) as { uid: number }).uid, who.uid);

  await anna.fails(4, /used before/, [...init, '--force', '--token', token]);
  await anna.ok(['auth', 'renew']);
  await anna.ok(['ls', '/shared']);
});

test('a token for one realm, read only, lets its owner read there and nothing else (T3a)', async () => {
  await world.ok(['realm', 'create', '/photos']);
  await world.ok(['write', '/photos/a'], { stdin: 'picture' });
  const token = (await world.ok(['token', 'create', '--for', 'user/ben', '--realm', '/photos:ro'])).trim();
  await using ben = await CliWorld.create();
  await ben.ok(['init', '--coordinator', `127.0.0.1:${base}`, '--ca-cert', trust, '--token', token]);
  assert.equal(await ben.ok(['cat', '/photos/a']), 'picture');
  await ben.fails(4, /\[read_only\]|\[permission_denied\]/, ['write', '/photos/b'], { stdin: 'x' });
  const outside = await ben.run(['ls', '/shared']);
  assert.ok(outside.exit === 4 || outside.exit === 3, `${outside.exit}: ${outside.err}`);
});

test('T3a: users are listed with their rights, and who is removed is refused at once, with a certificate that is still good', async () => {
  const token = (await world.ok(['token', 'create', '--for', 'user/carl', '--realm', '/'])).trim();
  await using carl = await CliWorld.create();
  await carl.ok(['init', '--coordinator', `127.0.0.1:${base}`, '--ca-cert', trust, '--token', token]);
  await carl.ok(['ls', '/']);
  await carl.fails(4, /\[permission_denied\]/, ['users', 'list']);
  const listed = JSON.parse(await world.ok(['users', 'list', '-o', 'json'])) as { name: string; admin: boolean }[];
  assert.ok(listed.some(({ name, admin }) => name === 'carl' && !admin));
  assert.match(await world.ok(['users', 'list']), /user\/carl +no +uid \d+ +\/\n/);
  await world.fails(2, /user\/NAME or client\/NAME/, ['users', 'remove', 'carl']);
  await world.fails(3, /nobody of that name/, ['users', 'remove', 'client/carl']);
  await world.ok(['users', 'remove', 'user/carl']);
  await carl.fails(4, /\[(permission_denied|unauthenticated)\]/, ['ls', '/']);
  assert.ok(!(await world.ok(['users', 'list', '-o', 'name'])).includes('user/carl\n'));
  assert.match(await world.ok(['events', '--kind', 'subject-removed']), /user\/carl/);
  const admins = listed.filter(({ admin }) => admin).map(({ name }) => name);
  assert.equal(admins.length, 1);
  await world.fails(2, /nobody else has it/, ['users', 'remove', `user/${admins[0]}`]);
});

test('init takes a certificate that exists, and refuses one that does not fit', async () => {
  await using anna = await CliWorld.create();
  const from = join(world.dataOf('alice'), 'user');
  const given = ['--cert', join(from, 'tls.crt'), '--key', join(from, 'tls.key'), '--ca-cert', trust];
  const at = ['--name', 'copied', '--coordinator', `127.0.0.1:${base}`];
  await anna.ok(['init', ...at, '--member', 'alice', ...given]);
  await anna.ok(['ls', '/']);
  await anna.fails(1, /\[exists\]/, ['init', ...at, '--member-id', 'alice', ...given]);
  await anna.fails(2, /\[wrong_member\]/, ['init', 'b', '--coordinator', 'b:1', '--member', 'bob', ...given]);
  await anna.fails(2, /--key FILE is missing/, [
    'init',
    'c',
    '--coordinator',
    'b:1',
    '--member',
    'bob',
    ...given.slice(0, 2),
    '--ca-cert',
    trust,
  ]);
  await anna.fails(2, /--ca-cert FILE is missing/, ['init', 'd', '--coordinator', 'b:1', '--member', 'bob']);
  await anna.fails(2, /give --token/, ['init', 'e', '--coordinator', 'b:1', '--ca-cert', trust]);
  const broken = ['--cert', join(from, 'tls.key'), '--key', join(from, 'tls.crt'), '--ca-cert', trust];
  await anna.fails(4, /\[unauthenticated\]/, ['init', 'f', ...at.slice(2), '--member', 'alice', ...broken]);
});

test('contexts are listed, shown, renamed, changed and deleted', async () => {
  const { env } = world;
  const config = { env: { COLLECTIVE_CONFIG: join(world.home, 'other', 'config.yaml') } };
  const from = join(world.dataOf('alice'), 'user');
  const set = [
    'config',
    'set-context',
    'one',
    '--member',
    'alice',
    '--coordinator',
    `127.0.0.1:${base}`,
    '--credentials',
    from,
  ];
  await world.ok(set, config);
  await world.ok(['config', 'set-context', 'two', '--member', 'bob.club', '--coordinator', 'bob:7420'], config);
  assert.match(await world.ok(['config', 'get-contexts'], config), /\* +one +alice\.home.*\n +two +bob\.club/);
  assert.equal(await world.ok(['config', 'get-contexts', '-o', 'name'], config), 'one\ntwo\n');
  // The connection is tried for a few seconds only.
  let shown = '';
  await until(
    async () => {
      const { exit, out } = await world.run(['config', 'show-context', 'one'], config);
      shown = out;
      return exit === 0 && /Connection: +ok: coordinator of alice\.home/.test(out);
    },
    'the context is shown with its connection',
    STARTED_WITHIN_MS,
    () => shown,
  );
  assert.match(shown, /Chain: +verified/);
  await world.ok(['config', 'rename-context', 'one', 'home'], config);
  assert.equal(await world.ok(['config', 'current-context'], config), 'home\n');
  await world.ok(['config', 'use-context', 'two'], config);
  assert.equal(await world.ok(['config', 'current-context'], config), 'two\n');
  const broken = await world.run(['config', 'show-context'], config);
  assert.notEqual(broken.exit, 0);
  await world.ok(['config', 'delete-context', 'two'], config);
  await world.fails(3, /none is set/, ['config', 'current-context'], config);
  await world.ok(['ls', '/', '--context', 'home'], config);
  const away = ['--context', 'home', '--coordinator', '127.0.0.1:9'];
  await world.fails(
    5,
    /127\.0\.0\.1:9.*\n.*Finish within --timeout 8s/,
    ['ls', '/', ...away, '--timeout', '8s'],
    config,
  );
  await world.fails(5, /127\.0\.0\.1:9/, ['config', 'show-context', ...away, '--timeout', '5s'], config);
  assert.equal((await stat(config.env.COLLECTIVE_CONFIG)).mode & 0o077, 0);
  assert.ok(env.HOME);
});

test('auth info shows the certificate without dialling, from a context, a folder or a file', async () => {
  const info = await world.ok(['auth', 'info']);
  assert.match(info, /URI: +spiffe:\/\/alice\.home\/user\//);
  assert.match(info, /Fingerprint: +SHA-256 [0-9A-F:]{95}/);
  assert.match(info, /Chain: +verified/);
  const node = JSON.parse(
    await world.ok(['auth', 'info', '-o', 'json', join(world.dataOf('alice'), 'nodes', 'node-1', 'tls')]),
  ) as { uri: string };
  assert.equal(node.uri, 'spiffe://alice.home/node/node-1');
  await world.fails(3, /\[not_found\]/, ['auth', 'info', '/nowhere']);
  await writeFile(join(world.work, 'junk.pem'), 'junk');
  await world.fails(2, /as a certificate in PEM/, ['auth', 'info', 'junk.pem']);
});

test('another member refuses a certificate that is not of its own authority', async () => {
  await using bob = await CliWorld.create();
  const bobBase = await freePortBase();
  const bobUp = await bob.up(['--member', 'bob', '--port-base', String(bobBase)]);
  const bobUser = join(bob.dataOf('bob'), 'user');
  // Bob's identity at alice's address: alice's coordinator proves another name than bob's.
  await bob.ok([
    'config',
    'set-context',
    'mixed',
    '--member',
    'bob',
    '--coordinator',
    `127.0.0.1:${base}`,
    '--credentials',
    bobUser,
  ]);
  const refused = await bob.run(['ls', '/', '--context', 'mixed', '--timeout', '10s']);
  assert.ok(refused.exit === 4 || refused.exit === 5, `${refused.exit}: ${refused.err}`);
  // Bob's leaf with alice's bundle is no pair that fits together.
  const mixed = join(bob.work, 'mixed');
  await mkdir(mixed);
  for (const name of ['tls.crt', 'tls.key']) await copyFile(join(bobUser, name), join(mixed, name));
  await copyFile(trust, join(mixed, 'trust.pem'));
  await bob.ok([
    'config',
    'set-context',
    'forged',
    '--member',
    'alice',
    '--coordinator',
    `127.0.0.1:${base}`,
    '--credentials',
    mixed,
  ]);
  await bob.fails(4, /not signed by any root|\[wrong_member\]|\[unauthenticated\]/, [
    'ls',
    '/',
    '--context',
    'forged',
    '--timeout',
    '10s',
  ]);
  await bobUp.stop();
});

interface Server extends AsyncDisposable {
  readonly child: ChildProcess;
  log(): string;
}

function serve(args: readonly string[], env: Record<string, string> = {}): Server {
  const main = fileURLToPath(import.meta.resolve('@collective/cli/main'));
  const child = spawn(process.execPath, [main, ...args], {
    cwd: world.work,
    env: { ...world.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (piece: Buffer) => {
    log += piece.toString();
  });
  return {
    child,
    log: () => log,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

test('coordinator and node start alone: settings from flags, file and environment, a node enrolled by token', async () => {
  const ports = await freePortBase();
  const folder = await world.folder();
  await writeFile(
    join(world.work, 'coordinator.yaml'),
    `member: carol\ndata: ${folder}/coordinator\nhealthListen: 127.0.0.1:${ports + 1}\n`,
  );
  await using coordinator = serve(['coordinator', '--config', 'coordinator.yaml', '--listen', `127.0.0.1:${ports}`], {
    COLLECTIVE_AUTO_TLS: 'true',
    COLLECTIVE_MEMBER: 'overruled-by-the-file',
  });
  await until(
    () =>
      fetch(`http://127.0.0.1:${ports + 1}/readyz`).then(
        (answer) => answer.ok,
        () => false,
      ),
    'the coordinator is ready',
    STARTED_WITHIN_MS,
    coordinator.log,
  );
  const bundle = join(folder, 'coordinator', 'tls', 'trust.pem');
  const bootstrap = await readFile(join(folder, 'coordinator', 'bootstrap-token'), 'utf8');
  const at = ['--coordinator', `127.0.0.1:${ports}`, '--ca-cert', bundle];
  await world.ok(['init', 'carol', ...at, '--user', 'admin', '--token', bootstrap.trim()]);
  const inContext = ['--context', 'carol'];
  const token = (await world.ok(['token', 'create', '--for', 'node/attic', ...inContext])).trim();
  await using node = serve([
    ...['node', ...at, '--token', token, '--capacity', '1GiB', '--data', join(folder, 'attic')],
    ...['--listen', `127.0.0.1:${ports + 11}`, '--zone', 'roof'],
  ]);
  await until(
    async () => (await world.run(['nodes', 'list', '-o', 'name', ...inContext])).out === 'attic\n',
    'the node is known',
    STARTED_WITHIN_MS,
    node.log,
  );
  await world.ok(['write', '/x', ...inContext], { stdin: 'stored on one node' });
  assert.equal(await world.ok(['cat', '/x', ...inContext]), 'stored on one node');
  assert.match(await world.ok(['nodes', 'list', '-o', 'wide', ...inContext]), / roof /);
});

const wrongSettings: { name: string; args: string[]; file?: string; env?: Record<string, string>; says: RegExp }[] = [
  {
    name: 'a typo in the file',
    args: ['node', '--config', 'c.yaml'],
    file: 'data: x\ncapcity: 5GB\n',
    says: /c\.yaml, line 2, column 1: the key 'capcity' is not known; did you mean 'capacity'/,
  },
  {
    name: 'a size like 5XB in the file',
    args: ['node', '--config', 'c.yaml'],
    file: 'capacity: 5XB\n',
    says: /c\.yaml, line 1, key 'capacity'.*no unit 'XB'/,
  },
  {
    name: 'a size like 5XB in the environment',
    args: ['node'],
    env: { COLLECTIVE_CAPACITY: '5XB' },
    says: /environment variable COLLECTIVE_CAPACITY/,
  },
  { name: 'a size like 5XB as a flag', args: ['node', '--capacity', '5XB'], says: /flag --capacity/ },
  { name: 'no member', args: ['coordinator', '--data', 'd'], says: /'member' is missing.*COLLECTIVE_MEMBER/ },
  { name: 'no capacity', args: ['node', '--coordinator', 'a:1', '--data', 'd'], says: /'capacity' is missing/ },
  { name: 'a file that is not there', args: ['node', '--config', 'none.yaml'], says: /configuration file none\.yaml/ },
  {
    name: 'an address without a port',
    args: ['coordinator', '--member', 'a', '--data', 'd', '--listen', 'localhost'],
    says: /flag --listen.*host:port/,
  },
];

for (const { name, args, file, env, says } of wrongSettings) {
  test(`a server with wrong settings says where and what: ${name}`, async () => {
    if (file !== undefined) await writeFile(join(world.work, 'c.yaml'), file);
    await world.fails(2, says, args, { env });
  });
}

test('a node without a certificate and without a token says how to get one', async () => {
  await world.fails(4, /--token and --ca-cert/, [
    'node',
    '--coordinator',
    `127.0.0.1:${base}`,
    '--capacity',
    '1GiB',
    '--data',
    'bare',
  ]);
});
