/** The end of a Member: what it leaves with Retain, and that it is found again; what it takes with Delete (K3). */
import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MemberStatus } from '@collective/client';
import { METADATA_FILE } from '@collective/coordinator/member-folder';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { until } from '../until.ts';
import { conditionOf, type KubeObject } from './api-client.ts';
import { MemberWorld, NAMESPACE, pool } from './member-world.ts';

const GONE_WITHIN_MS = 120_000;
const FILE_BYTES = 9 * 1024 * 1024 + 17;
const KINDS = [
  ['apps/v1', 'StatefulSet'],
  ['v1', 'Service'],
  ['v1', 'Pod'],
  ['v1', 'PersistentVolumeClaim'],
  ['v1', 'ServiceAccount'],
  ['v1', 'Secret'],
  ['policy/v1', 'PodDisruptionBudget'],
  ['networking.k8s.io/v1', 'NetworkPolicy'],
  ['cert-manager.io/v1', 'Certificate'],
  ['cert-manager.io/v1', 'Issuer'],
] as const;

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
});
after(() => running.disposeAsync());

/** All that is left of a member, as "Kind name". */
async function leftOf(member: string): Promise<string[]> {
  const found: string[] = [];
  for (const [apiVersion, kind] of KINDS) {
    for (const { metadata } of await world.server.admin.list(apiVersion, kind, NAMESPACE))
      if (metadata.labels?.['collective.storage/member'] === member) found.push(`${kind} ${metadata.name}`);
  }
  return found.sort();
}

async function untilLeft(member: string, expected: readonly string[]): Promise<void> {
  let left: readonly string[] = [];
  await until(
    async () => {
      left = await leftOf(member);
      return JSON.stringify(left) === JSON.stringify(expected);
    },
    `of ${member} is left what should be`,
    GONE_WITHIN_MS,
    () => left.join('\n'),
  );
}

async function gone(member: string): Promise<void> {
  const isGone = async (): Promise<boolean> => (await world.server.admin.find(world.member(member))) === undefined;
  await until(isGone, `Member ${member} is gone`, GONE_WITHIN_MS);
}

test('K3: with Retain volumes and authority stay, and a Member of that name finds them again', async () => {
  await world.applyMember('alice', { nodePools: [pool(1)] });
  const first = await world.ready('alice');
  const trustOf = ({ status }: KubeObject) => (status as { trustBundleHash: string }).trustBundleHash;
  let epoch: MemberStatus['epoch'];
  {
    await using session = await world.userSession('alice');
    await session.files.write('/kept', seededBytes(1, FILE_BYTES));
    ({ epoch } = await session.admin.status());
  }

  await world.server.admin.remove(world.member('alice'));
  await gone('alice');
  // One that is left would be in the way of the first of the next Certificate of that name, for up to a minute.
  const requests = await world.server.admin.list('cert-manager.io/v1', 'CertificateRequest', NAMESPACE);
  assert.deepEqual(
    requests.map(({ metadata }) => metadata.name),
    ['alice-ca-g1-1'],
  );
  const kept = [
    'Certificate alice-ca-g1',
    'Issuer alice-ca-g1',
    'PersistentVolumeClaim alice-coordinator',
    'PersistentVolumeClaim alice-disk-0',
    'Secret alice-ca-g1',
  ];
  let left: readonly string[] = [];
  await until(
    async () => {
      left = (await leftOf('alice')).filter((each) => each !== 'Issuer alice-self-signed');
      return JSON.stringify(left) === JSON.stringify(kept);
    },
    'what is kept is left',
    GONE_WITHIN_MS,
    () => left.join('\n'),
  );

  await world.applyMember('alice', { nodePools: [pool(1)] });
  const again = await world.ready('alice');
  assert.equal(trustOf(again), trustOf(first), 'the same authority');
  await using session = await world.userSession('alice');
  assert.equal(await sha256Of(session.files.read('/kept')), await sha256Of(seededBytes(1, FILE_BYTES)));
  const status = await session.admin.status();
  assert.equal(status.epoch.generation, epoch.generation, 'the same metadata');
  assert.ok(status.epoch.start > epoch.start);
});

test('K3: a Member that finds the volume of its coordinator empty begins nothing, until the loss is accepted', async () => {
  await world.applyMember('erin', { nodePools: [pool(1)] });
  await world.ready('erin');
  await world.server.admin.remove(world.member('erin'));
  await gone('erin');
  const claim = await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'erin-coordinator'));
  const uid = claim?.metadata.uid ?? '';
  const folder = world.kubelet.volumeFolder(uid);
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });

  await world.applyMember('erin', { nodePools: [pool(1)] });
  const refused = (): boolean => world.kubelet.podLog('erin-coordinator-0').includes('is expected there');
  await until(refused, 'the coordinator says what it misses', GONE_WITHIN_MS);
  const names = (): string[] => readdirSync(folder, { recursive: true }).map(String);
  assert.ok(!names().some((name) => name.endsWith(METADATA_FILE)), `${names()}`);
  const accept = { metadata: { annotations: { 'collective.storage/accept-lost-volume': uid } } };
  await world.server.admin.patch(world.member('erin'), accept);
  await world.whenMember(
    'erin',
    (erin) => conditionOf(erin, 'CoordinatorReady').status === 'True',
    'serves anew',
    GONE_WITHIN_MS,
  );
  assert.ok(
    names().some((name) => name.endsWith(METADATA_FILE)),
    `${names()}`,
  );
  await world.server.admin.patch(world.member('erin'), { spec: { deletionPolicy: 'Delete' } });
  await world.server.admin.remove(world.member('erin'));
  await gone('erin');
});

test('K3: with Delete nothing is left', async () => {
  await world.applyMember('alice', { nodePools: [pool(1)], deletionPolicy: 'Delete' });
  await world.ready('alice');
  await world.server.admin.remove(world.member('alice'));
  await gone('alice');
  await untilLeft('alice', []);
});

test('K3: a Member that never came up can be deleted, also with Delete', async () => {
  await world.applyMember('bob', { collectiveRef: { name: 'nobody' }, deletionPolicy: 'Delete' });
  const bob = await world.whenMember('bob', (each) => conditionOf(each, 'Stalled').status === 'True', 'is stalled');
  assert.equal(conditionOf(bob, 'Stalled').reason, 'CollectiveNotFound');
  await world.server.admin.remove(world.member('bob'));
  await gone('bob');
});

test('K3: with Delete a Member whose Collective went first asks its coordinator all the same', async () => {
  await world.applyCollective('music', 'music.test');
  const spec = { collectiveRef: { name: 'music' }, nodePools: [pool(1)], deletionPolicy: 'Delete' };
  await world.applyMember('dave', spec);
  await world.ready('dave');
  await world.server.admin.remove(world.object('collective.storage/v1alpha1', 'Collective', 'music'));
  await world.whenMember('dave', (each) => conditionOf(each, 'Stalled').reason === 'CollectiveNotFound', 'is stalled');
  await world.server.admin.remove(world.member('dave'));
  await gone('dave');
  await untilLeft('dave', []);
});

test('K3: with Delete a coordinator that cannot be asked holds its volumes until somebody insists', async () => {
  await world.applyMember('carol', { nodePools: [pool(1)], deletionPolicy: 'Delete' });
  await world.ready('carol');
  await world.applyMember('carol', {
    nodePools: [pool(1)],
    deletionPolicy: 'Delete',
    maintenance: { paused: true },
  });
  // Its coordinator is gone with its StatefulSet, and the pause keeps the operator from making it again.
  await world.whenMember('carol', (each) => conditionOf(each, 'Reconciling').reason === 'Paused', 'is paused');
  await world.server.admin.remove(world.object('apps/v1', 'StatefulSet', 'carol-coordinator'));
  const pod = world.object('v1', 'Pod', 'carol-coordinator-0');
  const isGone = async (): Promise<boolean> => (await world.server.admin.find(pod)) === undefined;
  await until(isGone, 'the pod of the coordinator is gone', GONE_WITHIN_MS);
  await world.server.admin.remove(world.member('carol'));
  await world.whenMember('carol', (each) => conditionOf(each, 'Stalled').reason === 'CoordinatorSilent', 'is held');
  assert.ok((await leftOf('carol')).includes('PersistentVolumeClaim carol-coordinator'));
  const annotations = { 'collective.storage/force-delete': 'true' };
  await world.server.admin.patch(world.member('carol'), { metadata: { annotations } });
  await gone('carol');
  await untilLeft('carol', []);
});
