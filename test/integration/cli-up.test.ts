import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CliWorld, freePortBase, isAlive, partsOf, until } from './cli-world.ts';

/** Against hanging, not a promise. */
const STARTED_WITHIN_MS = 60_000;

test('collective up: a member, its context, the three commands to try, and all of it stopped by Ctrl-C', async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const up = await world.up(['--member', 'alice', '--port-base', String(base), '--capacity', '1GiB']);
  assert.match(up.said, /Member alice\.home is ready/);
  assert.match(
    up.said,
    /Try:\n {2}collective cp README\.md collective:\/\n {2}collective ls -l \/\n {2}collective status\n/,
  );
  assert.equal((await world.ok(['config', 'current-context'])).trim(), 'alice');

  const content = randomBytes(3_000_000);
  await writeFile(join(world.work, 'a.raw'), content);
  await world.ok(['cp', 'a.raw', 'collective:/']);
  await world.ok(['cp', 'collective:/a.raw', 'b.raw']);
  assert.deepEqual(await readFile(join(world.work, 'b.raw')), content);

  const parts = await partsOf(world.dataOf('alice'));
  assert.deepEqual(
    parts.map(({ name }) => name),
    ['coordinator', 'node-1', 'node-2'],
  );
  const { exit, tookMs } = await up.stop('SIGINT');
  assert.equal(exit, 0);
  assert.ok(tookMs < 5_000, `stopping took ${tookMs} ms`);
  for (const { name, pid } of parts) assert.equal(isAlive(pid), false, `${name} still runs`);
});

test('a second start finds the data of the first, without flags, and keeps keys and certificates private', async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const data = await world.folder();
  const first = await world.up([
    '--member',
    'alice',
    '--collective',
    'club',
    '--data',
    data,
    '--port-base',
    String(base),
  ]);
  const content = randomBytes(50_000);
  await world.ok(['write', '/kept.bin'], { stdin: content });
  assert.equal((await first.stop()).exit, 0);

  const second = await world.up(['--data', data]);
  assert.match(second.said, /Member alice\.club is ready/);
  assert.deepEqual(Buffer.from((await world.run(['cat', '/kept.bin'])).out, 'latin1'), content);
  await second.stop();

  const keys: string[] = [];
  for (const name of await readdir(data, { recursive: true })) {
    if (name.endsWith('.key')) keys.push(name);
  }
  assert.ok(keys.length >= 5, `authority, coordinator, two nodes, user: ${keys.join(', ')}`);
  for (const key of keys) assert.equal((await stat(join(data, key))).mode & 0o077, 0, `${key} is private`);
});

test('what cannot be started is refused with a reason: another member, a running one, a taken port, a newer format', async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const data = await world.folder();
  const args = ['--data', data, '--port-base', String(base)];
  const up = await world.up(['--member', 'alice', ...args]);

  await world.fails(1, /process \d+ \(member alice\.home\) runs there.*\n +'collective down --data .*' stops it/, [
    'up',
    ...args,
  ]);
  const other = await world.folder();
  await world.fails(1, new RegExp(`port ${base} for the coordinator: another program uses it; --port-base`), [
    ...['up', '--member', 'bob', '--data', other, '--port-base', String(base)],
  ]);
  await up.stop();
  await world.fails(2, /start member bob\.home in .*: this folder holds alice\.home/i, [
    'up',
    '--member',
    'bob',
    ...args,
  ]);
  await world.fails(2, /it has 2, and what lies on the others would be out of reach/, ['up', '--nodes', '1', ...args]);

  const stranger = createServer().listen(base + 12, '127.0.0.1');
  try {
    await world.fails(1, new RegExp(`port ${base + 12} for node-2: another program uses it`), ['up', ...args]);
  } finally {
    stranger.close();
  }
  const file = join(data, 'member.json');
  await writeFile(file, (await readFile(file, 'utf8')).replace('"version": 1', '"version": 2'));
  await world.fails(1, /version_too_new|format version 2, this program knows 1/, ['up', ...args]);
});

test('what keeps a part from starting is said in its own words, and nothing is left running', async () => {
  await using world = await CliWorld.create();
  const data = await world.folder();
  const args = ['--data', data, '--port-base', String(await freePortBase())];
  const up = await world.up(['--member', 'alice', ...args]);
  const parts = await partsOf(data);
  await up.stop();
  const file = join(data, 'coordinator', 'member.json');
  await writeFile(file, (await readFile(file, 'utf8')).replace('"version":1', '"version":99'));
  const refused = await world.fails(1, /Run coordinator: Open .*format is 99.*\[version_too_new\]/, ['up', ...args]);
  assert.match(refused.err, /Nothing was changed/);
  for (const { pid } of parts) assert.equal(isAlive(pid), false);
  assert.deepEqual(await partsOf(data), []);
});

test('a stop in the middle of the start is a stop: nothing is left running, and the next start works', async () => {
  await using world = await CliWorld.create();
  const data = await world.folder();
  const args = ['--member', 'alice', '--data', data, '--port-base', String(await freePortBase())];
  const starting = world.run(['up', ...args]);
  let coordinator = 0;
  await until(
    async () => {
      coordinator = (await partsOf(data)).find(({ name }) => name === 'coordinator')?.pid ?? 0;
      return coordinator > 0;
    },
    'the first part runs',
    STARTED_WITHIN_MS,
  );
  // While it stands still the start cannot end. A thread that has yet to stop would take the SIGTERM below and end the process.
  process.kill(coordinator, 'SIGSTOP');
  await until(() => standsStill(coordinator), 'every thread of the part stands still', STARTED_WITHIN_MS);
  const parts = await partsOf(data);
  const { pid, state } = JSON.parse(await readFile(join(data, 'up.json'), 'utf8')) as { pid: number; state: string };
  assert.equal(state, 'starting');
  process.kill(pid, 'SIGTERM');
  await until(() => isAskedToEnd(coordinator), 'the stop has reached the part', STARTED_WITHIN_MS);
  process.kill(coordinator, 'SIGCONT');
  const { exit, err } = await starting;
  assert.equal(exit, 130, err);
  for (const part of parts) assert.equal(part.pid !== undefined && isAlive(part.pid), false, part.name);
  const up = await world.up(args);
  assert.equal((await up.stop()).exit, 0);
});

/** Linux stops a process thread by thread: proc(5), the state `T`. */
function standsStill(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) =>
    /^State:\s+T/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')),
  );
}

/** A SIGTERM waits for the process, which is stopped. */
function isAskedToEnd(pid: number): boolean {
  const pending = /^ShdPnd:\s+([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  assert.ok(pending !== undefined, `/proc/${pid}/status has ShdPnd`);
  return (BigInt(`0x${pending}`) & (1n << BigInt(constants.signals.SIGTERM - 1))) !== 0n;
}

test('a part that is killed comes back by itself, and what was stored is still there', async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const up = await world.up(['--member', 'alice', '--port-base', String(base)]);
  const content = randomBytes(200_000);
  await world.ok(['write', '/kept.bin'], { stdin: content });
  const before = await partsOf(world.dataOf('alice'));
  for (const { name, pid } of before) {
    process.kill(pid, 'SIGKILL');
    await until(
      async () =>
        (await partsOf(world.dataOf('alice'))).some(
          (part) => part.name === name && part.pid !== undefined && part.pid !== pid,
        ),
      `${name} runs again`,
      STARTED_WITHIN_MS,
      () => up.said,
    );
  }
  await until(
    async () => (await world.run(['nodes', 'list', '-o', 'json'])).out.match(/"state": "ready"/g)?.length === 2,
    'both nodes are ready again',
    STARTED_WITHIN_MS,
    () => up.said,
  );
  assert.deepEqual(Buffer.from((await world.run(['cat', '/kept.bin'])).out, 'latin1'), content);
  assert.match(up.said, /node-1 was killed; starting it again/);
  assert.equal((await up.stop()).exit, 0);
});

test('the supervisor killed with SIGKILL leaves no orphans, and the next start works', async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const args = ['--member', 'alice', '--port-base', String(base)];
  const up = await world.up(args);
  const parts = await partsOf(world.dataOf('alice'));
  await up.stop('SIGKILL');
  await until(() => parts.every(({ pid }) => !isAlive(pid)), 'all parts have stopped by themselves', STARTED_WITHIN_MS);
  const again = await world.up(args);
  assert.equal((await again.stop()).exit, 0);
});

test('--detach returns when the member is ready, down stops it, and both say what they did', async () => {
  await using world = await CliWorld.create();
  const base = await freePortBase();
  const detached = await world.run(['up', '--detach', '--member', 'alice', '--port-base', String(base)]);
  try {
    assert.equal(detached.exit, 0, detached.err);
    assert.match(detached.err, /runs in the background as process \d+; 'collective down --member alice' stops it/);
    assert.match(await world.ok(['status']), /Health: +OK/);
    await world.fails(1, /runs there/, ['up', '--detach', '--member', 'alice', '--port-base', String(base)]);
  } finally {
    const down = await world.run(['down', '--member', 'alice']);
    assert.match(down.err, /Stopped alice\.home/);
  }
  assert.match((await world.run(['down', '--member', 'alice'])).err, /Nothing runs in/);
  await world.fails(5, /coordinator/i, ['ls', '--timeout', '2s']);
});

test('a context of another member with the same name stays as it is', async () => {
  await using world = await CliWorld.create();
  await world.ok([
    'config',
    'set-context',
    'alice',
    '--member',
    'alice.elsewhere',
    '--coordinator',
    'far.example:7420',
  ]);
  const up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase())]);
  assert.match(up.said, /Context: alice\.home\n/);
  assert.match(up.said, /collective status --context alice\.home/);
  assert.match(await world.ok(['config', 'get-contexts']), /\* +alice +alice\.elsewhere/);
  await up.stop();
});
