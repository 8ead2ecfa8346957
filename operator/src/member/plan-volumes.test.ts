import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOTATIONS } from '../api/group.ts';
import type { Member, MemberSpec } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import { began, byName, type ExampleNode, exampleObjects, examplePicture } from './example-picture.ts';
import type { MemberObjects } from './picture.ts';
import { planNodes } from './plan-nodes.ts';
import { nodeCapacityBytes, planVolumes, type VolumesPlan } from './plan-volumes.ts';
import { shapeOf } from './shape.ts';

interface Given {
  readonly spec?: Partial<MemberSpec>;
  readonly status?: Member['status'];
  readonly accept?: string;
  readonly objects?: MemberObjects;
}

function plan({ spec, status, accept, objects }: Given): VolumesPlan {
  const annotations = accept === undefined ? {} : { annotations: { [ANNOTATIONS.acceptLostVolume]: accept } };
  const member: Member = {
    ...exampleMember({ nodePools: [{ name: 'disk', replicas: 1, capacity: '100Gi' }], ...spec }, annotations),
    ...(status === undefined ? {} : { status }),
  };
  const picture = examplePicture({ member, ...(objects === undefined ? {} : { objects }) });
  const shape = shapeOf(member, exampleCollective(), operatorSettings());
  return planVolumes(picture, shape, planNodes(picture, shape));
}

function wanted(volumes: VolumesPlan): string[] {
  return volumes.applies.map(({ object }) => {
    const { resources, storageClassName = 'default' } = object.spec as {
      resources: { requests: { storage: string } };
      storageClassName?: string;
    };
    return `${object.metadata.name} ${resources.requests.storage} ${storageClassName} ${object.metadata.uid ?? 'new'}`;
  });
}

function objects(nodes: readonly (ExampleNode | string)[], without: readonly string[] = []): MemberObjects {
  const all = exampleObjects(nodes);
  return {
    ...all,
    volumeClaims: byName([...all.volumeClaims.values()].filter(({ metadata }) => !without.includes(metadata.name))),
  };
}

test('K3: a new member gets its volumes, none of which belongs to anything that could be deleted', () => {
  const volumes = plan({ spec: { backup: { schedule: '0 3 * * *' } } });
  assert.deepEqual(wanted(volumes), [
    'alice-coordinator 10Gi default new',
    'alice-disk-0 100Gi default new',
    'alice-backup 10Gi default new',
  ]);
  assert.ok(volumes.applies.every(({ object }) => object.metadata.ownerReferences === undefined));
  assert.equal(volumes.expectsData, false);
});

test('K3: what is there keeps its class, is never made smaller and is changed only as the very object that it is', () => {
  const spec = {
    nodePools: [{ name: 'disk', replicas: 1, capacity: '50Gi', storageClass: 'other' }],
    coordinator: { storage: { size: '200Gi' } },
  };
  assert.deepEqual(wanted(plan({ spec, objects: objects(['disk-0']) })), [
    'alice-coordinator 200Gi standard claim-coordinator',
    'alice-disk-0 100Gi standard claim-disk-0',
  ]);
});

test('a node gives what its volume has already, and more only once the volume has grown', () => {
  const claim = { uid: '', phase: 'Bound', requestedBytes: 200 };
  assert.equal(nodeCapacityBytes('200', undefined), 190);
  assert.equal(nodeCapacityBytes('200', { ...claim, phase: 'Pending' }), 190);
  assert.equal(nodeCapacityBytes('200', { ...claim, capacityBytes: 100 }), 95);
  assert.equal(nodeCapacityBytes('200', { ...claim, capacityBytes: 200 }), 190);
  // A driver that rounds up to a larger disk.
  assert.equal(nodeCapacityBytes('200', { ...claim, capacityBytes: 1000 }), 190);
});

test('a volume that is being enlarged is told, with what its driver says', () => {
  const grown = objects([{ name: 'disk-0', capacity: '100Gi', requested: '150Gi' }]);
  const claim = grown.volumeClaims.get('alice-disk-0') as KubeObject & { status: object };
  const pending = {
    ...claim,
    status: {
      ...claim.status,
      conditions: [{ type: 'FileSystemResizePending', status: 'True', message: 'restart the pod' }],
    },
  };
  const volumeClaims = new Map([...grown.volumeClaims, ['alice-disk-0', pending]]);
  const volumes = plan({ objects: { ...grown, volumeClaims } });
  assert.deepEqual(volumes.growing, [{ claim: 'alice-disk-0', message: 'restart the pod' }]);
  assert.equal(volumes.capacities.get('disk-0'), Math.floor(100 * 2 ** 30 * 0.95));
});

test('K3: a coordinator that served once must find its data, and its lost volume is never made anew in silence', () => {
  const lost = plan({ status: began(), objects: objects(['disk-0'], ['alice-coordinator']) });
  assert.equal(lost.coordinator.state, 'lost');
  assert.equal(lost.expectsData, true);
  assert.deepEqual(wanted(lost), ['alice-disk-0 100Gi standard claim-disk-0']);
  assert.match(
    lost.coordinator.state === 'lost' ? lost.coordinator.message : '',
    /is gone\. .*kubectl annotate -n team member alice collective\.storage\/accept-lost-volume=claim-coordinator/,
  );
});

test('K3: another volume under the name of the lost one is not taken for it', () => {
  const other = plan({ status: began({ volumeUid: 'earlier' }), objects: objects(['disk-0']) });
  assert.equal(other.coordinator.state, 'lost');
  assert.match(
    other.coordinator.state === 'lost' ? other.coordinator.message : '',
    /is another one \(uid claim-coordinator\)/,
  );
});

test('K3: who accepts the loss by the uid of the lost volume gets an empty one, and who names another does not', () => {
  const given = { status: began(), objects: objects(['disk-0'], ['alice-coordinator']) };
  assert.equal(plan({ ...given, accept: 'something' }).coordinator.state, 'lost');
  const accepted = plan({ ...given, accept: 'claim-coordinator' });
  assert.deepEqual(wanted(accepted)[0], 'alice-coordinator 10Gi default new');
  assert.equal(accepted.expectsData, false);
});

test('K3: before a coordinator served for the first time there is nothing to lose', () => {
  const volumes = plan({ status: began({ began: false, volumeUid: 'earlier' }), objects: objects(['disk-0']) });
  assert.equal(volumes.coordinator.state, 'fine');
});

test('K3: a Member that comes back to volumes of nodes without that of its coordinator does not begin blank', () => {
  const volumes = plan({ objects: objects(['disk-0'], ['alice-coordinator']) });
  assert.equal(volumes.coordinator.state, 'lost');
  const accepted = plan({ objects: objects(['disk-0'], ['alice-coordinator']), accept: 'unknown' });
  assert.equal(accepted.coordinator.state, 'fine');
});

test('K3: the claim of a coordinator that has served says so, and a Member that comes back to it does not begin blank', () => {
  const annotationsOf = (volumes: VolumesPlan) => volumes.applies[0]?.object.metadata.annotations;
  const claimed = (annotations: Record<string, string>): MemberObjects => {
    const all = objects(['disk-0']);
    const claims = [...all.volumeClaims.values()].map((claim) =>
      claim.metadata.name === 'alice-coordinator' ? { ...claim, metadata: { ...claim.metadata, annotations } } : claim,
    );
    return { ...all, volumeClaims: byName(claims) };
  };
  assert.equal(annotationsOf(plan({ objects: objects(['disk-0']) })), undefined, 'it has not served yet');
  assert.equal(
    annotationsOf(plan({ status: began({ volumeUid: 'earlier' }), objects: objects(['disk-0']), accept: 'earlier' })),
    undefined,
  );
  const mark = annotationsOf(plan({ status: began(), objects: objects(['disk-0']) }));
  assert.deepEqual(mark, { [ANNOTATIONS.began]: 'true' });

  const back = plan({ objects: claimed(mark ?? {}) });
  assert.deepEqual([back.coordinator.state, back.expectsData], ['fine', true]);
  assert.deepEqual(annotationsOf(back), mark, 'it is not taken away');
  const accepted = plan({ objects: claimed(mark ?? {}), accept: 'claim-coordinator' });
  assert.deepEqual([accepted.coordinator.state, accepted.expectsData], ['fine', false]);
});

test('K3: a lost volume of a node is a lost disk: it gets an empty one, and an event says so', () => {
  const node = { name: 'disk-0', pool: 'disk', state: 'Ready', volumeUid: 'claim-disk-0' } as const;
  const volumes = plan({ status: { ...began(), nodes: [node] }, objects: objects(['disk-0'], ['alice-disk-0']) });
  assert.deepEqual(wanted(volumes)[1], 'alice-disk-0 100Gi default new');
  assert.deepEqual(
    volumes.events.map(({ type, reason }) => [type, reason]),
    [['Warning', 'NodeVolumeLost']],
  );
});

test('a node that leaves keeps the size that it has, and gets no new volume', () => {
  const leaving = plan({
    spec: { nodePools: [] },
    objects: objects(['disk-0', { name: 'disk-1', without: ['claim'] }]),
  });
  assert.deepEqual(wanted(leaving), [
    'alice-coordinator 100Gi standard claim-coordinator',
    'alice-disk-0 100Gi standard claim-disk-0',
  ]);
});
