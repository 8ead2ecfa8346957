import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { parseMemberName, trustDomainOf } from '@collective/base/ids';
import { ContextStore, contextLocation } from '@collective/client';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import type { KubeObject } from './api-client.ts';
import { conditions, NAMESPACE, PluginWorld } from './plugin-world.ts';

const running = new AsyncDisposableStack();
let world: PluginWorld;
const KEY = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const labels = { 'app.kubernetes.io/name': 'collective', 'collective.storage/member': 'alice' };
const object = (kind: string, name: string, fields: object, own = labels): KubeObject => ({
  apiVersion: 'v1',
  kind,
  metadata: { name, namespace: NAMESPACE, labels: own },
  ...fields,
});

before(async () => {
  world = running.use(await PluginWorld.start());
  const { admin } = world.server;
  await world.collective('home', 'photos.example');
  const users = [{ name: 'anna' }];
  await world.member(
    'alice',
    { users },
    {
      trustDomain: 'alice.photos.example',
      conditions: conditions({ Ready: 'True' }),
    },
  );
  const authority = await ScratchAuthority.create(trustDomainOf(parseMemberName('alice'), 'photos.example'));
  const anna = await authority.peer('user', 'anna');
  const secret = { 'tls.crt': anna.certificatePem, 'tls.key': anna.keyPem };
  await admin.apply(object('Secret', 'alice-user-anna', { type: 'kubernetes.io/tls', stringData: secret }));
  await admin.apply(object('ConfigMap', 'alice-trust', { data: { 'trust.pem': anna.bundlePem, odd: KEY } }));
  await admin.apply(
    object(
      'ConfigMap',
      'of-others',
      { data: { odd: 'not ours' } },
      { ...labels, 'app.kubernetes.io/name': 'x', 'collective.storage/member': 'x' },
    ),
  );
  const env = [
    { name: 'COLLECTIVE_TOKEN', value: 'hunter2-token' },
    { name: 'COLLECTIVE_LISTEN', value: ':7420' },
  ];
  const containers = [{ name: 'coordinator', image: 'collective:0.1.0', args: ['--enrol=col1-hunter3'], env }];
  await admin.apply(
    object('Pod', 'alice-coordinator-0', { spec: { nodeName: 'worker-1', containers } }, {
      ...labels,
      'app.kubernetes.io/component': 'coordinator',
    } as typeof labels),
  );
});
after(() => running.disposeAsync());

test('debug bundle: a private file that tar reads, with objects and what could not be had, and no secret in any of it', async () => {
  const path = (await world.ok(['debug', 'bundle', 'alice'])).trim();
  assert.match(path, /\/collective-debug-alice-[0-9]{8}T[0-9]{6}\.tar\.gz$/);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const folder = mkdtempSync(join(world.server.folder, 'bundle-'));
  await promisify(execFile)('tar', ['xzf', path, '-C', folder, '--strip-components=1']);
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1))
    .sort();
  for (const wanted of [
    'about.txt',
    'events.txt',
    'missing.txt',
    'objects/collective/home.yaml',
    'objects/configmap/alice-trust.yaml',
    'objects/member/alice.yaml',
    'objects/pod/alice-coordinator-0.yaml',
    'objects/secret/alice-user-anna.yaml',
    'tree.txt',
    'versions.txt',
  ])
    assert.ok(files.includes(wanted), `${wanted} of ${files.join(' ')}`);
  assert.ok(!files.some((name) => name.includes('of-others')), 'what is not of members stays out');
  const all = files.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
  for (const secret of [/PRIVATE KEY/, /hunter[23]/, /tls\.key/, /LS0tLS1CRUdJTiBQUklWQVRF/])
    assert.doesNotMatch(all, secret);
  assert.match(
    readFileSync(join(folder, 'objects/pod/alice-coordinator-0.yaml'), 'utf8'),
    /COLLECTIVE_LISTEN\n +value: :7420/,
  );
  assert.match(readFileSync(join(folder, 'objects/configmap/alice-trust.yaml'), 'utf8'), /BEGIN CERTIFICATE/);
  // No kubelet runs here: logs and health are what could not be had.
  const missing = readFileSync(join(folder, 'missing.txt'), 'utf8');
  assert.match(missing, /^Read the log of alice-coordinator-0\/coordinator: /m);
  assert.match(missing, /^Ask alice-coordinator-0 for \/metrics: /m);
  assert.match(readFileSync(join(folder, 'about.txt'), 'utf8'), /^alice: OK$/m);
});

test('debug bundle: a file that is there is not overwritten, a member that is not there leaves none', async () => {
  const first = await world.run(['debug', 'bundle', '-f', 'all.tar.gz']);
  assert.equal(first.exit, 0, first.err);
  const second = await world.run(['debug', 'bundle', '-f', 'all.tar.gz']);
  assert.deepEqual([second.exit, /Write .*all\.tar\.gz/.test(second.err)], [1, true]);
  assert.ok(statSync(join(world.server.folder, 'all.tar.gz')).size > 0);
  const none = await world.run(['debug', 'bundle', 'nobody', '-f', 'nobody.tar.gz']);
  assert.equal(none.exit, 3);
  assert.ok(!readdirSync(world.server.folder).includes('nobody.tar.gz'));
});

test('context import: the certificate of the user, the trust of the member and the way to it become a context', async () => {
  const { folder } = world.server;
  const env = { COLLECTIVE_CONFIG: join(folder, 'collective', 'config.yaml') };
  const { exit, out, err } = await world.run(['context', 'import', 'alice'], { env });
  assert.equal(exit, 0, err);
  assert.equal(out, 'alice\n');
  assert.match(
    err,
    /spiffe:\/\/alice\.photos\.example\/user\/anna, by ports forwarded through the apiserver\.\nTry: collective ls -l \/\n/,
  );
  const context = await new ContextStore(contextLocation(env)).get();
  assert.deepEqual(context.via, {
    kind: 'kubernetes',
    settings: { kubeconfig: world.kubeconfig, context: 'test', namespace: NAMESPACE, member: 'alice' },
  });
  assert.equal(context.listener, 'internal');
  assert.equal(statSync(join(context.credentials, 'tls.key')).mode & 0o777, 0o600);
  assert.match(readFileSync(join(context.credentials, 'trust.pem'), 'utf8'), /BEGIN CERTIFICATE/);
  // Once more, as when the certificate has ended; and for a member that has an address by now.
  await world.memberStatus('alice', { endpoints: { external: 'alice.example:30420' } });
  assert.match((await world.run(['context', 'import', 'alice'], { env })).err, /at alice\.example:30420/);
  assert.equal((await new ContextStore(contextLocation(env)).get('alice')).via, undefined);
});

test('context import: what is missing says where to look, and a name that is taken by another member stays', async () => {
  const env = { COLLECTIVE_CONFIG: join(world.server.folder, 'other', 'config.yaml') };
  await world.member('bob', { users: [{ name: 'ben' }] }, { trustDomain: 'bob.photos.example' });
  const early = await world.run(['context', 'import', 'bob'], { env });
  assert.deepEqual(
    [early.exit, /Secret bob-user-ben is not there yet.*\n.*collective certs bob/.test(early.err)],
    [1, true],
  );
  await new ContextStore(contextLocation(env)).set('alice', { coordinator: 'x:1', trustDomain: 'alice.home' });
  const taken = await world.run(['context', 'import', 'alice'], { env });
  assert.match(taken.err, /there is one for alice\.home .*\n {2}Choose another name by --name/);
  assert.equal((await world.run(['context', 'import', 'alice', '--name', 'alice-k8s'], { env })).exit, 0);
});
