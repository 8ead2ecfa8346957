import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOTATIONS } from '../api/group.ts';
import type { CoordinatorAnswer } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import { answered, type ExampleNode, exampleObjects, examplePicture, NOW_MS, silentFor } from './example-picture.ts';
import type { MemberPicture } from './picture.ts';
import { type NodesPlan, nodesToCount, planNodes } from './plan-nodes.ts';
import { shapeOf } from './shape.ts';

interface Given {
  readonly replicas?: number;
  /** Absent: the pool is not in the spec. */
  readonly pool?: string;
  readonly nodes?: readonly (ExampleNode | string)[];
  readonly drain?: string;
  readonly coordinator?: CoordinatorAnswer;
  /** By the status. */
  readonly removing?: readonly string[];
  /** By the status, how long its coordinator has not answered. */
  readonly silentForMs?: number;
}

const draining = { duty: 'draining', leftChunks: 0 };
const RESTORED =
  'its coordinator was restored from a backup, which may not know what lies there: nothing is taken away until you say so: collective maintenance set garbage-waits=false';

const cases: readonly { readonly name: string; readonly given: Given; readonly want: readonly string[] }[] = [
  { name: 'a new pool gets nodes from 0 on', given: { replicas: 2 }, want: ['disk-0 runs', 'disk-1 runs'] },
  {
    name: 'a pool that grows gets the lowest free places',
    given: { replicas: 3, nodes: ['disk-0', 'disk-2'] },
    want: ['disk-0 runs', 'disk-1 runs', 'disk-2 runs'],
  },
  {
    name: 'K3: volumes that were kept are taken up again, whatever else is gone',
    given: {
      replicas: 2,
      nodes: [
        { name: 'disk-1', without: ['statefulSet', 'pod'] },
        { name: 'disk-4', without: ['statefulSet', 'pod'] },
      ],
    },
    want: ['disk-1 runs', 'disk-4 runs'],
  },
  {
    name: 'K2: a pool that shrinks marks its highest node before anything is ordered',
    given: { replicas: 1, nodes: ['disk-0', 'disk-1'], coordinator: answered({ nodes: [{ name: 'disk-1' }] }) },
    want: ['disk-0 runs', 'disk-1 runs Draining'],
  },
  {
    name: 'K2: a marked node is drained',
    given: {
      replicas: 1,
      nodes: ['disk-0', { name: 'disk-1', mark: 'Draining' }],
      coordinator: answered({ nodes: [{ name: 'disk-1' }] }),
    },
    want: ['disk-0 runs', 'disk-1 runs Draining', 'duty disk-1 draining'],
  },
  {
    name: 'K2: while chunks lie there it waits, and says why it cannot go on',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({
        nodes: [
          {
            name: 'disk-0',
            duty: 'draining',
            leftChunks: 7,
            waiting: [{ reason: 'no-room', says: 'no other node has room', chunks: 7 }],
          },
        ],
      }),
    },
    want: [
      'disk-0 runs Draining',
      'stuck disk-0: 7 chunks lie there still; 7 chunks: no other node has room',
      'count disk-0',
    ],
  },
  {
    name: 'K2: that nothing seems to be left by its status is asked for, not believed',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }] }),
    },
    want: ['disk-0 runs Draining', 'count disk-0'],
  },
  {
    name: 'K2: a count above nothing keeps it',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }], holdings: { 'disk-0': 3 } }),
    },
    want: ['disk-0 runs Draining', 'count disk-0'],
  },
  {
    name: 'K3: counted as empty it is marked so, and runs until the mark stands',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }], holdings: { 'disk-0': 0 } }),
    },
    want: ['disk-0 runs Drained'],
  },
  {
    name: 'K3: marked as empty, its pod ends first',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained' }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }] }),
    },
    want: ['disk-0 ends Drained', 'remove StatefulSet alice-disk-0 set-disk-0'],
  },
  {
    name: 'K3: nothing is done while its pod still ends',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained', without: ['statefulSet'] }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }] }),
    },
    want: ['disk-0 ends Drained'],
  },
  {
    name: 'K3: then the member forgets it',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained', without: ['statefulSet', 'pod'] }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }] }),
    },
    want: ['disk-0 ends Drained', 'forget disk-0'],
  },
  {
    name: 'K3: only of a node that is forgotten the volume goes',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained', without: ['statefulSet', 'pod'] }],
      coordinator: answered(),
    },
    want: ['disk-0 ends Drained', 'remove PersistentVolumeClaim alice-disk-0 claim-disk-0'],
  },
  {
    name: 'K2: what is in the way by a coordinator that still counts, as after its start, is not believed',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({
        nodes: [
          {
            name: 'disk-0',
            duty: 'draining',
            leftChunks: 0,
            waiting: [{ reason: 'no-source', says: 'the nodes that have a copy are away', chunks: 7 }],
          },
        ],
        replication: { counting: true },
      }),
    },
    want: ['disk-0 runs Draining', 'count disk-0'],
  },
  {
    name: 'K2: a coordinator that starts anew keeps a drain for a moment, and it is not stuck',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: { state: 'unasked', why: 'its pod is not ready' },
    },
    want: ['disk-0 runs Draining'],
  },
  {
    name: 'K2: nor while it is silent for less than two minutes',
    given: {
      replicas: 0,
      nodes: [
        { name: 'disk-0', mark: 'Draining' },
        { name: 'disk-1', mark: 'Drained', without: ['statefulSet', 'pod'] },
      ],
      coordinator: { state: 'silent', why: 'no answer within 5s' },
      silentForMs: 119_000,
    },
    want: ['disk-0 runs Draining', 'disk-1 ends Drained'],
  },
  {
    name: 'K3: a coordinator that is silent holds the volume',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained', without: ['statefulSet', 'pod'] }],
      coordinator: { state: 'silent', why: 'no answer within 5s' },
      silentForMs: 120_000,
    },
    want: ['disk-0 ends Drained', 'stuck disk-0: its coordinator cannot be asked to forget it (no answer within 5s)'],
  },
  {
    name: 'K3: what a silent coordinator holds is not drained either',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: { state: 'silent', why: 'no answer within 5s' },
      silentForMs: 120_000,
    },
    want: [
      'disk-0 runs Draining',
      'stuck disk-0: its coordinator cannot be asked what lies there (no answer within 5s)',
    ],
  },
  {
    name: 'K2: a pool that grows again takes a drain back',
    given: {
      replicas: 2,
      nodes: ['disk-0', { name: 'disk-1', mark: 'Draining' }],
      coordinator: answered({ nodes: [{ name: 'disk-1', duty: 'draining', leftChunks: 4 }] }),
    },
    want: ['disk-0 runs', 'disk-1 runs', 'duty disk-1 active'],
  },
  {
    name: 'a drain that an administrator began is left alone',
    given: {
      replicas: 1,
      nodes: ['disk-0'],
      coordinator: answered({ nodes: [{ name: 'disk-0', duty: 'draining', leftChunks: 4 }] }),
    },
    want: ['disk-0 runs'],
  },
  {
    name: 'K2: what is drained goes to its end, and a pool that grows again gets another node meanwhile',
    given: { replicas: 2, nodes: ['disk-0', { name: 'disk-1', mark: 'Drained' }], coordinator: answered() },
    want: ['disk-0 runs', 'disk-1 ends Drained', 'disk-2 runs', 'remove StatefulSet alice-disk-1 set-disk-1'],
  },
  {
    name: 'K2: a pool that shrinks by one loses the node that was named',
    given: {
      replicas: 2,
      nodes: ['disk-0', 'disk-1', 'disk-2'],
      drain: 'disk-0',
      coordinator: answered({ nodes: [{ name: 'disk-0' }] }),
    },
    want: ['disk-0 runs Draining', 'disk-1 runs', 'disk-2 runs'],
  },
  {
    name: 'K2: a named node of a pool that does not shrink gets a successor under another name',
    given: {
      replicas: 2,
      nodes: ['disk-0', 'disk-1'],
      drain: ' disk-1 , other',
      coordinator: answered({ nodes: [{ name: 'disk-1' }] }),
    },
    want: ['disk-0 runs', 'disk-1 runs Draining', 'disk-2 runs'],
  },
  {
    name: 'a pool that is no longer wanted leaves as a whole',
    given: { pool: 'other', replicas: 1, nodes: ['disk-0'], coordinator: answered({ nodes: [{ name: 'disk-0' }] }) },
    want: ['other-0 runs', 'disk-0 runs Draining'],
  },
  {
    name: 'K3: a node that the coordinator never heard of holds nothing',
    given: { replicas: 0, nodes: [{ name: 'disk-0', isReady: false }], coordinator: answered() },
    want: ['disk-0 ends Drained'],
  },
  {
    name: 'K3: one that runs is only not known yet, as by a coordinator that was restored a moment ago',
    given: { replicas: 0, nodes: ['disk-0'], coordinator: answered() },
    want: [
      'disk-0 runs Draining',
      'stuck disk-0: it runs, and its coordinator does not know it yet: what lies there is not known before it has registered',
    ],
  },
  {
    name: 'K3, D9: of metadata from a backup it is not believed that nothing lies on a node that they do not name',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', isReady: false }],
      coordinator: answered({ garbageWaits: true }),
    },
    want: ['disk-0 runs Draining', `stuck disk-0: ${RESTORED}`],
  },
  {
    name: 'K3, D9: nor that a node is empty',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({
        nodes: [{ name: 'disk-0', ...draining }],
        holdings: { 'disk-0': 0 },
        garbageWaits: true,
      }),
    },
    want: ['disk-0 runs Draining', `stuck disk-0: ${RESTORED}`, 'count disk-0'],
  },
  {
    name: 'K3, D9: and no volume goes, however it was marked before',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained', without: ['statefulSet', 'pod'] }],
      coordinator: answered({ garbageWaits: true }),
    },
    want: ['disk-0 ends Drained', `stuck disk-0: ${RESTORED}`],
  },
  {
    name: 'K3: a node that registered while it was taken away for unknown runs again and is drained',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained', without: ['statefulSet', 'pod'] }],
      coordinator: answered({ nodes: [{ name: 'disk-0', state: 'away' }] }),
    },
    want: ['disk-0 runs Draining'],
  },
  {
    name: 'K3: a node that leaves and has lost its volume ends at once, and is forgotten only if nothing is missed',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', without: ['claim'] }],
      coordinator: answered({ nodes: [{ name: 'disk-0' }] }),
    },
    want: ['disk-0 ends Drained', 'remove StatefulSet alice-disk-0 set-disk-0'],
  },
  {
    name: 'K3: one of which nothing is left is drained by the coordinator, so that it can be forgotten at all',
    given: { removing: ['disk-7'], coordinator: answered({ nodes: [{ name: 'disk-7', state: 'away' }] }) },
    want: ['disk-7 ends Drained', 'duty disk-7 draining'],
  },
  {
    name: 'K3: and then forgotten',
    given: { removing: ['disk-7'], coordinator: answered({ nodes: [{ name: 'disk-7', ...draining }] }) },
    want: ['disk-7 ends Drained', 'forget disk-7'],
  },
  {
    name: 'K3: after which nothing is known of it any more',
    given: { removing: ['disk-7'], coordinator: answered() },
    want: [],
  },
];

const LEFT: ExampleNode = { name: 'disk-0', mark: 'Drained', without: ['statefulSet', 'pod'] };

/** Of a node of which nothing is left but its claim, which was to go so long ago. */
function heldClaim(agoMs: number, users: readonly string[], finalizers: readonly string[]): string[] {
  const { volumeClaims, ...others } = exampleObjects([LEFT]);
  const claim = volumeClaims.get('alice-disk-0') as KubeObject;
  const deletionTimestamp = new Date(NOW_MS - agoMs).toISOString();
  const held = { ...claim, metadata: { ...claim.metadata, deletionTimestamp, finalizers } };
  const objects = { ...others, volumeClaims: new Map([...volumeClaims, ['alice-disk-0', held]]) };
  const { plan } = planned(
    { coordinator: answered() },
    { objects, claimUsers: new Map(users.length === 0 ? [] : [['alice-disk-0', users]]) },
  );
  return plan.stuck.map(({ node, why }) => `${node}: ${why}`);
}

test('K3: a claim that somebody still uses says who, once it has stayed for longer than it takes to go', () => {
  const protection = ['kubernetes.io/pvc-protection'];
  assert.deepEqual(heldClaim(9_000, ['copy'], protection), []);
  const [why = ''] = heldClaim(10_000, ['copy'], protection);
  assert.match(why, /^disk-0: it is empty, and its volume claim alice-disk-0 is still used by pod copy: .* -n team\)$/);
  const [many = ''] = heldClaim(10_000, ['a', 'b', 'c', 'd', 'e'], protection);
  assert.match(many, /still used by pod a, b, c and 2 more:/);
  const [kept = ''] = heldClaim(10_000, [], [...protection, 'example.com/keep']);
  assert.match(kept, /kept by its finalizers \(kubernetes\.io\/pvc-protection, example\.com\/keep\)/);
});

test('K2: the pod of an empty node that does not end is told with its machine', () => {
  const { pods, ...others } = exampleObjects([{ name: 'disk-0', mark: 'Drained', without: ['statefulSet'] }]);
  const pod = pods.get('alice-disk-0-0') as KubeObject;
  const stuckAfter = (ms: number): string[] => {
    const deletionTimestamp = new Date(NOW_MS - ms).toISOString();
    const leaving = { ...pod, metadata: { ...pod.metadata, deletionTimestamp }, spec: { nodeName: 'machine-2' } };
    const objects = { ...others, pods: new Map([...pods, ['alice-disk-0-0', leaving]]) };
    return planned({ coordinator: answered() }, { objects }).plan.stuck.map(({ why }) => why);
  };
  assert.deepEqual(stuckAfter(1_000), []);
  assert.match(stuckAfter(60_000)[0] ?? '', /^Pod alice-disk-0-0 was to end, and machine-2 does not say that it has/);
});

for (const { name, given, want } of cases) {
  test(name, () => {
    assert.deepEqual(told(given), want);
  });
}

function told(given: Given): string[] {
  const { plan, picture } = planned(given);
  return [...say(plan), ...nodesToCount(plan, picture.coordinator).map((node) => `count ${node}`)];
}

function planned(
  { replicas = 0, pool = 'disk', nodes = [], drain, coordinator, removing = [], silentForMs }: Given,
  change: Partial<MemberPicture> = {},
): { readonly plan: NodesPlan; readonly picture: MemberPicture } {
  const status = {
    nodes: removing.map((name) => ({ name, pool: 'disk', state: 'Removing' as const })),
    conditions: silentForMs === undefined ? [] : [silentFor(silentForMs)],
  };
  const spec = { nodePools: [{ name: pool, replicas, capacity: '100Gi' }] };
  const annotated = drain === undefined ? {} : { annotations: { [ANNOTATIONS.drainNodes]: drain } };
  const member = { ...exampleMember(spec, annotated), status };
  const told = coordinator === undefined ? {} : { coordinator };
  const picture = examplePicture({ member, objects: exampleObjects(nodes), ...told, ...change });
  return { plan: planNodes(picture, shapeOf(member, exampleCollective(), operatorSettings())), picture };
}

function say({ nodes, orders, removals, stuck }: NodesPlan): string[] {
  return [
    ...nodes.map(
      ({ name, runs, leaving }) => `${name} ${runs ? 'runs' : 'ends'}${leaving === undefined ? '' : ` ${leaving}`}`,
    ),
    ...orders.map((order) => (order.kind === 'duty' ? `duty ${order.node} ${order.duty}` : `forget ${order.node}`)),
    ...removals.map(({ reference, uid }) => `remove ${reference.resource.kind} ${reference.name} ${uid}`),
    ...stuck.map(({ node, why }) => `stuck ${node}: ${why}`),
  ];
}
