import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { CollectiveStatus } from '@collective/operator/api/collective';
import type { Condition } from '@collective/operator/api/condition';
import type { MemberSpec, MemberStatus } from '@collective/operator/api/member';
import { until } from '../until.ts';
import { installCrds } from './crds.ts';
import { Kubectl } from './kubectl.ts';
import { TestApiServer } from './test-apiserver.ts';

const API_VERSION = 'collective.storage/v1alpha1';
const NAMESPACE = 'photos';
const SCHEMA_WITHIN_MS = 60_000;
const AT = '2026-11-25T20:00:00Z';
const LATER = '2027-11-25T20:00:00Z';

const running = new AsyncDisposableStack();
let server: TestApiServer;
let kubectl: Kubectl;
before(async () => {
  server = running.use(await TestApiServer.start());
  await installCrds(server);
  await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
  kubectl = new Kubectl(server);
});
after(() => running.disposeAsync());

const READY: Condition = {
  type: 'Ready',
  status: 'True',
  reason: 'Serving',
  message: 'All of it serves.',
  lastTransitionTime: AT,
  observedGeneration: 1,
};

const MEMBER_STATUS: Required<MemberStatus> = {
  observedGeneration: 1,
  trustDomain: 'alice.photos.example',
  version: '0.1.0',
  coordinator: { state: 'Ready', volumeUid: 'f00d', began: true, image: 'collective:0.1.0' },
  nodes: [
    {
      name: 'disks-0',
      pool: 'disks',
      state: 'Draining',
      volumeUid: 'beef',
      capacity: '475Gi',
      used: '120Gi',
      leftChunks: 12,
      image: 'collective:0.1.0',
    },
  ],
  nodesReady: '1/2',
  capacity: '950Gi',
  used: '240Gi',
  replication: { underReplicated: 1, unreadable: 2, toMove: 3, lost: 4, counting: true },
  ca: {
    generation: 2,
    phase: 'Distributing',
    since: AT,
    handledTrigger: '2026-11-25',
    generations: [
      { generation: 2, fingerprint: 'ab'.repeat(32), notAfter: LATER, created: AT, specHash: 'cd'.repeat(32) },
      { generation: 1, fingerprint: 'ef'.repeat(32), notAfter: LATER, created: AT },
    ],
  },
  certificates: [{ name: 'alice-coordinator-tls', notAfter: LATER, generation: 1 }],
  certificatesSummary: 'rotating',
  trustBundleHash: '01'.repeat(32),
  endpoints: { internal: 'alice-coordinator.photos.svc:7420', external: '192.0.2.7:31742' },
  users: [{ name: 'laptop', secretName: 'alice-user-laptop', uid: 100_000 }],
  backup: { lastSuccess: AT, lastFailure: AT, message: 'The volume is full.' },
  conditions: [READY],
};

const COLLECTIVE_STATUS: Required<CollectiveStatus> = {
  observedGeneration: 1,
  members: { ready: 1, total: 2 },
  membersReady: '1/2',
  capacity: '950Gi',
  used: '240Gi',
  conditions: [READY],
};

const reference = (kind: 'Collective' | 'Member', name: string) => ({
  apiVersion: API_VERSION,
  kind,
  metadata: { name, namespace: NAMESPACE },
});

async function storeBoth(): Promise<void> {
  const spec: MemberSpec = {
    collectiveRef: { name: 'photos' },
    nodePools: [{ name: 'disks', replicas: 2, capacity: '500Gi' }],
    users: [{ name: 'laptop' }],
    exposure: { annotations: { 'example.org/pool': 'public' } },
  };
  await server.admin.apply({ ...reference('Collective', 'photos'), spec: { domain: 'photos.example' } });
  await server.admin.apply({ ...reference('Member', 'alice'), spec });
  await server.admin.patch(reference('Collective', 'photos'), { status: COLLECTIVE_STATUS }, 'status');
  await server.admin.patch(reference('Member', 'alice'), { status: MEMBER_STATUS }, 'status');
}

/** An apiserver tells of the fields of a kind a while after it first stores objects of it. */
async function publishesSchema(): Promise<void> {
  let last = '';
  await until(
    async () => {
      last = await kubectl.run('get', '--raw', `/openapi/v3/apis/${API_VERSION}`).catch(String);
      return ['Collective', 'Member'].every((kind) => last.includes(`"kind":"${kind}"`));
    },
    'the apiserver tells of the fields of both kinds',
    SCHEMA_WITHIN_MS,
    () => last.slice(0, 2_000),
  );
}

test('K1: no field of a status is lost, and a write of the object leaves it as it is', async () => {
  await storeBoth();
  await server.admin.patch(reference('Member', 'alice'), { metadata: { labels: { of: 'alice' } }, status: null });
  assert.deepEqual((await server.admin.find(reference('Member', 'alice')))?.status, MEMBER_STATUS);
  assert.deepEqual((await server.admin.find(reference('Collective', 'photos')))?.status, COLLECTIVE_STATUS);
});

test('K1: the generation counts changes of the spec and not of the status', async () => {
  await storeBoth();
  const { generation = 0 } = (await server.admin.find(reference('Member', 'alice')))?.metadata ?? {};
  const status = { status: { observedGeneration: generation, nodesReady: '2/2' } };
  assert.equal(
    (await server.admin.patch(reference('Member', 'alice'), status, 'status')).metadata.generation,
    generation,
  );
  const change = { spec: { maintenance: { paused: true } } };
  assert.equal((await server.admin.patch(reference('Member', 'alice'), change)).metadata.generation, generation + 1);
  await server.admin.remove(reference('Member', 'alice'));
});

test('K1: what kubectl prints of a member and of a collective', async () => {
  await storeBoth();
  assert.deepEqual(await printed('mem'), {
    head: ['NAME', 'READY', 'NODES', 'USED', 'CAPACITY', 'CERTS', 'VERSION', 'AGE'],
    row: ['alice', 'True', '1/2', '240Gi', '950Gi', 'rotating', '0.1.0'],
  });
  const { head, row } = await printed('member', '-o', 'wide');
  assert.deepEqual(head.slice(7), ['REASON', 'COLLECTIVE', 'TRUST-DOMAIN', 'CA', 'ENDPOINT', 'AGE']);
  assert.deepEqual(row.slice(7), ['Serving', 'photos', 'alice.photos.example', '2', '192.0.2.7:31742']);
  assert.deepEqual(await printed('col'), {
    head: ['NAME', 'READY', 'MEMBERS', 'USED', 'CAPACITY', 'DOMAIN', 'AGE'],
    row: ['photos', 'True', '1/2', '240Gi', '950Gi', 'photos.example'],
  });
});

test('K1: the category collective-storage is both kinds, one is had by its name, and kubectl explains each field', async () => {
  await storeBoth();
  const names = await kubectl.run('get', 'collective', '-A', '-o', 'name');
  assert.match(names, /^collective\.collective\.storage\/photos$/m);
  const named = await kubectl.run('get', 'collective', 'photos', '-n', NAMESPACE, '-o', 'name');
  assert.equal(named.trim(), 'collective.collective.storage/photos');
  const all = await kubectl.run('api-resources', '--categories=collective-storage', '-o', 'name');
  assert.deepEqual(all.trim().split('\n').sort(), ['collectives.collective.storage', 'members.collective.storage']);
  await publishesSchema();
  assert.match(
    await kubectl.run('explain', 'member.spec.nodePools.capacity'),
    /Size of the volume of each node; only grows/,
  );
});

test('K1: the apiserver writes only defaults that will never change', async () => {
  await server.admin.apply({
    ...reference('Member', 'plain'),
    spec: {
      collectiveRef: { name: 'photos' },
      nodePools: [{ name: 'disks', replicas: 1, capacity: '1Gi' }],
      exposure: {},
      users: [{ name: 'laptop' }],
    },
  });
  assert.deepEqual((await server.admin.find(reference('Member', 'plain')))?.spec, {
    collectiveRef: { name: 'photos' },
    nodePools: [{ name: 'disks', replicas: 1, capacity: '1Gi' }],
    deletionPolicy: 'Retain',
    exposure: { type: 'ClusterIP' },
    users: [{ name: 'laptop', identity: 'Squashed' }],
  });
});

test('K1: two field managers may each own a pool and a user of one member', async () => {
  const spec = (pool: string, user: string): object => ({
    collectiveRef: { name: 'photos' },
    nodePools: [{ name: pool, replicas: 1, capacity: '1Gi' }],
    users: [{ name: user }],
  });
  const shared = reference('Member', 'shared');
  await server.admin.apply({ ...shared, spec: spec('disks', 'laptop') });
  await server.admin.apply({ ...shared, spec: spec('more', 'phone') }, { fieldManager: 'other' });
  const seen = (await server.admin.find(shared))?.spec as MemberSpec;
  assert.deepEqual(
    seen.nodePools?.map(({ name }) => name),
    ['disks', 'more'],
  );
  assert.deepEqual(
    seen.users?.map(({ name }) => name),
    ['laptop', 'phone'],
  );
});

test('K1: the largest member that the bounds allow is judged, and again when it changes', async () => {
  const path = (index: number): string => `/${String(index).padStart(254, 'r')}`;
  const realms = Array.from({ length: 32 }, (_, index) => ({ path: path(index) }));
  const largest = (capacity: string): MemberSpec => ({
    collectiveRef: { name: 'photos' },
    coordinator: { storage: { size: '10Gi' } },
    nodePools: Array.from({ length: 16 }, (_, index) => ({ name: `pool${index}`, replicas: 64, capacity })),
    exposure: {
      addresses: [
        { name: 'coordinator', host: 'h'.repeat(253) },
        ...Array.from({ length: 1024 }, (_, index) => ({
          name: `pool${index % 16}-${Math.floor(index / 16)}`,
          host: 'h'.repeat(253),
        })),
      ],
    },
    // 64 of 256, since an object of Kubernetes has at most some 1.5 MB.
    users: Array.from({ length: 64 }, (_, index) => ({
      name: `user-${index}`.padEnd(40, 'u'),
      secretName: `secret-${index}`.padEnd(253, 's'),
      realms,
    })),
  });
  const member = reference('Member', 'largest');
  await server.admin.apply({ ...member, spec: largest('1Gi') }, { strict: true });
  await server.admin.apply({ ...member, spec: largest('2Gi') }, { strict: true });
  await assert.rejects(server.admin.apply({ ...member, spec: largest('1Gi') }), /only grows: volumes cannot shrink/);
  const many = Array.from({ length: 256 }, (_, index) => ({ name: `user-${index}`, realms: [{ path: path(index) }] }));
  await server.admin.apply({ ...member, spec: { ...largest('2Gi'), users: many } }, { strict: true });
  await server.admin.remove(member);
});

/** The head of a table and its first row without the age, which grows while we look. */
async function printed(kind: string, ...flags: string[]): Promise<{ head: readonly string[]; row: readonly string[] }> {
  const [head = [], row = []] = await kubectl.table('get', kind, '-n', NAMESPACE, ...flags);
  assert.match(row.at(-1) ?? '', /^[0-9]+[smh]/);
  return { head, row: row.slice(0, -1) };
}
