import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import type { Member, MemberSpec } from '../api/member.ts';
import type { CoordinatorAnswer } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleMember } from './example-member.ts';
import { answered, began, byName, exampleObjects, examplePicture, NOW_MS } from './example-picture.ts';
import { type MemberObjects, NO_OBJECTS } from './picture.ts';
import { planDeletion, withRefused } from './plan-deletion.ts';

const MINUTE_MS = 60_000;
const silent: CoordinatorAnswer = { state: 'silent', why: 'no answer within 5s' };

interface Given {
  readonly policy?: MemberSpec['deletionPolicy'];
  readonly status?: Member['status'];
  readonly coordinator?: CoordinatorAnswer;
  readonly deletedAgoMs?: number;
  readonly isForced?: boolean;
  readonly objects?: MemberObjects;
  readonly namespaceEnds?: boolean;
}

function plan({
  policy = 'Retain',
  status = began(),
  coordinator = answered(),
  deletedAgoMs = 1_000,
  isForced,
  objects = NO_OBJECTS,
  namespaceEnds = false,
}: Given) {
  const deletionTimestamp = new Date(NOW_MS - deletedAgoMs).toISOString();
  const annotations = isForced === true ? { annotations: { [ANNOTATIONS.forceDelete]: 'true' } } : {};
  const member = { ...exampleMember({ deletionPolicy: policy }, { deletionTimestamp, ...annotations }), status };
  return planDeletion(examplePicture({ member, coordinator, objects, namespaceEnds }));
}

function removed(given: Given): string[] {
  return plan(given).removals.map(({ reference }) => `${reference.resource.kind} ${reference.name}`);
}

function named(kind: string, ...names: string[]): ReadonlyMap<string, KubeObject> {
  return byName(
    names.map((name) => ({
      apiVersion: 'v1',
      kind,
      metadata: { name, namespace: 'team', uid: `uid-${name}`, labels: { [LABELS.member]: 'alice' } },
    })),
  );
}

const certificates = named('Certificate', 'alice-ca-g1', 'alice-coordinator-tls', 'alice-user-ann');
const issuers = named('Issuer', 'alice-ca-g1', 'alice-self-signed');
const secrets = named('Secret', 'alice-ca-g1', 'alice-coordinator-tls', 'alice-user-ann');

test('K3: pods end first', () => {
  const objects = { ...exampleObjects(['disk-0']), certificates };
  assert.deepEqual(removed({ objects }), ['StatefulSet alice-coordinator', 'StatefulSet alice-disk-0']);
});

test('K3: nothing else goes while pods run, unless a machine that is gone never ends them', () => {
  const objects = {
    ...exampleObjects([{ name: 'disk-0', without: ['statefulSet'] }]),
    statefulSets: new Map(),
    certificates,
  };
  assert.deepEqual(removed({ objects }), []);
  assert.equal(plan({ objects }).isFinished, false);
  assert.deepEqual(removed({ objects, deletedAgoMs: 6 * MINUTE_MS }), [
    'Certificate alice-coordinator-tls',
    'Certificate alice-user-ann',
  ]);
});

test('K3: Retain keeps volumes and the authority, and takes leaves and then their Secrets', () => {
  const { volumeClaims } = exampleObjects(['disk-0']);
  const first = { ...NO_OBJECTS, volumeClaims, certificates, issuers, secrets };
  assert.deepEqual(removed({ objects: first }), ['Certificate alice-coordinator-tls', 'Certificate alice-user-ann']);
  const second = { ...first, certificates: named('Certificate', 'alice-ca-g1') };
  assert.deepEqual(removed({ objects: second }), ['Secret alice-coordinator-tls', 'Secret alice-user-ann']);
  const third = { ...second, secrets: named('Secret', 'alice-ca-g1') };
  assert.deepEqual(removed({ objects: third }), []);
  assert.equal(plan({ objects: third }).isFinished, true);
});

test('K3: a Certificate goes with its requests, so that they are not in the way of the next one of its name', () => {
  const { removals } = plan({ objects: { ...NO_OBJECTS, certificates } });
  assert.ok(removals.length > 0 && removals.every(({ withDependents }) => withDependents === true));
  const ending = new Map(
    [...certificates].map(([name, each]): [string, KubeObject] => [
      name,
      { ...each, metadata: { ...each.metadata, deletionTimestamp: '2026-11-20T12:00:00Z' } },
    ]),
  );
  const objects = { ...NO_OBJECTS, certificates: ending, secrets };
  assert.deepEqual(removed({ objects }), []);
  // Whoever collects them may be broken: the Member is not.
  assert.ok(removed({ objects, deletedAgoMs: 6 * MINUTE_MS }).includes('Secret alice-user-ann'));
});

test('K3: Delete takes volumes and the authority, too', () => {
  const { volumeClaims } = exampleObjects(['disk-0']);
  const first = { ...NO_OBJECTS, volumeClaims, certificates, issuers, secrets };
  assert.deepEqual(removed({ policy: 'Delete', objects: first }), [
    'Certificate alice-ca-g1',
    'Certificate alice-coordinator-tls',
    'Certificate alice-user-ann',
    'Issuer alice-ca-g1',
    'Issuer alice-self-signed',
    'PersistentVolumeClaim alice-coordinator',
    'PersistentVolumeClaim alice-disk-0',
  ]);
  assert.deepEqual(removed({ policy: 'Delete', objects: { ...NO_OBJECTS, secrets } }), [
    'Secret alice-ca-g1',
    'Secret alice-coordinator-tls',
    'Secret alice-user-ann',
  ]);
});

test('K3: a copy that somebody made of a volume claim or a Secret, labels and all, is left', () => {
  const { volumeClaims } = exampleObjects(['disk-0']);
  const copyOf = (objects: ReadonlyMap<string, KubeObject>, name: string): KubeObject => {
    const one = objects.get(name);
    assert.ok(one !== undefined);
    const annotations = { 'cert-manager.io/certificate-name': name };
    return { ...one, metadata: { ...one.metadata, name: `${name}-saved`, uid: `uid-${name}-saved`, annotations } };
  };
  const given = {
    ...NO_OBJECTS,
    volumeClaims: byName([copyOf(volumeClaims, 'alice-coordinator'), copyOf(volumeClaims, 'alice-disk-0')]),
    secrets: byName([copyOf(secrets, 'alice-ca-g1'), copyOf(secrets, 'alice-user-ann')]),
  };
  for (const policy of ['Retain', 'Delete'] as const) {
    assert.deepEqual(removed({ policy, objects: given }), []);
    assert.equal(plan({ policy, objects: given }).isFinished, true);
  }
});

test('K3: with Delete a coordinator that cannot be asked holds its volumes until somebody insists', () => {
  const given = { policy: 'Delete', coordinator: silent, objects: exampleObjects(['disk-0']) } as const;
  const held = plan({ ...given, deletedAgoMs: 24 * 60 * MINUTE_MS });
  assert.deepEqual(held.removals, []);
  assert.equal(held.stalled?.reason, 'CoordinatorSilent');
  assert.match(
    held.stalled?.message ?? '',
    /kubectl annotate -n team member alice collective\.storage\/force-delete=true/,
  );
  assert.equal(removed({ ...given, isForced: true }).length, 2);
});

test('K3: with Retain it is waited for five minutes, and the message is the same all the time', () => {
  const given = { coordinator: silent, objects: exampleObjects(['disk-0']) };
  const [early, late] = [1_000, 4 * MINUTE_MS].map((deletedAgoMs) => plan({ ...given, deletedAgoMs }));
  assert.deepEqual(early?.removals, []);
  assert.deepEqual(early?.reconciling, late?.reconciling);
  assert.equal(removed({ ...given, deletedAgoMs: 5 * MINUTE_MS }).length, 2);
});

for (const policy of ['Retain', 'Delete'] as const) {
  test(`K3: with ${policy} a Member does not hold up its namespace, whose pods are gone and come never again`, () => {
    const { volumeClaims } = exampleObjects(['disk-0']);
    const given = { policy, coordinator: silent, objects: { ...NO_OBJECTS, volumeClaims, certificates } };
    const { isFinished, removals, stalled } = plan({ ...given, namespaceEnds: true });
    assert.deepEqual([isFinished, removals, stalled], [true, [], undefined]);
    assert.equal(plan(given).isFinished, false);
  });
}

test('K3: a Member that never served can be deleted at once, also with Delete', () => {
  const status: Member['status'] = {};
  assert.equal(removed({ policy: 'Delete', coordinator: silent, status, objects: exampleObjects([]) }).length, 1);
});

test('K3: once removal has begun, the coordinator that is gone with it is not asked again', () => {
  const status: Member['status'] = {
    ...began(),
    conditions: [{ type: 'Reconciling', status: 'True', reason: 'Removing', message: '', lastTransitionTime: '' }],
  };
  const { volumeClaims } = exampleObjects([]);
  const given = { policy: 'Delete', coordinator: silent, status, objects: { ...NO_OBJECTS, volumeClaims } } as const;
  assert.deepEqual(removed(given), ['PersistentVolumeClaim alice-coordinator']);
});

test('K3: what the apiserver does not let go is told, and the finalizer waits for it', () => {
  const message = 'Delete persistentvolumeclaims team/alice-disk-0: 403 Forbidden: a policy keeps volumes';
  const refused = [{ kind: 'PersistentVolumeClaim', name: 'alice-disk-0', message }];
  const { volumeClaims } = exampleObjects(['disk-0']);
  const going = plan({ policy: 'Delete', objects: { ...NO_OBJECTS, volumeClaims } });
  const told = withRefused(going, refused);
  assert.deepEqual(
    [told.isFinished, told.stalled?.reason, told.reconciling.reason],
    [false, 'WriteRefused', 'Removing'],
  );
  assert.match(told.stalled?.message ?? '', /PersistentVolumeClaim alice-disk-0: .*a policy keeps volumes/);
  assert.deepEqual(withRefused(going, []), going);
});

test('an object that is ending already is not removed again', () => {
  const [name, secret] = [...secrets].find(([key]) => key === 'alice-user-ann') ?? [];
  assert.ok(name !== undefined && secret !== undefined);
  const ending = { ...secret, metadata: { ...secret.metadata, deletionTimestamp: '2026-11-20T12:00:00Z' } };
  assert.deepEqual(removed({ objects: { ...NO_OBJECTS, secrets: new Map([[name, ending]]) } }), []);
});
