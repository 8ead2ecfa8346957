/**
 * A member whose parts start in any order from settings alone, without anybody who makes tokens for nodes: as containers of one
 * description do. And people who come in by one text.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseInvitation } from '@collective/protocol/tls/invitation';
import { CliWorld, until } from './cli-world.ts';
import { freePorts } from './free-ports.ts';
import { PartProcess } from './part-process.ts';

let world: CliWorld;
let folder: string;
let coordinator: PartProcess;
let nodes: PartProcess[];
let address: string;
let settings: Record<string, string>;

before(async () => {
  world = await CliWorld.create();
  folder = await world.folder();
  const ports = await freePorts(6);
  const port = (index: number): number => ports[index] as number;
  address = `127.0.0.1:${port(0)}`;
  settings = {
    COLLECTIVE_MEMBER: 'dora',
    COLLECTIVE_DATA: join(folder, 'coordinator'),
    COLLECTIVE_LISTEN: address,
    COLLECTIVE_ADVERTISE: address,
    COLLECTIVE_AUTO_TLS: 'true',
    COLLECTIVE_INVITE_NODES: 'one,two',
    COLLECTIVE_INVITATIONS: join(folder, 'invitations'),
    COLLECTIVE_ROOT_MODE: '1777',
  };
  const part = (name: string, verb: string, healthPort: number, env: Record<string, string>): PartProcess =>
    new PartProcess({ name, args: [verb], healthPort, logFile: join(folder, `${name}.log`), env });
  coordinator = part('coordinator', 'coordinator', port(1), settings);
  nodes = ['one', 'two'].map((name, index) =>
    part(name, 'node', port(4 + index), {
      COLLECTIVE_COORDINATOR: address,
      COLLECTIVE_DATA: join(folder, name),
      COLLECTIVE_CAPACITY: '1GiB',
      COLLECTIVE_LISTEN: `127.0.0.1:${port(2 + index)}`,
      COLLECTIVE_INVITATION: join(folder, 'invitations', `${name}.invitation`),
    }),
  );
});

after(async () => {
  for (const part of [...nodes, coordinator]) await part[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

test('T3: nodes that start before their coordinator wait for their invitations, enrol and register', async () => {
  for (const node of nodes) node.launch();
  await until(
    () => nodes.every((node) => /waiting for an invitation/.test(node.log)),
    'both nodes wait for their invitation',
    60_000,
    () => nodes.map((node) => node.log).join('\n'),
  );
  const first = world.run(['token', 'bootstrap', '--wait', '60s'], { env: settings });
  await coordinator.start();
  const { exit, out, err } = await first;
  assert.equal(exit, 0, err);
  await world.ok(['init', '--invitation', '-'], { stdin: out });
  for (const node of nodes) await node.ready();
  assert.equal(await world.ok(['nodes', 'list', '-o', 'name']), 'one\ntwo\n');
  await world.ok(['write', '/x'], { stdin: 'on two nodes' });
  assert.equal(await world.ok(['cat', '/x']), 'on two nodes');
});

test('T3: no log holds a token, and what is left of invitations cannot be used or read by others', async () => {
  const tokens: string[] = [];
  for (const name of await readdir(join(folder, 'invitations'))) {
    const file = join(folder, 'invitations', name);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    tokens.push(parseInvitation(await readFile(file, 'utf8'), file).token);
  }
  assert.equal(tokens.length, 2);
  for (const part of [coordinator, ...nodes])
    for (const token of tokens) assert.ok(!part.log.includes(token), `${part.name} logs a token`);
  await using eve = await CliWorld.create();
  await eve.fails(4, /used before|token_invalid/, [
    ...['node', '--coordinator', address, '--capacity', '1GiB', '--data', 'stolen'],
    ...['--invitation', join(folder, 'invitations', 'one.invitation')],
  ]);
});

test('a restart of all invites nobody again, and a node that lost its disk and was removed from the member comes back as a new one', async () => {
  await coordinator.end();
  await coordinator.start();
  assert.deepEqual(await readdir(join(folder, 'invitations')), []);
  const [, two] = nodes;
  assert.ok(two !== undefined);
  await two.end();
  // Its disk is lost, and its certificate with it.
  await rm(join(folder, 'two'), { recursive: true });
  let removal = '';
  await until(
    async () => {
      const { exit, err } = await world.run(['nodes', 'remove', 'two', '--force']);
      removal = err;
      // Until its coordinator has seen the end of its link, it would only register again.
      if (exit !== 0) assert.match(err, /\[busy\]/);
      return exit === 0;
    },
    'the node that has ended is removed',
    60_000,
    () => removal,
  );
  await coordinator.end();
  await coordinator.start();
  assert.deepEqual(await readdir(join(folder, 'invitations')), ['two.invitation']);
  await two.start();
  assert.equal(await world.ok(['nodes', 'list', '-o', 'name']), 'one\ntwo\n');
});

test('token bootstrap on a member that somebody administers says so', async () => {
  await world.fails(3, /somebody administers the member already/, ['token', 'bootstrap', '--wait', '1ms'], {
    env: settings,
  });
  await world.fails(2, /--data DIR is missing/, ['token', 'bootstrap']);
});

test('T3a: whose last context is lost comes back in by the data folder of the coordinator that runs, and it is told', async () => {
  await world.ok(['write', '/kept'], { stdin: 'by the lost context' });
  await using found = await CliWorld.create();
  await found.fails(2, /--user goes with --again/, ['token', 'bootstrap', '--user', 'eva'], { env: settings });
  await found.fails(2, /Let no one in again/, ['token', 'bootstrap', '--again', '--user', 'no one'], { env: settings });
  const invitation = await found.ok(['token', 'bootstrap', '--again', '--user', 'eva'], { env: settings });
  await found.ok(['init', '--invitation', '-'], { stdin: invitation });
  assert.equal(await found.ok(['cat', '/kept']), 'by the lost context');
  const who = JSON.parse(await found.ok(['auth', 'whoami', '-o', 'json'])) as { subject: string; admin: boolean };
  assert.deepEqual([who.subject, who.admin], ['spiffe://dora.home/user/eva', true]);
  assert.match(await found.ok(['events', '--kind', 'readmitted']), /user\/eva as administrator/);
  const { token } = parseInvitation(invitation, '-');
  assert.ok(!coordinator.log.includes(token), 'the log holds no token');
  await found.fails(4, /used before/, ['init', '--force', '--invitation', '-'], { stdin: invitation });
  const left = await readdir(settings.COLLECTIVE_DATA as string);
  assert.deepEqual(
    left.filter((name) => name.startsWith('readmi')),
    [],
  );

  const elsewhere = { ...settings, COLLECTIVE_DATA: folder };
  await found.fails(5, /no coordinator that runs on .* answered/, ['token', 'bootstrap', '--again', '--wait', '1ms'], {
    env: elsewhere,
  });
  assert.ok(!(await readdir(folder)).includes('readmit'), 'the wish was taken back');
});

test('T3: an invitation lets a person in from its text alone, once, and not as a node', async () => {
  const text = await world.ok(['token', 'create', '--for', 'user/anna', '--invitation']);
  assert.equal(parseInvitation(text, '-').coordinator, address);
  await using anna = await CliWorld.create();
  const made = await anna.run(['init', '--invitation', '-'], { stdin: text });
  assert.equal(made.exit, 0, made.err);
  await anna.ok(['write', '/hers'], { stdin: 'hers' });
  const who = JSON.parse(await anna.ok(['auth', 'whoami', '-o', 'json'])) as { subject: string };
  assert.equal(who.subject, 'spiffe://dora.home/user/anna');
  await anna.fails(4, /used before/, ['init', '--force', '--invitation', '-'], { stdin: text });
  await anna.fails(2, /it says what --token would say/, ['init', '--invitation', '-', '--token', 'x'], { stdin: text });
  await anna.fails(4, /-: it is none/, ['init', '--invitation', '-'], { stdin: 'no invitation' });

  const elsewhere = ['token', 'create', '--for', 'user/ben', '--invitation', '--advertise', 'dora.example:7420'];
  assert.equal(parseInvitation(await world.ok(elsewhere), '-').coordinator, 'dora.example:7420');
});
