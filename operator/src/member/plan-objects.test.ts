import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOTATIONS } from '../api/group.ts';
import type { Member, MemberSpec } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import { began, byName, type ExampleNode, exampleObjects, examplePicture } from './example-picture.ts';
import { givenNodePort } from './external-address.ts';
import { labelsOf } from './names.ts';
import { type MemberObjects, NO_OBJECTS } from './picture.ts';
import { planNodes } from './plan-nodes.ts';
import { type ObjectsPlan, planObjects, podsToTouch } from './plan-objects.ts';
import { planRestore } from './plan-restore.ts';
import { planVolumes } from './plan-volumes.ts';
import { shapeOf } from './shape.ts';

const ALL_READY = ['alice-coordinator-tls', 'alice-disk-0-tls', 'alice-disk-1-tls'];

interface Given {
  readonly spec?: Partial<MemberSpec>;
  readonly status?: Member['status'];
  readonly objects?: MemberObjects;
  readonly ready?: readonly string[];
  readonly networkPolicies?: boolean;
}

function plan({ spec, status, objects = NO_OBJECTS, ready = ALL_READY, networkPolicies = false }: Given): ObjectsPlan {
  const nodePools = [{ name: 'disk', replicas: 2, capacity: '100Gi' }];
  const member = { ...exampleMember({ nodePools, ...spec }), ...(status === undefined ? {} : { status }) };
  const picture = examplePicture({ member, objects });
  const shape = shapeOf(member, exampleCollective(), { ...operatorSettings(), networkPolicies });
  const nodes = planNodes(picture, shape);
  const volumes = planVolumes(picture, shape, nodes);
  const certificates = { ready: new Set(ready) };
  const restore = planRestore(picture, shape, volumes.coordinator);
  return planObjects({ picture, shape, nodes, volumes, restore, certificates, isReplicated: true });
}

function names({ applies }: ObjectsPlan, kind: string): string[] {
  return applies.filter(({ resource }) => resource.kind === kind).map(({ object }) => object.metadata.name);
}

function changed(objects: MemberObjects, change: Partial<MemberObjects>): MemberObjects {
  return { ...objects, ...change };
}

const up: readonly (ExampleNode | string)[] = ['disk-0', 'disk-1'];

function made(kind: string, ...all: string[]): ReadonlyMap<string, KubeObject> {
  const labels = labelsOf({ member: 'alice', collective: 'photos' });
  return byName(
    all.map((name) => ({ apiVersion: 'v1', kind, metadata: { name, namespace: 'team', uid: `uid-${name}`, labels } })),
  );
}

test('a StatefulSet begins when its certificate can be mounted, and the others do not wait for it', () => {
  assert.deepEqual(names(plan({ ready: [] }), 'StatefulSet'), []);
  assert.deepEqual(names(plan({ ready: ['alice-disk-1-tls'] }), 'StatefulSet'), ['alice-disk-1']);
  assert.deepEqual(names(plan({}), 'StatefulSet'), ['alice-coordinator', 'alice-disk-0', 'alice-disk-1']);
});

test('one that is there is kept in order whatever its certificate', () => {
  assert.equal(names(plan({ ready: [], objects: exampleObjects(up) }), 'StatefulSet').length, 3);
});

test('K3: a coordinator whose volume is lost is not begun anew, and one that is there expects its data', () => {
  const lost = changed(exampleObjects(up), { volumeClaims: new Map(), statefulSets: new Map() });
  assert.deepEqual(names(plan({ status: began(), objects: lost }), 'StatefulSet'), ['alice-disk-0', 'alice-disk-1']);
  const there = plan({ status: began(), objects: exampleObjects(up) });
  assert.match(JSON.stringify(there.coordinatorSet), /COLLECTIVE_EXPECT_DATA/);
});

test('D10: an exposed member has a Service for each node, and its nodes begin when their port is known', () => {
  const spec = { exposure: { type: 'NodePort' } } as const;
  const first = plan({ spec });
  assert.deepEqual(names(first, 'Service'), ['alice-coordinator', 'alice-nodes', 'alice-disk-0', 'alice-disk-1']);
  assert.deepEqual(names(first, 'StatefulSet'), ['alice-coordinator']);
  const services = made('Service', 'alice-disk-0');
  const port = { ...services.get('alice-disk-0'), spec: { ports: [{ nodePort: 30_001 }] } } as KubeObject;
  const second = plan({ spec, objects: changed(NO_OBJECTS, { services: new Map([['alice-disk-0', port]]) }) });
  assert.deepEqual(names(second, 'StatefulSet'), ['alice-coordinator', 'alice-disk-0']);
  assert.match(JSON.stringify(second.nodeSets[0]), /external=\[\$\(HOST_IP\)\]:30001/);
});

test('D10: a Service is asked for without a port, and while there is none under the port that it had', () => {
  const spec = { exposure: { type: 'NodePort' } } as const;
  const nodes = [{ name: 'disk-0', pool: 'disk', state: 'Ready', nodePort: 30_002 }] as const;
  const status = { coordinator: { state: 'Ready', nodePort: 30_001 }, nodes } as const;
  const asked = ({ applies }: ObjectsPlan) =>
    applies
      .filter(({ resource }) => resource.kind === 'Service')
      .map(({ object, atFirst }) => [object, atFirst].map(givenNodePort));
  const none = [undefined, undefined];
  assert.deepEqual(asked(plan({ spec })), [none, none, none, none]);
  assert.deepEqual(asked(plan({ spec, status })), [[undefined, 30_001], none, [undefined, 30_002], none]);
  const service = { ...made('Service', 'alice-disk-0').get('alice-disk-0'), spec: { ports: [{ nodePort: 30_003 }] } };
  const edited = changed(NO_OBJECTS, { services: byName([service as KubeObject]) });
  assert.deepEqual(asked(plan({ spec, status, objects: edited }))[2], [undefined, 30_003]);
  assert.deepEqual(asked(plan({ status })), [none, none]);
});

test('D10: while its Service is gone the template of a node stays what it is', () => {
  const spec = { exposure: { type: 'NodePort' } } as const;
  const service = { ...made('Service', 'alice-disk-0').get('alice-disk-0'), spec: { ports: [{ nodePort: 30_002 }] } };
  const services = byName([service as KubeObject]);
  const before = plan({ spec, objects: changed(exampleObjects(up), { services }) }).nodeSets[0];
  const status = { nodes: [{ name: 'disk-0', pool: 'disk', state: 'Ready', nodePort: 30_002 }] } as const;
  assert.deepEqual(plan({ spec, status, objects: exampleObjects(up) }).nodeSets[0], before);
});

test('what is no longer wanted is removed: Services of nodes, policies, the backup job', () => {
  const objects = changed(NO_OBJECTS, {
    services: made('Service', 'alice-coordinator', 'alice-nodes', 'alice-disk-0'),
    networkPolicies: made('NetworkPolicy', 'alice-nodes'),
    cronJobs: made('CronJob', 'alice-backup'),
  });
  const removed = (given: Given) => plan({ ...given, objects }).removals.map(({ uid }) => uid);
  assert.deepEqual(removed({}), ['uid-alice-disk-0', 'uid-alice-nodes', 'uid-alice-backup']);
  assert.deepEqual(removed({ networkPolicies: true, spec: { backup: { schedule: '@daily' } } }), ['uid-alice-disk-0']);
});

test('K2: no budget without nodes, and one over all that run', () => {
  const none = plan({ spec: { nodePools: [] } });
  assert.deepEqual(names(none, 'PodDisruptionBudget'), []);
  const budget = plan({}).applies.find(({ resource }) => resource.kind === 'PodDisruptionBudget');
  assert.match(JSON.stringify(budget?.object.spec), /"minAvailable":1,/);
});

test('T6: pods that do not know of the bundle are touched once, those of a backup and those that end never', () => {
  const objects = exampleObjects([...up]);
  const picture = examplePicture({ objects });
  const touched = (hash: string | undefined, seen = picture) =>
    podsToTouch(seen, hash).map(({ metadata }) => metadata.name);
  assert.deepEqual(touched(undefined), []);
  assert.deepEqual(touched('h1'), ['alice-coordinator-0', 'alice-disk-0-0', 'alice-disk-1-0']);
  const pods = new Map(
    [...objects.pods].map(([name, pod], index) => [
      name,
      {
        ...pod,
        metadata: {
          ...pod.metadata,
          ...(index === 0 ? { annotations: { [ANNOTATIONS.trustBundleHash]: 'h1' } } : {}),
          ...(index === 1 ? { deletionTimestamp: '2026-11-20T12:00:00Z' } : {}),
          ...(index === 2 ? { labels: { 'app.kubernetes.io/component': 'backup' } } : {}),
        },
      },
    ]),
  );
  assert.deepEqual(touched('h1', examplePicture({ objects: { ...objects, pods } })), []);
});
