/**
 * What a real cluster does not let happen: images that no kubelet can pull, a class of volumes that is missing, quotas that are
 * too small. Each is told in a condition and an event that say what to do, takes nothing away from what runs, and ends by itself
 * when it is mended.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { conditionOf, hasCondition, type KubeObject } from '../../apiserver/api-client.ts';
import { until } from '../../until.ts';
import { aliceOfThisFile } from '../members-of-file.ts';
import { SteadyWriter } from '../steady-writer.ts';

const TOLD_WITHIN_MS = 180_000;
/** The cluster's own controllers try again after pauses that double. */
const MENDED_WITHIN_MS = 300_000;
const NO_CLASS = 'cluster-trouble-none';
const STORAGE_CLASS = { apiVersion: 'storage.k8s.io/v1', kind: 'StorageClass', metadata: { name: NO_CLASS } };

const { cluster, alice } = aliceOfThisFile('cluster-trouble');
after(async () => await cluster.kubectl(['delete', 'storageclass', NO_CLASS, '--ignore-not-found']));

const disks = (replicas: number) => ({ name: 'disks', replicas, capacity: '2Gi' });

async function told(type: string, reason: string): Promise<string> {
  const seen = await alice.when(
    (member) => conditionOf(member, type).reason === reason,
    `says ${type} ${reason}`,
    TOLD_WITHIN_MS,
  );
  await until(
    async () => (await cluster.api.list('events.k8s.io/v1', 'Event', cluster.namespace)).some(isEventOf(reason)),
    `there is an event ${reason}`,
    TOLD_WITHIN_MS,
  );
  return conditionOf(seen, type).message;
}

function isEventOf(reason: string) {
  return (event: KubeObject): boolean =>
    event.reason === reason &&
    event.type === 'Warning' &&
    (event.regarding as { name?: string } | undefined)?.name === alice.name;
}

async function settled(): Promise<void> {
  await alice.whenReady(MENDED_WITHIN_MS);
  await alice.when(
    (member) => hasCondition(member, 'Reconciling', 'False') && hasCondition(member, 'ReplicationHealthy'),
    'has settled',
    MENDED_WITHIN_MS,
  );
}

test('K2: an image that cannot be pulled is told and stops at one node: a writer goes on, and another image mends it', async () => {
  await settled();
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await writer.progress();
  await alice.apply({ image: 'registry.invalid/collective:1' });
  const message = await writer.during(told('Ready', 'ImageCannotBePulled'));
  assert.match(
    message,
    /image registry\.invalid\/collective:1 cannot be pulled \((ErrImagePull|ImagePullBackOff)\).*imagePullSecrets/,
  );
  const pods = await cluster.api.list('v1', 'Pod', cluster.namespace);
  const outdated = pods.filter(({ spec }) => JSON.stringify(spec).includes('registry.invalid'));
  assert.equal(outdated.length, 1, 'every other pod is as it was');
  await writer.progress();
  await alice.apply();
  await writer.during(settled());
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
});

test('a StorageClass that is missing is told, and the pool comes up once somebody makes the class', async () => {
  const [shared] = (await cluster.api.list('storage.k8s.io/v1', 'StorageClass')).filter(
    ({ metadata }) => metadata.name === 'shared',
  );
  assert.ok(shared !== undefined);
  await alice.apply({
    nodePools: [disks(2), { name: 'more', replicas: 1, capacity: '1Gi', storageClass: NO_CLASS }],
  });
  assert.match(await told('Stalled', 'StorageClassMissing'), new RegExp(`Create the StorageClass ${NO_CLASS}`));
  const { provisioner, parameters, volumeBindingMode, allowVolumeExpansion } = shared;
  await cluster.api.apply({ ...STORAGE_CLASS, provisioner, parameters, volumeBindingMode, allowVolumeExpansion });
  await settled();
  const { nodesReady } = (await alice.whenReady()).status as { nodesReady: string };
  assert.equal(nodesReady, '3/3');
});

test('quotas of pods and of storage that are exceeded are told, and larger ones mend it', async () => {
  const quota = (hard: Record<string, string>): KubeObject => ({
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    metadata: { name: 'small' },
    spec: { hard },
  });
  const pools = (replicas: number) => ({
    nodePools: [disks(replicas), { name: 'more', replicas: 1, capacity: '1Gi', storageClass: NO_CLASS }],
  });
  for (const [grown, hard] of [
    [3, { pods: '4' }],
    [4, { 'requests.storage': '8Gi' }],
  ] as const) {
    await cluster.apply(quota(hard));
    await cluster.api.when(
      { ...quota(hard), metadata: { name: 'small', namespace: cluster.namespace } },
      ({ status }) =>
        Object.keys(hard).every((name) => name in ((status as { used?: object } | undefined)?.used ?? {})),
      'counts what there is',
    );
    await alice.apply(pools(grown));
    assert.match(await told('Stalled', 'QuotaExceeded'), /exceeded quota: small.*Raise the quota/);
    await cluster.kubectl(['delete', 'resourcequota', 'small']);
    await settled();
    await cluster.kubectl(['delete', 'events', '--all']);
  }
  const { nodesReady } = (await alice.whenReady()).status as { nodesReady: string };
  assert.equal(nodesReady, '5/5');
});

test('a node that no machine has room for is told, and one that asks for less comes up', async () => {
  const huge = (cpu: string) => ({
    nodePools: [disks(4), { name: 'huge', replicas: 1, capacity: '1Gi', resources: { requests: { cpu } } }],
  });
  await alice.apply(huge('900'));
  assert.match(await told('Ready', 'Unschedulable'), /finds no machine: .*Insufficient cpu.*Look at its requests/);
  await alice.apply(huge('10m'));
  await settled();
});
