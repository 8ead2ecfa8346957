import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setConditions } from '../api/set-conditions.ts';
import type { CoordinatorAnswer } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import {
  answered,
  began,
  byName,
  type ExampleNode,
  exampleObjects,
  examplePicture,
  NOW_MS,
  silentFor,
} from './example-picture.ts';
import type { MemberPicture } from './picture.ts';
import { type ConditionsInput, type MemberConditions, planConditions } from './plan-conditions.ts';
import { planNodes } from './plan-nodes.ts';
import { planVolumes } from './plan-volumes.ts';
import { shapeOf } from './shape.ts';

const fine = { status: 'True', reason: 'CertificatesReady', message: '' } as const;
const up = ['disk-0', 'disk-1', 'disk-2'];
const serving = answered({ nodes: up.map((name) => ({ name })) });

function conditions(change: Partial<MemberPicture>, input: Partial<ConditionsInput> = {}): MemberConditions {
  const member = { ...exampleMember(), status: began() };
  const picture = examplePicture({ member, objects: exampleObjects(up), coordinator: serving, ...change });
  const shape = shapeOf(picture.member, exampleCollective(), operatorSettings());
  const nodes = planNodes(picture, shape);
  return planConditions({
    picture,
    shape,
    nodes,
    volumes: planVolumes(picture, shape, nodes),
    upgrading: { status: 'False', reason: 'UpToDate', message: '' },
    certificates: { condition: fine },
    refused: [],
    ...input,
  });
}

function summary({ Ready, Reconciling, Stalled }: MemberConditions): string {
  return [Ready, Reconciling, Stalled].map(({ status, reason }) => `${status} ${reason}`).join(', ');
}

function withPod(name: string, status: object): Partial<MemberPicture> {
  const objects = exampleObjects(up);
  const pod = objects.pods.get(name) as KubeObject;
  return { objects: { ...objects, pods: new Map([...objects.pods, [name, { ...pod, status }]]) } };
}

function leavingPod(name: string, deletedMs: number): Partial<MemberPicture> {
  const objects = exampleObjects(up);
  const pod = objects.pods.get(name) as KubeObject;
  const leaving = {
    ...pod,
    metadata: { ...pod.metadata, deletionTimestamp: new Date(deletedMs).toISOString() },
    spec: { ...(pod.spec as object), nodeName: 'machine-2' },
  };
  return { objects: { ...objects, pods: new Map([...objects.pods, [name, leaving]]) } };
}

function lostVolume(name: string): Partial<MemberPicture> {
  const objects = exampleObjects(up.map((node) => ({ name: node, isReady: `alice-${node}` !== name })));
  const claim = objects.volumeClaims.get(name);
  assert.ok(claim !== undefined);
  const lost = { ...claim, spec: { ...(claim.spec as object), volumeName: 'pv-7' }, status: { phase: 'Lost' } };
  return { objects: { ...objects, volumeClaims: new Map([...objects.volumeClaims, [name, lost]]) } };
}

test('all up: Ready, not Reconciling, not Stalled', () => {
  const all = conditions({});
  assert.equal(summary(all), 'True Ready, False Settled, False NotStalled');
  assert.equal(all.NodesReady.message, '3 of 3 nodes are ready');
});

test('chunks that lack copies make a Member neither unready nor Reconciling', () => {
  const nodes = up.map((name) => ({ name }));
  const short = conditions({ coordinator: answered({ nodes, replication: { underReplicated: 5 } }) });
  assert.equal(summary(short), 'True Ready, False Settled, False NotStalled');
  assert.equal(short.ReplicationHealthy.status, 'False');
  const counting = conditions({ coordinator: answered({ nodes, replication: { counting: true } }) });
  assert.equal(counting.ReplicationHealthy.status, 'Unknown');
});

const waiting = (reason: string, message: string) => ({
  containerStatuses: [{ state: { waiting: { reason, message } } }],
});

const multiAttach = {
  reason: 'FailedAttachVolume',
  message: 'Multi-Attach error for volume "pvc-7" Volume is already exclusively attached to one node',
};

const troubles: readonly {
  readonly name: string;
  readonly picture: Partial<MemberPicture>;
  readonly want: string;
  readonly says: RegExp;
}[] = [
  {
    name: 'an image that cannot be pulled',
    picture: withPod('alice-disk-1-0', waiting('ImagePullBackOff', 'manifest unknown')),
    want: 'False ImageCannotBePulled, True ImageCannotBePulled, False NotStalled',
    says: /2 of 3 nodes are ready\. Pod alice-disk-1-0: image collective:1\.0\.0 cannot be pulled .*manifest unknown.*imagePullSecrets/,
  },
  {
    name: 'a pod that finds no machine',
    picture: withPod('alice-disk-1-0', {
      conditions: [
        { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/3 nodes: Insufficient memory' },
      ],
    }),
    want: 'False Unschedulable, True Unschedulable, False NotStalled',
    says: /finds no machine: 0\/3 nodes: Insufficient memory\. Look at its requests/,
  },
  {
    name: 'a program that ends again and again',
    picture: withPod('alice-disk-1-0', waiting('CrashLoopBackOff', 'back-off 10s')),
    want: 'False PodCrashes, True PodCrashes, False NotStalled',
    says: /kubectl logs -n team alice-disk-1-0 --previous/,
  },
  {
    name: 'a pod that does not end, since its machine is silent',
    picture: leavingPod('alice-disk-1-0', NOW_MS - 60_000),
    want: 'False PodDoesNotEnd, True PodDoesNotEnd, False NotStalled',
    says: /if machine-2 is off, kubectl taint nodes machine-2 node\.kubernetes\.io\/out-of-service=nodeshutdown:NoExecute/,
  },
  {
    name: 'a pod that has a moment left to end',
    picture: leavingPod('alice-disk-1-0', NOW_MS - 10_000),
    want: 'False Starting, True Starting, False NotStalled',
    says: /2 of 3 nodes are ready; not: disk-1/,
  },
  {
    name: 'a pod whose volume is still attached to a machine that is gone',
    picture: {
      ...withPod('alice-disk-1-0', waiting('ContainerCreating', '')),
      warnings: new Map([['Pod/alice-disk-1-0', multiAttach]]),
    },
    want: 'False VolumeNotAttached, True VolumeNotAttached, False NotStalled',
    says: /Pod alice-disk-1-0 waits for its volume: Multi-Attach error .*kubectl delete volumeattachment/,
  },
  {
    name: 'a volume that is gone below its claim needs a person',
    picture: lostVolume('alice-disk-1'),
    want: 'False VolumeGone, False Stalled, True VolumeGone',
    says: /alice-disk-1: its PersistentVolume pv-7 is gone\..* kubectl delete -n team pvc alice-disk-1; /,
  },
  {
    name: 'a quota that allows no further pod needs a person',
    picture: {
      objects: exampleObjects(['disk-0', 'disk-1', { name: 'disk-2', without: ['pod'] }]),
      warnings: new Map([
        [
          'StatefulSet/alice-disk-2',
          { reason: 'FailedCreate', message: 'pods "x" is forbidden: exceeded quota: small' },
        ],
      ]),
    },
    want: 'False QuotaExceeded, False Stalled, True QuotaExceeded',
    says: /exceeded quota: small\. Raise the quota, or ask for less/,
  },
];

for (const { name, picture, want, says } of troubles) {
  test(`told with what to do: ${name}`, () => {
    const all = conditions(picture);
    assert.equal(summary(all), want);
    assert.match(all.NodesReady.message, says);
  });
}

test('told with what to do: a StorageClass that is not there needs a person', () => {
  const objects = exampleObjects([...up.slice(1), { name: 'disk-0', isReady: false }]);
  const claim = objects.volumeClaims.get('alice-disk-0') as KubeObject;
  const pending = { ...claim, status: { phase: 'Pending' } };
  const all = conditions({
    objects: { ...objects, volumeClaims: new Map([...objects.volumeClaims, ['alice-disk-0', pending]]) },
    warnings: new Map([
      [
        'PersistentVolumeClaim/alice-disk-0',
        { reason: 'ProvisioningFailed', message: 'storageclass.storage.k8s.io "standard" not found' },
      ],
    ]),
  });
  assert.equal(summary(all), 'False StorageClassMissing, False Stalled, True StorageClassMissing');
  assert.match(all.NodesReady.message, /Create the StorageClass standard/);
});

test('told with what to do: a volume that cannot grow, while the member goes on as it is', () => {
  const refused = [
    {
      kind: 'PersistentVolumeClaim',
      name: 'alice-disk-0',
      message:
        'only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize',
    },
  ];
  const all = conditions({}, { refused });
  assert.equal(all.Stalled.reason, 'VolumeCannotGrow');
  assert.equal(all.NodesReady.status, 'True');
  assert.match(all.Stalled.message, /allowVolumeExpansion: true/);
});

test('told with what to do: a claim that somebody made, larger than is wanted and without labels', () => {
  const message =
    'PersistentVolumeClaim "alice-disk-0" is invalid: spec.resources.requests.storage: Forbidden: field can not be less than status.capacity';
  const all = conditions({}, { refused: [{ kind: 'PersistentVolumeClaim', name: 'alice-disk-0', message }] });
  assert.equal(all.Stalled.reason, 'VolumeUnlabelled');
  assert.match(
    all.Stalled.message,
    /kubectl label pvc alice-disk-0 app\.kubernetes\.io\/managed-by=collective-operator collective\.storage\/member=MEMBER/,
  );
  assert.doesNotMatch(all.Stalled.message, /allowVolumeExpansion/);
});

test('a write that is refused for another reason is told, and tried again', () => {
  const all = conditions(
    {},
    { refused: [{ kind: 'Service', name: 'alice-nodes', message: 'admission webhook denied' }] },
  );
  assert.equal(summary(all), 'True Ready, True WriteRefused, False NotStalled');
});

test('a webhook that does not answer is told, with where to look', () => {
  const message =
    'Apply issuers team/alice-self-signed: 500 InternalError: failed calling webhook "webhook.cert-manager.io"';
  const all = conditions({}, { refused: [{ kind: 'Issuer', name: 'alice-self-signed', message }] });
  assert.equal(summary(all), 'True Ready, True WebhookSilent, False NotStalled');
  assert.match(all.Reconciling.message, /Look whether its pods run .*cert-manager/);
});

test('a coordinator that does not answer is Unreachable when its pod is ready, and Starting before', () => {
  const silent: CoordinatorAnswer = { state: 'silent', why: 'no answer within 5s' };
  const ready = conditions({ coordinator: silent });
  assert.equal(ready.CoordinatorReady.reason, 'Unreachable');
  assert.equal(ready.ReplicationHealthy.status, 'Unknown');
  const objects = exampleObjects(up);
  const pods = byName([...objects.pods.values()].filter(({ metadata }) => metadata.name !== 'alice-coordinator-0'));
  assert.equal(conditions({ coordinator: silent, objects: { ...objects, pods } }).CoordinatorReady.reason, 'Starting');
});

test('K3: a lost volume of the coordinator stalls the Member', () => {
  const objects = exampleObjects(up);
  const volumeClaims = new Map([...objects.volumeClaims].filter(([name]) => name !== 'alice-coordinator'));
  const all = conditions({ objects: { ...objects, volumeClaims } });
  assert.equal(summary(all), 'False CoordinatorVolumeLost, False Stalled, True CoordinatorVolumeLost');
});

test('no cert-manager stalls the Member, and certificates under way do not', () => {
  const stalled = { status: 'True', reason: 'CertManagerMissing', message: 'install cert-manager' } as const;
  const condition = { status: 'False', reason: 'CertManagerMissing', message: 'install cert-manager' } as const;
  assert.equal(
    summary(conditions({}, { certificates: { condition, stalled } })),
    'False CertManagerMissing, False Stalled, True CertManagerMissing',
  );
  const issuing = { status: 'False', reason: 'Issuing', message: '' } as const;
  assert.equal(
    summary(conditions({}, { certificates: { condition: issuing } })),
    'False Issuing, True Issuing, False NotStalled',
  );
});

test('K2: a drain that cannot go on is told with the reason of the coordinator', () => {
  const nodes: ExampleNode[] = [{ name: 'disk-0' }, { name: 'disk-1', mark: 'Draining' }];
  const member = {
    ...exampleMember({ nodePools: [{ name: 'disk', replicas: 1, capacity: '100Gi' }] }),
    status: began(),
  };
  const leaving = { name: 'disk-1', duty: 'draining', leftChunks: 4 };
  const stuck = answered({
    nodes: [{ name: 'disk-0' }, { ...leaving, waiting: [{ reason: 'no-room', says: 'no node has room', chunks: 4 }] }],
  });
  const all = conditions({ member, objects: exampleObjects(nodes), coordinator: stuck });
  assert.equal(summary(all), 'True Ready, True DrainStuck, False NotStalled');
  assert.match(all.Reconciling.message, /Node disk-1 cannot go: 4 chunks lie there still; 4 chunks: no node has room/);
  const going = answered({ nodes: [{ name: 'disk-0' }, leaving] });
  assert.equal(
    conditions({ member, objects: exampleObjects(nodes), coordinator: going }).Reconciling.reason,
    'Draining',
  );
});

test('K2: a drain that cannot go on and a part that fails are both told', () => {
  const nodes: ExampleNode[] = [
    { name: 'disk-0', isReady: false },
    { name: 'disk-1', mark: 'Draining' },
  ];
  const member = {
    ...exampleMember({ nodePools: [{ name: 'disk', replicas: 1, capacity: '100Gi' }] }),
    status: began(),
  };
  const waits = [{ reason: 'no-room', says: 'no node has room', chunks: 4 }];
  const coordinator = answered({
    nodes: [{ name: 'disk-0' }, { name: 'disk-1', duty: 'draining', leftChunks: 4, waiting: waits }],
  });
  const failing = conditions({ member, objects: exampleObjects(nodes), coordinator });
  assert.equal(summary(failing), 'False Starting, True DrainStuck, False NotStalled');
  assert.equal(
    failing.Reconciling.message,
    'Node disk-1 cannot go: 4 chunks lie there still; 4 chunks: no node has room. 0 of 1 nodes are ready; not: disk-0',
  );
  const refused = [{ kind: 'PersistentVolumeClaim', name: 'alice-disk-0', message: 'must support resize' }];
  const stalled = conditions({ member, objects: exampleObjects(nodes), coordinator }, { refused });
  assert.equal(summary(stalled), 'False VolumeCannotGrow, False DrainStuck, True VolumeCannotGrow');
  assert.match(stalled.Reconciling.message, /^Node disk-1 cannot go: .*no node has room\. Volume claim alice-disk-0/);
});

test('K2: what waits for a coordinator that has been silent for long says so, beside what is wrong with the coordinator', () => {
  const member = {
    ...exampleMember({ nodePools: [{ name: 'disk', replicas: 1, capacity: '100Gi' }] }),
    status: began(),
  };
  const objects = exampleObjects(['disk-0', { name: 'disk-1', mark: 'Draining' }]);
  const coordinator = { state: 'silent', why: 'no answer within 5s' } as const;
  const justNow = conditions({ member, objects, coordinator });
  assert.equal(summary(justNow), 'False Unreachable, True Unreachable, False NotStalled');
  const longSilent = { ...member, status: { ...began(), conditions: [silentFor(120_000)] } };
  const silent = conditions({ member: longSilent, objects, coordinator });
  assert.equal(summary(silent), 'False Unreachable, True DrainStuck, False NotStalled');
  assert.match(silent.Reconciling.message, /its coordinator cannot be asked what lies there \(no answer within 5s\)/);
});

test('paused: it is told, and Ready says how the member is', () => {
  const member = { ...exampleMember({ maintenance: { paused: true } }), status: began() };
  assert.equal(summary(conditions({ member })), 'True Ready, False Paused, False NotStalled');
});

test('the time of a transition changes with the status, and with nothing else', () => {
  const facts = { nowMs: NOW_MS, observedGeneration: 3 };
  const first = setConditions(
    { Ready: { status: 'False', reason: 'Starting', message: 'a' } },
    { ...facts, previous: [] },
  );
  const same = setConditions(
    { Ready: { status: 'False', reason: 'Other', message: 'b' } },
    { ...facts, nowMs: NOW_MS + 60_000, previous: first },
  );
  assert.deepEqual(same, [
    {
      type: 'Ready',
      status: 'False',
      reason: 'Other',
      message: 'b',
      lastTransitionTime: '2026-11-20T12:00:00Z',
      observedGeneration: 3,
    },
  ]);
  const flipped = setConditions(
    { Ready: { status: 'True', reason: 'Ready', message: '' } },
    { ...facts, nowMs: NOW_MS + 60_000, previous: same },
  );
  assert.equal(flipped[0]?.lastTransitionTime, '2026-11-20T12:01:00Z');
});
