/** That the lab holds what tests of the operator lean on: volumes of two classes, names, ports, and the rules for pods. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { labFolder } from '@collective/hack/kind/lab';
import { ApiError, type KubeObject } from '../apiserver/api-client.ts';
import { until } from '../until.ts';
import { clusterOfThisFile } from './cluster.ts';
import { type KeeperFacts, keeper, podSpec, service, USER } from './lab-pods.ts';

const LEVEL_WITHIN_MS = 90_000;
const KEEPER = 'keeper';

const cluster = clusterOfThisFile({ namespace: 'lab' });
const reference = (apiVersion: string, kind: string, name: string) => ({
  apiVersion,
  kind,
  metadata: { name, namespace: cluster.namespace },
});
const claim = (storageClass: string) => reference('v1', 'PersistentVolumeClaim', `${storageClass}-${KEEPER}-0`);
const pod = () => reference('v1', 'Pod', `${KEEPER}-0`);

/** Through the port of a node, from this machine. */
async function ask<Answer>(address: string, query = ''): Promise<Answer> {
  const { spec } = (await cluster.api.find(reference('v1', 'Service', `${KEEPER}-port`))) as unknown as {
    spec: { ports: [{ nodePort: number }] };
  };
  const answer = await fetch(`http://${address}:${spec.ports[0].nodePort}/${query}`, {
    signal: AbortSignal.timeout(5_000),
  });
  return (await answer.json()) as Answer;
}

async function askKeeper(): Promise<KeeperFacts> {
  const [node] = await cluster.nodes();
  let facts: KeeperFacts | undefined;
  await until(
    async () => {
      facts = await ask<KeeperFacts>(node?.address ?? '').catch(() => undefined);
      return facts !== undefined;
    },
    'the keeper answers',
    LEVEL_WITHIN_MS,
  );
  assert.ok(facts !== undefined);
  return facts;
}

async function whenReady(): Promise<void> {
  await cluster.kubectl(['rollout', 'status', `statefulset/${KEEPER}`, `--timeout=${LEVEL_WITHIN_MS}ms`]);
}

async function capacityOf(storageClass: string): Promise<string> {
  const { status } = (await cluster.api.find(claim(storageClass))) as unknown as {
    status: { capacity: { storage: string } };
  };
  return status.capacity.storage;
}

test('a namespace under "restricted" takes no pod that asks for more', async () => {
  const spec = { ...podSpec(cluster.image, []), hostNetwork: true };
  const greedy: KubeObject = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'greedy' }, spec };
  await assert.rejects(cluster.apply(greedy), (error) => {
    assert.ok(error instanceof ApiError && error.status === 403);
    assert.match(error.message, /violates PodSecurity "restricted/);
    return true;
  });
});

test('a StatefulSet without rights writes to volumes of both classes', async () => {
  await cluster.apply(service(KEEPER, 'headless'));
  await cluster.apply({ ...service(KEEPER, 'NodePort'), metadata: { name: `${KEEPER}-port` } });
  await cluster.apply(keeper(KEEPER, cluster.image, ['shared', 'standard']));
  await whenReady();
  const { volumes } = await askKeeper();
  for (const name of ['shared', 'standard']) {
    assert.deepEqual(volumes[name]?.starts, [`${KEEPER}-0`], name);
    assert.equal(volumes[name]?.uid, USER, name);
  }
  // The kubelet has given it to the group of the pod; without that only root could write.
  assert.deepEqual(volumes.shared?.folder, { gid: USER, mode: 0o2775 });
});

test('a port of a Service is reached from this machine through every node of the cluster', async () => {
  const nodes = await cluster.nodes();
  assert.equal(nodes.length, 3);
  for (const { address } of nodes) assert.equal((await ask<KeeperFacts>(address)).pod, `${KEEPER}-0`);
});

test('a pod finds services and other pods by their names', async () => {
  const [node] = await cluster.nodes();
  const lookup = (name: string) => ask<{ address?: string; code?: string }>(node?.address ?? '', `?lookup=${name}`);
  const found = (await cluster.api.find(reference('v1', 'Service', `${KEEPER}-port`))) as unknown as {
    spec: { clusterIP: string };
  };
  const { status } = (await cluster.api.find(pod())) as unknown as { status: { podIP: string } };
  assert.equal((await lookup(`${KEEPER}-port`)).address, found.spec.clusterIP);
  assert.equal((await lookup(`${KEEPER}-port.${cluster.namespace}.svc`)).address, found.spec.clusterIP);
  assert.equal((await lookup(`${KEEPER}-0.${KEEPER}.${cluster.namespace}.svc.cluster.local`)).address, status.podIP);
  assert.equal((await lookup('nobody-is-called-so')).code, 'ENOTFOUND');
});

test('a volume of the class "shared" grows under a running pod; one of "standard" is refused', async () => {
  const before = await cluster.api.find(pod());
  assert.equal(await capacityOf('shared'), '64Mi');
  await cluster.api.patch(claim('shared'), { spec: { resources: { requests: { storage: '128Mi' } } } });
  const grown = await cluster.api.when(
    claim('shared'),
    ({ status }) => (status as { capacity: { storage: string } }).capacity.storage === '128Mi',
    'has grown',
    LEVEL_WITHIN_MS,
  );
  assert.deepEqual((grown.status as { conditions?: unknown[] }).conditions ?? [], [], 'nothing is pending any more');
  const after = await cluster.api.find(pod());
  assert.equal(after?.metadata.uid, before?.metadata.uid);
  assert.deepEqual((await askKeeper()).volumes.shared?.starts, [`${KEEPER}-0`]);

  await assert.rejects(
    cluster.api.patch(claim('standard'), { spec: { resources: { requests: { storage: '128Mi' } } } }),
    /only dynamically provisioned pvc can be resized/,
  );
});

test('claims outlive their StatefulSet; a deleted claim takes its volume along', async () => {
  const { spec } = (await cluster.api.find(claim('shared'))) as unknown as { spec: { volumeName: string } };
  const volume = { apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name: spec.volumeName } };
  const folder = join(labFolder(), 'shared-volumes', spec.volumeName);
  await cluster.kubectl(['delete', 'statefulset', KEEPER, '--wait', '--cascade=foreground']);
  assert.ok(existsSync(join(folder, 'starts')));
  await cluster.api.remove(claim('shared'));
  await cluster.api.remove(claim('standard'));
  await until(async () => (await cluster.api.find(volume)) === undefined, 'the volume is gone', LEVEL_WITHIN_MS);
  await until(() => !existsSync(folder), 'its bytes are gone', LEVEL_WITHIN_MS);
  await until(
    async () => !(await claimsOfVolumes()).includes(`${cluster.namespace}/standard-${KEEPER}-0`),
    'the volume of the other class is gone',
    LEVEL_WITHIN_MS,
  );
});

async function claimsOfVolumes(): Promise<string[]> {
  const volumes = (await cluster.api.list('v1', 'PersistentVolume')) as unknown as readonly {
    spec: { claimRef?: { namespace: string; name: string } };
  }[];
  return volumes.map(({ spec: { claimRef } }) => `${claimRef?.namespace}/${claimRef?.name}`);
}
