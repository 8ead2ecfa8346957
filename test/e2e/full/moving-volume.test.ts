/** That a volume of the lab's default class follows its pod to another node, and grows where nobody has it mounted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCondition } from '../../apiserver/api-client.ts';
import { until } from '../../until.ts';
import { clusterOfThisFile } from '../cluster.ts';
import { keeper, service } from '../lab-pods.ts';

const LEVEL_WITHIN_MS = 90_000;

const cluster = clusterOfThisFile({ namespace: 'moving-volume' });
const reference = (apiVersion: string, kind: string, name: string) => ({
  apiVersion,
  kind,
  metadata: { name, namespace: cluster.namespace },
});

test('a volume of the class "shared" follows its pod to another node, with what was written', async () => {
  const name = 'mover';
  await cluster.apply(service(name, 'headless'));
  await cluster.apply(keeper(name, cluster.image, ['shared']));
  const at = async () => {
    await cluster.kubectl(['rollout', 'status', `statefulset/${name}`, `--timeout=${LEVEL_WITHIN_MS}ms`]);
    const { spec } = (await cluster.api.find(reference('v1', 'Pod', `${name}-0`))) as unknown as {
      spec: { nodeName: string };
    };
    return spec.nodeName;
  };
  const first = await at();
  const elsewhere = (await cluster.nodes()).find((node) => node.name !== first && !node.isControlPlane)?.name ?? '';
  await cluster.apply(
    keeper(name, cluster.image, ['shared'], { nodeSelector: { 'kubernetes.io/hostname': elsewhere } }),
  );
  assert.equal(await at(), elsewhere);
  const held = (await cluster.api.find(reference('v1', 'PersistentVolumeClaim', `shared-${name}-0`))) as unknown as {
    spec: { volumeName: string };
  };
  const attachments = (await cluster.api.list('storage.k8s.io/v1', 'VolumeAttachment')) as unknown as readonly {
    spec: { nodeName: string; source: { persistentVolumeName: string } };
    status: { attached: boolean };
  }[];
  const where = attachments.filter(({ spec }) => spec.source.persistentVolumeName === held.spec.volumeName);
  assert.deepEqual(
    where.map(({ spec, status }) => [spec.nodeName, status.attached]),
    [[elsewhere, true]],
    'a volume is attached to one node at a time',
  );
  const starts = await cluster.kubectl([
    'exec',
    `${name}-0`,
    '--',
    'node',
    '-p',
    `require('fs').readFileSync('/volumes/shared/starts', 'utf8')`,
  ]);
  assert.deepEqual(starts.trim().split('\n'), [`${name}-0`, `${name}-0`]);
});

test('a volume that is mounted nowhere grows when it is mounted next, and its claim says so', async () => {
  await cluster.kubectl(['scale', 'statefulset/mover', '--replicas=0']);
  const pod = reference('v1', 'Pod', 'mover-0');
  await until(async () => (await cluster.api.find(pod)) === undefined, 'the pod is gone', LEVEL_WITHIN_MS);
  const idle = reference('v1', 'PersistentVolumeClaim', 'shared-mover-0');
  await cluster.api.patch(idle, { spec: { resources: { requests: { storage: '96Mi' } } } });
  const pending = await cluster.api.when(
    idle,
    (one) => hasCondition(one, 'FileSystemResizePending'),
    'says that it waits',
    LEVEL_WITHIN_MS,
  );
  assert.equal((pending.status as { capacity: { storage: string } }).capacity.storage, '64Mi');
  await cluster.kubectl(['scale', 'statefulset/mover', '--replicas=1']);
  await cluster.api.when(
    idle,
    (one) =>
      (one.status as { capacity: { storage: string } }).capacity.storage === '96Mi' &&
      !hasCondition(one, 'FileSystemResizePending'),
    'has grown',
    LEVEL_WITHIN_MS,
  );
});
