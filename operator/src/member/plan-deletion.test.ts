import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import type { Member, MemberSpec } from '../api/member.ts';
import type { CoordinatorAnswer } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleMember } from './example-member.ts';
import { answered, began, byName, exampleObjects, examplePicture, NOW_MS } from './example-picture.ts';
import { type MemberObjects, NO_OBJECTS } from './picture.ts';
import { planDeletion } from './plan-deletion.ts';

const MINUTE_MS = 60_000;
const silent: CoordinatorAnswer = { state: 'silent', why: 'no answer within 5s' };

interface Given {
  readonly policy?: MemberSpec['deletionPolicy'];
  readonly status?: Member['status'];
  readonly coordinator?: CoordinatorAnswer;
  readonly deletedAgoMs?: number;
  readonly isForced?: boolean;
  readonly objects?: MemberObjects;
}

function plan({
  policy = 'Retain',
  status = began(),
  coordinator = answered(),
  deletedAgoMs = 1_000,
  isForced,
  objects = NO_OBJECTS,
}: Given) {
  const deletionTimestamp = new Date(NOW_MS - deletedAgoMs).toISOString();
  const annotations = isForced === true ? { annotations: { [ANNOTATIONS.forceDelete]: 'true' } } : {};
  const member = { ...exampleMember({ deletionPolicy: policy }, { deletionTimestamp, ...annotations }), status };
  return planDeletion(examplePicture({ member, coordinator, objects }));
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

test('an object that is ending already is not removed again', () => {
  const [name, secret] = [...secrets].find(([key]) => key === 'alice-user-ann') ?? [];
  assert.ok(name !== undefined && secret !== undefined);
  const ending = { ...secret, metadata: { ...secret.metadata, deletionTimestamp: '2026-11-20T12:00:00Z' } };
  assert.deepEqual(removed({ objects: { ...NO_OBJECTS, secrets: new Map([[name, ending]]) } }), []);
});
