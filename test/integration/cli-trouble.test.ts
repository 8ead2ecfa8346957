import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Timestamp } from '@collective/base/clock';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { connect, type Member } from '@collective/client';
import { initialiseMember } from '@collective/coordinator/bootstrap';
import { CliWorld, freePortBase, signalAt, type UpProcess, until } from './cli-world.ts';

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

/** Starts a command, waits for the level, sends Ctrl-C; the result is the exit code. */
async function interrupt(args: readonly string[], level: () => Promise<boolean>, what: string): Promise<number | null> {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: world.work, env: world.env, stdio: 'ignore' });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  await signalAt(child, 'SIGINT', level, what);
  const [exit] = await ended;
  return exit;
}

test('an upload that was interrupted goes on behind what had arrived, and leaves nothing beside the file', async () => {
  const content = randomBytes(120 * MiB);
  await writeFile(join(world.work, 'big.bin'), content);
  await world.ok(['mkdir', '/up']);
  const partialBytes = async (): Promise<number> => {
    for await (const { name, attributes } of member.files.list('/up'))
      if (name.endsWith('.partial')) return attributes?.sizeBytes ?? 0;
    return 0;
  };
  const exit = await interrupt(
    ['cp', 'big.bin', 'collective:/up/'],
    async () => (await partialBytes()) >= 4 * MiB,
    'a part of the file has arrived',
  );
  assert.equal(exit, 130, 'the upload was over before it could be interrupted');
  const arrived = await partialBytes();
  assert.ok(arrived >= 4 * MiB && arrived < content.length, `${arrived} bytes arrived`);
  await world.fails(3, /\[not_found\]/, ['stat', '/up/big.bin']);

  await world.ok(['cp', '--continue', 'big.bin', 'collective:/up/']);
  assert.equal(await world.ok(['ls', '/up']), 'big.bin\n');
  await world.ok(['cp', 'collective:/up/big.bin', 'back.bin']);
  assert.ok(content.equals(await readFile(join(world.work, 'back.bin'))));
});

test('a download that was interrupted goes on behind what was fetched', async () => {
  const content = randomBytes(160 * MiB);
  await world.ok(['write', '/down.bin'], { stdin: content });
  const partial = async (): Promise<{ name: string; sizeBytes: number } | undefined> => {
    const name = (await readdir(world.work)).find((one) => one.startsWith('.down.bin.') && one.endsWith('.partial'));
    return name === undefined ? undefined : { name, sizeBytes: (await stat(join(world.work, name))).size };
  };
  const exit = await interrupt(
    ['cp', 'collective:/down.bin', 'down.bin'],
    async () => ((await partial())?.sizeBytes ?? 0) > 8 * MiB,
    'a part of the file was fetched',
  );
  assert.equal(exit, 130, 'the download was over before it could be interrupted');
  const kept = await partial();
  assert.ok(kept !== undefined && kept.sizeBytes > 8 * MiB, 'what was fetched is kept');
  // What is there already is not fetched again: a mark in it survives into the finished file.
  const file = await open(join(world.work, kept.name), 'r+');
  await file.write(Buffer.from('MARK'), 0, 4, 100);
  await file.close();
  await world.ok(['cp', '--continue', 'collective:/down.bin', 'down.bin']);
  const fetched = await readFile(join(world.work, 'down.bin'));
  assert.equal(fetched.subarray(100, 104).toString(), 'MARK');
  content.write('MARK', 100);
  assert.ok(content.equals(fetched));
  assert.equal(await partial(), undefined);
});

test('a damaged replica is passed over by readers, found by verify and named with its node', async () => {
  const content = Buffer.alloc(300_000);
  const mark = randomBytes(64);
  for (let at = 0; at < content.length; at += 4096) mark.copy(content, at);
  randomBytes(200_000).copy(content, 50_000);
  await world.ok(['write', '/checked'], { stdin: content });
  await world.ok(['verify', '/checked']);
  assert.ok(await flipBit(join(world.dataOf('alice'), 'nodes', 'node-1'), content.subarray(60_000, 60_064)));
  const bad = await world.run(['verify', '-o', 'json', '/checked']);
  assert.equal(bad.exit, 7);
  const [report] = JSON.parse(bad.out) as { state: string; bad: { node: string }[]; lost: number }[];
  assert.deepEqual([report?.state, report?.lost, report?.bad.map(({ node }) => node)], ['BAD', 0, ['node-1']]);
  assert.match(bad.err, /replica of chunk [0-9a-f]{32} on node-1/);
  for (let i = 0; i < 3; i++) {
    assert.ok(content.equals(Buffer.from((await world.run(['cat', '/checked'])).out, 'latin1')));
  }
});

/** Turns one bit around in the file below the folder that holds these bytes. */
async function flipBit(folder: string, bytes: Buffer): Promise<boolean> {
  for (const name of await readdir(folder, { recursive: true })) {
    if (!name.endsWith('.seg')) continue;
    const path = join(folder, name);
    const at = (await readFile(path)).indexOf(bytes);
    if (at < 0) continue;
    const file = await open(path, 'r+');
    await file.write(Buffer.from([(bytes[10] ?? 0) ^ 1]), 0, 1, at + 10);
    await file.sync();
    await file.close();
    return true;
  }
  return false;
}

test('Ctrl-C ends a watching command in order', async () => {
  let looked = '';
  const child = spawn(process.execPath, [MAIN, 'status', '--watch', '--every', '100ms', '-o', 'name'], {
    cwd: world.work,
    env: world.env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child.stdout.on('data', (piece: Buffer) => {
    looked += piece.toString();
  });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  await until(() => looked.split('\n').length > 3, 'it has looked several times', 20_000);
  child.kill('SIGINT');
  assert.equal((await ended)[0], 130);
});

test('a clock that is wrong is named as what keeps a member from starting', async () => {
  const data = await world.folder();
  await initialiseMember({
    dataFolder: join(data, 'coordinator'),
    member: 'late',
    collective: 'home',
    nodes: [],
    user: { name: 'anna', trustFolder: join(data, 'user') },
    clock: new NextYear(),
    random: new SystemRandom(),
  });
  await world.fails(1, /\[clock_wrong\]/, [
    'up',
    '--member',
    'late',
    '--data',
    data,
    '--port-base',
    String(await freePortBase()),
  ]);
});

class NextYear extends SystemClock {
  override now(): Timestamp {
    const { seconds, nanos } = super.now();
    return { seconds: seconds + 365 * 86_400, nanos };
  }
}

test('bash completes commands, flags, contexts and remote paths with the script that we print', async (t) => {
  const bash = spawn('bash', ['--version'], { stdio: 'ignore' });
  const found = await Promise.race([once(bash, 'exit').then(() => true), once(bash, 'error').then(() => false)]);
  if (!found) {
    t.skip('bash is not installed here');
    return;
  }
  await world.ok(['mkdir', '-p', '/completed/album']);
  // `collective` on the path is the program under test.
  const bin = join(world.home, 'bin');
  await mkdir(bin, { recursive: true });
  await writeFile(join(bin, 'collective'), `#!/bin/sh\nexec "${process.execPath}" "${MAIN}" "$@"\n`, { mode: 0o755 });
  const script = `
    source <(collective completion bash)
    try() { COMP_LINE="$1"; COMP_POINT=\${#1}; read -r -a COMP_WORDS <<< "$1"; COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); [[ $1 == *' ' ]] && { COMP_WORDS+=(''); COMP_CWORD=$((COMP_CWORD + 1)); }; _collective; echo "\${COMPREPLY[*]}"; }
    try 'collective verif'
    try 'collective ls --recurs'
    try 'collective config use-context '
    try 'collective ls /completed/'
    try 'collective cp collective:/completed/al'`;
  const child = spawn('bash', ['-c', script], {
    env: { ...world.env, PATH: `${bin}:${world.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (piece: Buffer) => {
    out += piece.toString();
  });
  child.stderr.on('data', (piece: Buffer) => {
    err += piece.toString();
  });
  await once(child, 'close');
  assert.deepEqual(
    out.trimEnd().split('\n'),
    ['verify', '--recursive', 'alice', '/completed/album/', '/completed/album/'],
    err,
  );
});
