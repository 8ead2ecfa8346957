import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../kube/kube-object.ts';
import { type ExampleNode, exampleObjects, NOW_MS } from './example-picture.ts';
import { planRollout, type RolloutInput } from './plan-rollout.ts';

const old = { podHash: 'old' };
const healthy = { isHealthy: true, why: '' };

interface Case {
  readonly name: string;
  readonly nodes: readonly ExampleNode[];
  readonly coordinator?: ExampleNode;
  readonly given?: Partial<RolloutInput>;
  readonly removes: readonly string[];
  readonly reason: string;
}

const cases: readonly Case[] = [
  { name: 'nothing is replaced while all follow', nodes: [{ name: 'disk-0' }], removes: [], reason: 'UpToDate' },
  {
    name: 'K2: one node at a time, in their order',
    nodes: [
      { name: 'disk-0', ...old },
      { name: 'disk-1', ...old },
    ],
    removes: ['pod-disk-0'],
    reason: 'RollingOut',
  },
  {
    name: 'K2: the next one waits until the last is ready',
    nodes: [
      { name: 'disk-0', isReady: false },
      { name: 'disk-1', ...old },
    ],
    removes: [],
    reason: 'WaitingForPods',
  },
  {
    name: 'K2: and while a pod is on its way',
    nodes: [
      { name: 'disk-0', without: ['pod'] },
      { name: 'disk-1', ...old },
    ],
    removes: [],
    reason: 'WaitingForPods',
  },
  {
    name: 'K2: and until every chunk has its replicas again',
    nodes: [{ name: 'disk-0' }, { name: 'disk-1', ...old }],
    given: { replication: { isHealthy: false, why: 'chunks lack replicas' } },
    removes: [],
    reason: 'WaitingForReplication',
  },
  {
    name: 'the coordinator goes last',
    nodes: [{ name: 'disk-0' }, { name: 'disk-1' }],
    coordinator: { name: 'coordinator', ...old },
    removes: ['pod-coordinator'],
    reason: 'RollingOut',
  },
  {
    name: 'the coordinator waits for the last node',
    nodes: [{ name: 'disk-0' }, { name: 'disk-1', ...old }],
    coordinator: { name: 'coordinator', ...old },
    removes: ['pod-disk-1'],
    reason: 'RollingOut',
  },
  {
    name: 'what does not run anyway is replaced at once, whatever the replicas',
    nodes: [
      { name: 'disk-0', ...old },
      { name: 'disk-1', ...old, isReady: false },
    ],
    given: { replication: { isHealthy: false, why: 'chunks lack replicas' } },
    removes: ['pod-disk-1'],
    reason: 'RollingOut',
  },
  {
    name: 'K2: nodes that run and are unready for want of their coordinator go one at a time: they serve reads',
    nodes: [
      { name: 'disk-0', isReady: false, isRunning: true },
      { name: 'disk-1', ...old, isReady: false, isRunning: true },
      { name: 'disk-2', ...old, isReady: false, isRunning: true },
    ],
    coordinator: { name: 'coordinator', isReady: false },
    removes: [],
    reason: 'WaitingForPods',
  },
  {
    name: 'K2: a coordinator that is not ready goes before nodes that wait for it',
    nodes: [
      { name: 'disk-0', isReady: false, isRunning: true },
      { name: 'disk-1', ...old, isReady: false, isRunning: true },
    ],
    coordinator: { name: 'coordinator', ...old, isReady: false, isRunning: true },
    removes: ['pod-coordinator'],
    reason: 'RollingOut',
  },
  {
    name: 'K2: what does not run at all goes first, whoever else waits',
    nodes: [
      { name: 'disk-0', isReady: false, isRunning: true },
      { name: 'disk-1', ...old, isReady: false, isRunning: true },
      { name: 'disk-2', ...old, isReady: false },
    ],
    coordinator: { name: 'coordinator', isReady: false, isRunning: true },
    removes: ['pod-disk-2'],
    reason: 'RollingOut',
  },
  {
    name: 'a node that runs and is not ready is replaced when all that follow the template are',
    nodes: [
      { name: 'disk-0', ...old },
      { name: 'disk-1', ...old, isReady: false, isRunning: true },
      { name: 'disk-2' },
    ],
    given: { replication: { isHealthy: false, why: 'chunks lack replicas' } },
    removes: ['pod-disk-1'],
    reason: 'RollingOut',
  },
  {
    name: 'paused: nothing is replaced, and it is told',
    nodes: [{ name: 'disk-0', ...old, isReady: false }],
    given: { paused: true },
    removes: [],
    reason: 'Paused',
  },
  {
    name: 'a node counts as ready only after the time that its StatefulSet asks for',
    nodes: [{ name: 'disk-0' }, { name: 'disk-1', ...old }],
    given: { nowMs: Date.parse('2026-11-20T11:00:04Z') },
    removes: [],
    reason: 'WaitingForPods',
  },
];

for (const { name, nodes, coordinator = { name: 'coordinator' }, given = {}, removes, reason } of cases) {
  test(name, () => {
    const plan = planRollout({ ...input(nodes, coordinator), ...given });
    assert.deepEqual(
      plan.removals.map(({ uid }) => uid),
      removes,
    );
    assert.equal(plan.upgrading.reason, reason);
    assert.equal(plan.upgrading.status, reason === 'UpToDate' ? 'False' : 'True');
  });
}

test('a pod that is ending is not deleted again', () => {
  const { pods, ...rest } = input([{ name: 'disk-0', ...old }], { name: 'coordinator' });
  const [name, pod] = [...pods].find(([key]) => key === 'alice-disk-0-0') ?? ['', undefined];
  assert.ok(pod !== undefined);
  const ending = { ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2026-11-20T12:00:00Z' } };
  const plan = planRollout({ ...rest, pods: new Map([...pods, [name, ending]]) });
  assert.deepEqual(plan.removals, []);
});

test('K2: a pod that does not end, since its machine is silent, is not in the way of what mends the coordinator', () => {
  const { pods, ...rest } = input([{ name: 'disk-0', ...old, isReady: false }], {
    name: 'coordinator',
    ...old,
    isReady: false,
  });
  const pod = pods.get('alice-disk-0-0') as KubeObject;
  const ending = { ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2026-11-20T12:00:00Z' } };
  const plan = planRollout({ ...rest, pods: new Map([...pods, [pod.metadata.name, ending]]) });
  assert.deepEqual(
    plan.removals.map(({ uid }) => uid),
    ['pod-coordinator'],
  );
});

test('K3: a pod that expects data which was given up is replaced', () => {
  const { pods, ...rest } = input([], { name: 'coordinator', isReady: false });
  const pod = pods.get('alice-coordinator-0') as KubeObject;
  const spec = { containers: [{ name: 'coordinator', env: [{ name: 'COLLECTIVE_EXPECT_DATA', value: 'true' }] }] };
  const plan = planRollout({ ...rest, pods: new Map([[pod.metadata.name, { ...pod, spec }]]) });
  assert.deepEqual(
    plan.removals.map(({ uid }) => uid),
    ['pod-coordinator'],
  );
});

function input(nodes: readonly ExampleNode[], coordinator: ExampleNode): RolloutInput {
  const all = exampleObjects(nodes);
  const own = exampleObjects([coordinator]);
  const sets = [...all.statefulSets.values()].filter(({ metadata }) => metadata.name !== 'alice-coordinator');
  const pod = own.pods.get('alice-coordinator-0');
  const set = own.statefulSets.get('alice-coordinator');
  assert.ok(pod !== undefined && set !== undefined);
  return {
    nowMs: NOW_MS,
    nodes: sets,
    coordinator: set,
    pods: new Map([...all.pods, ['alice-coordinator-0', pod]]),
    replication: healthy,
    paused: false,
  };
}
