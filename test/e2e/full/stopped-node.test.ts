/**
 * A node of the cluster that loses its power. Kubernetes does not know whether its pods still run, so a StatefulSet gets no
 * second pod of the same name until somebody says that the node is out of service; then it comes up elsewhere with its volume.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { hasCondition } from '../../apiserver/api-client.ts';
import { until } from '../../until.ts';
import { clusterOfThisFile } from '../cluster.ts';
import { keeper, service } from '../lab-pods.ts';

const KEEPER = 'keeper';
const GRACE_SECONDS = 20;
/** The cluster counts a node as gone when it has been silent for 50 s; a machine under load takes longer over all of it. */
const NOTICED_WITHIN_MS = 180_000;
const MOVED_WITHIN_MS = 180_000;

const cluster = clusterOfThisFile({ namespace: 'stopped-node' });
const pod = () => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: `${KEEPER}-0`, namespace: cluster.namespace } });
let stopped = '';

after(async () => {
  if (stopped === '') return;
  await cluster.startNode(stopped);
  await cluster.unmarkOutOfService(stopped);
});

test('a pod of a stopped node comes back elsewhere with its volume once the node is said to be out of service', async () => {
  const tolerations = ['not-ready', 'unreachable'].map((name) => ({
    key: `node.kubernetes.io/${name}`,
    operator: 'Exists',
    effect: 'NoExecute',
    tolerationSeconds: GRACE_SECONDS,
  }));
  await cluster.apply(service(KEEPER, 'headless'));
  await cluster.apply(keeper(KEEPER, cluster.image, ['shared'], { tolerations }));
  const first = await cluster.api.when(pod(), (one) => hasCondition(one, 'Ready'), 'is ready', MOVED_WITHIN_MS);
  const nodeOf = (one: unknown): string => (one as { spec: { nodeName: string } }).spec.nodeName;

  stopped = nodeOf(first);
  await cluster.stopNode(stopped);
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: stopped } };
  await cluster.api.when(node, (one) => hasCondition(one, 'Ready', 'Unknown'), 'is missed', NOTICED_WITHIN_MS);
  const leaving = await cluster.api.when(
    pod(),
    ({ metadata }) => metadata.deletionTimestamp !== undefined,
    'is told to go',
    NOTICED_WITHIN_MS,
  );
  assert.equal(leaving.metadata.uid, first.metadata.uid, 'nobody may replace it yet');

  await cluster.markOutOfService(stopped);
  const second = await cluster.api.when(
    pod(),
    (one) => one.metadata.uid !== first.metadata.uid && hasCondition(one, 'Ready'),
    'runs elsewhere',
    MOVED_WITHIN_MS,
  );
  assert.notEqual(nodeOf(second), stopped);
  const read = `require('fs').readFileSync('/volumes/shared/starts', 'utf8')`;
  const starts = await cluster.kubectl(['exec', `${KEEPER}-0`, '--', 'node', '-p', read]);
  assert.deepEqual(starts.trim().split('\n'), [`${KEEPER}-0`, `${KEEPER}-0`]);
});

test('the node takes pods again once it runs and the mark is taken off', async () => {
  await cluster.startNode(stopped);
  await cluster.unmarkOutOfService(stopped);
  const back = stopped;
  stopped = '';
  const nodeSelector = { 'kubernetes.io/hostname': back };
  await cluster.apply(keeper(KEEPER, cluster.image, ['shared'], { nodeSelector }));
  await until(
    async () => {
      const one = await cluster.api.find(pod());
      return (one?.spec as { nodeName?: string } | undefined)?.nodeName === back && hasCondition(one ?? pod(), 'Ready');
    },
    'a pod runs on it',
    MOVED_WITHIN_MS,
  );
});
