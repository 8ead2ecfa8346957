import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { findTools } from '@collective/hack/kind/tool-cache';
import type { KubeObject } from './api-client.ts';
import { conditions, NAMESPACE, PluginWorld } from './plugin-world.ts';
import type { Kubeconfig } from './test-apiserver.ts';

const HOUR_MS = 3_600_000;
const running = new AsyncDisposableStack();
let world: PluginWorld;

before(async () => {
  world = running.use(await PluginWorld.start());
  const { admin } = world.server;
  await world.collective('home', 'photos.example', { membersReady: '1/2' });
  const inHours = (hours: number): string => new Date(Date.now() + (hours + 0.5) * HOUR_MS).toISOString();
  const alice = await world.member(
    'alice',
    { nodePools: [{ name: 'rack', replicas: 2, capacity: '10Gi' }] },
    {
      trustDomain: 'alice.photos.example',
      version: '0.1.0',
      coordinator: { state: 'Ready' },
      nodes: [
        { name: 'rack-0', pool: 'rack', state: 'Ready', capacity: '10Gi', used: '1Gi' },
        { name: 'rack-1', pool: 'rack', state: 'Draining', capacity: '10Gi', used: '2Gi', leftChunks: 17 },
      ],
      nodesReady: '1/2',
      capacity: '20Gi',
      used: '3Gi',
      replication: { underReplicated: 0, unreadable: 0, toMove: 17, counting: false },
      ca: {
        generation: 2,
        phase: 'Retiring',
        since: '2026-11-20T12:00:00Z',
        generations: [
          { generation: 2, fingerprint: 'bb', notAfter: inHours(50_000), created: '2026-11-20T12:00:00Z' },
          { generation: 1, fingerprint: 'aa', notAfter: inHours(40_000), created: '2025-11-20T12:00:00Z' },
        ],
      },
      certificates: [
        { name: 'alice-rack-0-tls', notAfter: inHours(400), generation: 2 },
        { name: 'alice-coordinator-tls', notAfter: inHours(200), generation: 2 },
        { name: 'alice-rack-1-tls', notAfter: inHours(500), generation: 1 },
      ],
      conditions: conditions({ Ready: 'True', Reconciling: 'False', Stalled: 'False', ReplicationHealthy: 'True' }),
    },
    { labels: { tier: 'gold' } },
  );
  await world.member(
    'bob',
    {},
    {
      conditions: conditions({
        Ready: ['False', 'NoStorageClass', 'there is no StorageClass "fast"'],
        Stalled: ['True', 'NoStorageClass', 'there is no StorageClass "fast": create it, or change spec.nodePools'],
      }),
    },
  );
  const labels = { 'app.kubernetes.io/name': 'collective', 'collective.storage/member': 'alice' };
  await admin.apply(podOf('alice-coordinator-0', labels));
  await admin.patch(podOf('alice-coordinator-0', labels), { status: RUNNING }, 'status');
  for (const name of ['alice-coordinator', 'alice-rack-0', 'alice-gone-3']) await admin.apply(claimOf(name, labels));
  await admin.apply({
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: 'alice.1', namespace: NAMESPACE },
    involvedObject: { apiVersion: alice.apiVersion, kind: 'Member', name: 'alice', namespace: NAMESPACE },
    type: 'Normal',
    reason: 'CaRotated',
    message: 'generation 2 signs from now on',
    firstTimestamp: '2026-11-20T12:00:00Z',
    lastTimestamp: '2026-11-20T12:00:00Z',
  });
});
after(() => running.disposeAsync());

test('members: one word of health each, room, authority and first expiry; -l chooses, -A names namespaces', async () => {
  const [header = '', alice = '', bob = ''] = (await world.ok(['members'])).split('\n');
  assert.match(header, /^NAME +HEALTH +COORDINATOR +NODES +USED +CA +FIRST EXPIRY +AGE$/);
  assert.match(alice, /^alice +OK +Ready +1\/2 +3.0 GiB of 20.0 GiB \(15%\) +g2 Retiring +8d8h +\d/);
  assert.match(bob, /^bob +STALLED +- +- +- +- +- +/);
  assert.equal(await world.ok(['members', '-l', 'tier=gold', '-o', 'name']), 'member.collective.storage/alice\n');
  assert.match(await world.ok(['-n', 'default', 'members', '-A']), /^NAMESPACE +NAME[^\n]+\nphotos +alice /);
  assert.equal(await world.ok(['members', '-n', 'default', '-o', 'json']), '[]\n');
  assert.match(await world.ok(['members', '-o', 'wide']), /create it, or change spec\.nodePools/);
});

test('status of one member: lines, nodes, conditions that are not well, events; of all: a line each', async () => {
  const status = await world.ok(['status', 'alice']);
  assert.match(status, /^Member: +alice \(alice\.photos\.example\) in namespace photos\nHealth: +OK\n/);
  assert.match(status, /Replication: +17 to move\n/);
  assert.match(status, /Authority: +generation 2, Retiring for \S+; trusted: g2, g1\n/);
  assert.match(status, /NODE +STATE +USED +CAPACITY +LEFT TO MOVE\nrack-0 +Ready .*\nrack-1 +Draining .* 17\n/);
  assert.match(status, /Normal +CaRotated +generation 2 signs from now on\n/);
  assert.doesNotMatch(status, /CONDITION/);
  assert.match(await world.ok(['status', 'bob']), /CONDITION +STATUS .*\nReady +False .*\nStalled +True /);
  assert.match(
    await world.ok(['status']),
    /^MEMBER +HEALTH +WHY\nalice +OK +-\nbob +STALLED +there is no StorageClass "fast"/,
  );
  const { health, nodesReady } = await world.json<{ health: object; nodesReady: string }>(['status', 'alice']);
  assert.deepEqual([health, nodesReady], [{ word: 'OK' }, '1/2']);
});

test('certs: authorities, then leaves by their end; a leaf of the old authority is told', async () => {
  const rows = await world.json<{ name: string; state: string }[]>(['certs', 'alice']);
  assert.deepEqual(
    rows.map(({ name, state }) => [name, state]),
    [
      ['alice-ca-g2', 'valid'],
      ['alice-ca-g1', 'retiring'],
      ['alice-coordinator-tls', 'valid'],
      ['alice-rack-0-tls', 'valid'],
      ['alice-rack-1-tls', 'old authority'],
    ],
  );
  const { err } = await world.run(['certs']);
  assert.match(err, /Without the word of cert-manager: .*the cluster does not know this kind/);
});

test('tree: what should be there and is not is MISSING, and a volume that nobody uses is shown', async () => {
  const lines = (await world.ok(['tree'])).trimEnd().split('\n');
  assert.deepEqual(lines, [
    'collective home  photos.example, 1/2 members ready',
    '├── member alice  OK',
    '│   ├── coordinator  Ready',
    '│   │   ├── pod alice-coordinator-0  Running on worker-1, 2 restarts',
    '│   │   └── volume alice-coordinator  Pending, asks for 10Gi',
    '│   ├── pool rack  1/2 nodes of 10.0 GiB',
    '│   │   ├── node rack-0  Ready, 1.0 GiB of 10.0 GiB (10%)',
    '│   │   │   ├── pod alice-rack-0-0  MISSING',
    '│   │   │   └── volume alice-rack-0  Pending, asks for 10Gi',
    '│   │   └── node rack-1  Draining, 2.0 GiB of 10.0 GiB (20%), 17 chunks left to move',
    '│   │       ├── pod alice-rack-1-0  MISSING',
    '│   │       └── volume alice-rack-1  MISSING',
    '│   └── volume alice-gone-3  Pending, asks for 10Gi',
    '└── member bob  STALLED: there is no StorageClass "fast": create it, or change spec.nodePools',
    '    ├── coordinator  not begun',
    '    │   ├── pod bob-coordinator-0  MISSING',
    '    │   └── volume bob-coordinator  MISSING',
    '    └── pool rack  0/2 nodes of 10.0 GiB',
  ]);
  assert.equal((await world.run(['tree', 'nowhere'])).exit, 3);
});

test('errors say what to do: no such member, no right, no such context, no apiserver, no operator', async () => {
  const missing = await world.run(['status', 'carol']);
  assert.equal(missing.exit, 3);
  assert.match(missing.err, /Look at member carol: namespace photos has none .*\n {2}'kubectl collective members -A'/);
  const reader = world.server.writeKubeconfig('reader', await world.server.kubeconfigFor({ user: 'reader' }));
  const refused = await world.run(['members', '--kubeconfig', reader]);
  assert.equal(refused.exit, 4);
  assert.match(refused.err, /members\.collective\.storage is forbidden.*\n {2}Ask who administers/);
  const elsewhere = await world.run(['members', '--context', 'prod']);
  assert.equal(elsewhere.exit, 3);
  assert.match(elsewhere.err, /Choose one by --context: test\./);
  const { clusters: _clusters, ...more } = world.server.adminKubeconfig;
  const clusters = [{ name: 'test', cluster: { server: 'https://127.0.0.1:1' } }];
  const nobody = world.server.writeKubeconfig('nobody', { ...more, clusters });
  const unreachable = await world.run(['members', '--kubeconfig', nobody]);
  assert.equal(unreachable.exit, 5);
  assert.match(unreachable.err, /no way to the apiserver at https:\/\/127\.0\.0\.1:1 .*\n {2}because: .*ECONNREFUSED/);
  const json = await world.run(['status', 'carol', '-o', 'json']);
  assert.equal((JSON.parse(json.err) as { error: { code: string } }).error.code, 'not_found');
});

test('credentials come from an exec plugin, which is told what kubectl would tell it', async () => {
  const { folder, adminKubeconfig } = world.server;
  const [user] = adminKubeconfig.users as unknown as [{ user: Record<string, string> }];
  const decoded = (field: string): string => Buffer.from(user.user[field] ?? '', 'base64').toString();
  const credential = {
    apiVersion: 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    status: {
      clientCertificateData: decoded('client-certificate-data'),
      clientKeyData: decoded('client-key-data'),
    },
  };
  writeFileSync(join(folder, 'credential.json'), JSON.stringify(credential));
  const plugin = '#!/bin/sh\nprintf %s "$KUBERNETES_EXEC_INFO" > "$1.told"\ncat "$1"\n';
  writeFileSync(join(folder, 'plugin.sh'), plugin);
  chmodSync(join(folder, 'plugin.sh'), 0o755);
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    // Beside the kubeconfig, as kubectl reads it.
    command: './plugin.sh',
    args: [join(folder, 'credential.json')],
    interactiveMode: 'Never',
    provideClusterInfo: true,
  };
  const kubeconfig: Kubeconfig = { ...adminKubeconfig, users: [{ name: 'admin', user: { exec } }] };
  const file = world.server.writeKubeconfig('exec', kubeconfig);
  assert.match(await world.ok(['members', '--kubeconfig', file, '-n', NAMESPACE, '-o', 'name']), /alice\n.*bob\n/);
  const told = JSON.parse(readFileSync(join(folder, 'credential.json.told'), 'utf8')) as {
    kind: string;
    spec: { interactive: boolean; cluster: { server: string } };
  };
  assert.deepEqual(
    [told.kind, told.spec.interactive, told.spec.cluster.server],
    ['ExecCredential', false, world.server.url],
  );
  writeFileSync(join(folder, 'plugin.sh'), '#!/bin/sh\necho "log in first" >&2\nexit 1\n');
  const failed = await world.run(['members', '--kubeconfig', file]);
  assert.equal(failed.exit, 4);
  assert.match(
    failed.err,
    /Get credentials of user 'admin'.*plugin\.sh.*\n {2}because: log in first\n {2}See whether 'kubectl get pods'/,
  );
});

const RUNNING = {
  phase: 'Running',
  conditions: [{ type: 'Ready', status: 'True' }],
  containerStatuses: [
    {
      name: 'coordinator',
      ready: true,
      restartCount: 2,
      image: 'collective:0.1.0',
      imageID: '',
      state: { running: { startedAt: '2026-11-20T12:00:00Z' } },
    },
  ],
};

function podOf(name: string, labels: Record<string, string>): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: NAMESPACE, labels },
    spec: { nodeName: 'worker-1', containers: [{ name: 'coordinator', image: 'collective:0.1.0' }] },
  };
}

function claimOf(name: string, labels: Record<string, string>): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, namespace: NAMESPACE, labels },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '10Gi' } } },
  };
}

test('kubectl itself finds the plugin, and asks it to complete members, nodes and namespaces', async () => {
  const kubectl = join(findTools(['kubectl']).kubectl, 'kubectl');
  const bin = join(import.meta.dirname, '../../cli/bin');
  const called = async (...args: string[]): Promise<string> => {
    const env = { PATH: `${bin}:/usr/bin:/bin`, HOME: world.server.folder, KUBECONFIG: world.kubeconfig };
    const { stdout } = await promisify(execFile)(kubectl, args, { env, timeout: 60_000 });
    return stdout;
  };
  assert.equal(await called('collective', 'members', '-o', 'name'), await world.ok(['members', '-o', 'name']));
  const completed = async (...words: string[]): Promise<string[]> => {
    // Cobra's last line is for people.
    const answer = await called('__complete', 'collective', ...words);
    return answer.split('\n').filter((line) => line !== '' && !line.startsWith('Completion ended'));
  };
  assert.deepEqual(await completed('status', ''), ['alice\tOK', 'bob\tSTALLED', ':4']);
  assert.deepEqual(await completed('me'), [
    'members\tlist members: health, nodes, room, authority, first expiry',
    ':4',
  ]);
  assert.deepEqual(await completed('members', '-n', 'pho'), ['photos', ':4']);
  assert.deepEqual(await completed('tree', ''), ['home', ':4']);
});
