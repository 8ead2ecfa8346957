import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { parse } from 'yaml';
import { run } from '../run.ts';
import { testShell } from '../shell-for-tests.ts';
import { composeFile } from './compose-file.ts';
import { COMPOSE_MEMBERS_MAX, COMPOSE_NODES_MAX, type ComposeFlags, planCompose } from './compose-plan.ts';

const FLAGS: ComposeFlags = {
  members: 3,
  nodes: 2,
  image: 'collective:0.1.0',
  portBase: 7420,
  host: '127.0.0.1',
  capacity: '20GiB',
  collective: 'home',
};

interface Service {
  readonly environment: Record<string, string>;
  readonly networks: string[];
  readonly ports: string[];
  readonly volumes: string[];
  readonly [key: string]: unknown;
}

interface File {
  readonly services: Record<string, Service>;
  readonly networks: Record<string, object>;
  readonly volumes: Record<string, object>;
}

function fileOf(flags: Partial<ComposeFlags> = {}): File {
  return parse(composeFile(planCompose({ ...FLAGS, ...flags })), { version: '1.1' }) as File;
}

test('every part is confined: no right, a read-only root, and bounds on memory, processes and logs', () => {
  for (const [name, service] of Object.entries(fileOf().services)) {
    assert.equal(service.user, '65532:65532', name);
    assert.equal(service.read_only, true, name);
    assert.deepEqual(service.cap_drop, ['ALL'], name);
    assert.deepEqual(service.security_opt, ['no-new-privileges:true'], name);
    assert.match(String(service.mem_limit), /^\d+m$/, name);
    assert.equal(service.pids_limit, 256, name);
    assert.equal(service.restart, 'unless-stopped', name);
    assert.equal(service.stop_grace_period, '20s', name);
    assert.ok(!('privileged' in service) && !('network_mode' in service), name);
  }
});

test('T1: each member has a network, an authority and volumes of its own, and no part stands in two members', () => {
  const { services, networks, volumes } = fileOf();
  assert.deepEqual(Object.keys(networks), ['alice', 'bob', 'carol']);
  assert.equal(Object.keys(services).length, 9);
  for (const [name, { networks: joined, volumes: mounted }] of Object.entries(services)) {
    const [member = ''] = name.split('-', 1);
    assert.deepEqual(joined, [member], name);
    for (const mount of mounted) assert.ok(mount.startsWith(`${member}-`), `${name}: ${mount}`);
  }
  const mounts = Object.values(services).flatMap((service) =>
    service.volumes.map((mount) => mount.split(':')[0] ?? ''),
  );
  assert.deepEqual([...new Set(mounts)].sort(), Object.keys(volumes).sort());
  const data = mounts.filter((name) => !name.endsWith('-invitations'));
  assert.equal(new Set(data).size, data.length, 'no two parts share a volume of data');
});

test('D10: nodes tell other nodes the name in their network, and people the port of the host that is published', () => {
  const { services } = fileOf({ host: '192.0.2.7', advertise: 'nas.example' });
  assert.equal(services['bob-coordinator']?.environment.COLLECTIVE_ADVERTISE, 'nas.example:7520');
  assert.deepEqual(services['bob-coordinator']?.ports, ['192.0.2.7:7520:7420']);
  assert.equal(
    services['bob-node-2']?.environment.COLLECTIVE_ADVERTISE,
    'internal=bob-node-2:7431,external=nas.example:7532',
  );
  assert.deepEqual(services['bob-node-2']?.ports, ['192.0.2.7:7532:7431']);
});

test('T3: nodes enrol by invitations that they may only read, and nothing secret stands in the file', () => {
  const { services } = fileOf();
  assert.equal(services['alice-coordinator']?.environment.COLLECTIVE_INVITE_NODES, 'node-1,node-2');
  assert.ok(services['alice-coordinator']?.volumes.includes('alice-invitations:/run/collective'));
  assert.ok(services['alice-node-1']?.volumes.includes('alice-invitations:/run/collective:ro'));
  assert.equal(services['alice-node-1']?.environment.COLLECTIVE_INVITATION, '/run/collective/node-1.invitation');
  assert.ok(!Object.values(services).some(({ environment }) => 'COLLECTIVE_TOKEN' in environment));
});

test('on an IPv6 address of the host, ports and addresses are written as they are read', () => {
  const { services } = fileOf({ members: 1, host: '::1' });
  assert.deepEqual(services['alice-coordinator']?.ports, ['[::1]:7420:7420']);
  assert.equal(services['alice-coordinator']?.environment.COLLECTIVE_ADVERTISE, '[::1]:7420');
});

test('no two parts of the largest file want one port of the host, and all are ports', () => {
  const { members } = planCompose({ ...FLAGS, members: COMPOSE_MEMBERS_MAX, nodes: COMPOSE_NODES_MAX });
  const ports = members.flatMap(({ coordinator, nodes }) => [coordinator, ...nodes].map(({ hostPort }) => hostPort));
  assert.equal(ports.length, COMPOSE_MEMBERS_MAX * (COMPOSE_NODES_MAX + 1));
  assert.equal(new Set(ports).size, ports.length);
  assert.ok(Math.max(...ports) < 65_536);
});

test('names that YAML 1.1 would take for something else stay names', () => {
  const { networks, services } = fileOf({ members: ['on', 'no', '42'] });
  assert.deepEqual(Object.keys(networks).sort(), ['42', 'no', 'on']);
  assert.deepEqual(services['no-coordinator']?.networks, ['no']);
  assert.equal(services['42-coordinator']?.environment.COLLECTIVE_MEMBER, '42');
});

const refused: { name: string; flags: Partial<ComposeFlags>; says: RegExp }[] = [
  {
    name: 'more members than docker has networks for',
    flags: { members: ['a', 'b'].concat(many(30)) },
    says: /1 to 24/,
  },
  { name: 'too many nodes', flags: { nodes: COMPOSE_NODES_MAX + 1 }, says: /1 to 64 nodes/ },
  { name: 'ports past the end', flags: { portBase: 65_300 }, says: /end at 65600; with --port-base up to 65235/ },
  { name: 'a name that is no DNS label', flags: { members: ['Alice!'] }, says: /Alice!/ },
  { name: 'a collective that is none', flags: { collective: 'no such' }, says: /no such/ },
  { name: 'a node too small', flags: { capacity: '1MiB' }, says: /128.* MiB at least/ },
  { name: 'an image that would end the line', flags: { image: 'a\nprivileged: true' }, says: /no name of an image/ },
  { name: 'a host that is no address', flags: { host: 'localhost' }, says: /--host takes an address/ },
  { name: 'all addresses without a name', flags: { host: '0.0.0.0' }, says: /give it by --advertise/ },
  { name: 'a name with a list in it', flags: { advertise: 'a,internal=b' }, says: /no name of a host/ },
  { name: 'a name with a variable in it', flags: { advertise: '$HOME' }, says: /no name of a host/ },
];

for (const { name, flags, says } of refused) {
  test(`what would not run is refused: ${name}`, () => {
    assert.throws(
      () => planCompose({ ...FLAGS, ...flags }),
      (thrown) => thrown instanceof CollectiveError && says.test(thrown.message),
    );
  });
}

test('the command prints the file, and takes a number or names', async () => {
  const printed = async (...args: string[]): Promise<string> => {
    const shell = testShell();
    assert.equal(await run(['compose', 'generate', ...args], shell), 0, shell.err());
    return shell.out();
  };
  assert.equal(await printed('--members', '3'), composeFile(planCompose(FLAGS)));
  const named = await printed('--members', 'home,office', '--nodes', '1', '--base-port', '9000');
  assert.equal(named, composeFile(planCompose({ ...FLAGS, members: ['home', 'office'], nodes: 1, portBase: 9000 })));
});

function many(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `m${index}`);
}
