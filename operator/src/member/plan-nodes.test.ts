import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOTATIONS } from '../api/group.ts';
import type { CoordinatorAnswer } from '../coordinator/coordinator-answer.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import { answered, type ExampleNode, exampleObjects, examplePicture } from './example-picture.ts';
import { type NodesPlan, nodesToClose, planNodes } from './plan-nodes.ts';
import { shapeOf } from './shape.ts';

interface Given {
  readonly replicas?: number;
  /** Absent: the pool is not in the spec. */
  readonly pool?: string;
  readonly nodes?: readonly (ExampleNode | string)[];
  readonly drain?: string;
  readonly coordinator?: CoordinatorAnswer;
}

const draining = { duty: 'draining', leftChunks: 0 };

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
    want: ['disk-0 runs Draining', 'stuck disk-0: 7 chunks lie there still; 7 chunks: no other node has room'],
  },
  {
    name: 'K2: that nothing seems to be left is asked for, not believed',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }] }),
    },
    want: ['disk-0 runs Draining', 'close disk-0'],
  },
  {
    name: 'K2: a count above nothing keeps it',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: answered({ nodes: [{ name: 'disk-0', ...draining }], holdings: { 'disk-0': 3 } }),
    },
    want: ['disk-0 runs Draining', 'close disk-0'],
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
    name: 'K3: a coordinator that is silent holds the volume',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Drained', without: ['statefulSet', 'pod'] }],
      coordinator: { state: 'silent', why: 'no answer within 5s' },
    },
    want: ['disk-0 ends Drained', 'stuck disk-0: its coordinator cannot be asked to forget it (no answer within 5s)'],
  },
  {
    name: 'K3: what a silent coordinator holds is not drained either',
    given: {
      replicas: 0,
      nodes: [{ name: 'disk-0', mark: 'Draining' }],
      coordinator: { state: 'silent', why: 'no answer within 5s' },
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
    given: { replicas: 0, nodes: ['disk-0'], coordinator: answered() },
    want: ['disk-0 ends Drained'],
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
];

for (const { name, given, want } of cases) {
  test(name, () => {
    assert.deepEqual(told(given), want);
  });
}

function told({ replicas = 0, pool = 'disk', nodes = [], drain, coordinator }: Given): string[] {
  const member = exampleMember(
    { nodePools: [{ name: pool, replicas, capacity: '100Gi' }] },
    drain === undefined ? {} : { annotations: { [ANNOTATIONS.drainNodes]: drain } },
  );
  const picture = examplePicture({ member, objects: exampleObjects(nodes), ...(coordinator ? { coordinator } : {}) });
  const plan = planNodes(picture, shapeOf(member, exampleCollective(), operatorSettings()));
  return [...say(plan), ...nodesToClose(plan, picture.coordinator).map((node) => `close ${node}`)];
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
