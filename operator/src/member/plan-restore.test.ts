import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOTATIONS } from '../api/group.ts';
import type { Member, MemberSpec } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleMember } from './example-member.ts';
import { answered, began, byName, exampleObjects, examplePicture } from './example-picture.ts';
import { statusOf } from './member-status.ts';
import { labelsOf } from './names.ts';
import type { MemberObjects, MemberPicture } from './picture.ts';
import { conditionsOf, type MemberPlan, planMember } from './plan-member.ts';

const BACKUP = 'alice-20261120T110000Z.backup';
const NEW_UID = 'claim-made-anew';

interface Given {
  readonly order?: string;
  readonly accept?: string;
  readonly spec?: Partial<MemberSpec>;
  readonly status?: Member['status'];
  readonly objects?: MemberObjects;
  readonly coordinator?: MemberPicture['coordinator'];
}

function pictureOf(given: Given): MemberPicture {
  const { order, accept, spec, status = began(), objects = lostVolume(), coordinator } = given;
  const annotations: Record<string, string> = {
    ...(order === undefined ? {} : { [ANNOTATIONS.restoreFrom]: order }),
    ...(accept === undefined ? {} : { [ANNOTATIONS.acceptLostVolume]: accept }),
  };
  const nodePools = [{ name: 'disk', replicas: 1, capacity: '100Gi' }];
  const member = { ...exampleMember({ nodePools, backup: { schedule: '@hourly' }, ...spec }, { annotations }), status };
  return examplePicture({ member, objects, ...(coordinator === undefined ? {} : { coordinator }) });
}

function plan(given: Given): { readonly plan: MemberPlan; readonly picture: MemberPicture } {
  const picture = pictureOf(given);
  const made = planMember(picture, { renewalPolicySupported: true, userLeaves: [], peers: undefined });
  assert.ok(made.kind === 'run');
  return { plan: made, picture };
}

/** Coordinator and nodes as they were, and the claim of the backups; the coordinator's own is gone, and so is its pod. */
function lostVolume(more: Partial<MemberObjects> = {}): MemberObjects {
  const all = exampleObjects(['disk-0']);
  return {
    ...all,
    volumeClaims: byName([...[...all.volumeClaims.values()].filter(isNot('alice-coordinator')), backupClaim()]),
    pods: byName([...all.pods.values()].filter(isNot('alice-coordinator-0'))),
    ...more,
  };
}

const isNot = (name: string) => (object: KubeObject) => object.metadata.name !== name;

function claim(name: string, uid: string, order?: string): KubeObject {
  const component = name === 'alice-backup' ? 'backup' : 'coordinator';
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name,
      namespace: 'team',
      uid,
      labels: labelsOf({ member: 'alice', collective: 'photos', component }),
      ...(order === undefined ? {} : { annotations: { [ANNOTATIONS.restoreFrom]: order } }),
    },
    spec: { resources: { requests: { storage: '10Gi' } } },
    status: { phase: 'Bound', capacity: { storage: '10Gi' } },
  };
}

const backupClaim = () => claim('alice-backup', 'claim-backup');

function beingFilled(order = BACKUP, more: Partial<MemberObjects> = {}): MemberObjects {
  const objects = lostVolume();
  const made = claim('alice-coordinator', NEW_UID, order);
  return { ...objects, volumeClaims: byName([...objects.volumeClaims.values(), made]), ...more };
}

function wanted({ plan: { applies } }: { plan: MemberPlan }, kind: string): KubeObject[] {
  return applies.filter(({ resource }) => resource.kind === kind).map(({ object }) => object);
}

function coordinatorSet(of: { plan: MemberPlan }): { replicas: number } | undefined {
  return wanted(of, 'StatefulSet').find(({ metadata }) => metadata.name === 'alice-coordinator')?.spec as
    | { replicas: number }
    | undefined;
}

function jobs(job: KubeObject, status: object, message: string): Pick<MemberObjects, 'jobs' | 'pods'> {
  const made = { ...job, metadata: { ...job.metadata, uid: 'job-uid' }, status };
  const pod: KubeObject = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'restore-pod',
      namespace: 'team',
      labels: { ...job.metadata.labels, 'job-name': job.metadata.name },
    },
    status: { containerStatuses: [{ state: { terminated: { exitCode: message.startsWith('{') ? 0 : 1, message } } }] },
  };
  return { jobs: byName([made]), pods: byName([...lostVolume().pods.values(), pod]) };
}

function theJob(order = BACKUP): KubeObject {
  const [job] = wanted(plan({ order, objects: beingFilled(order) }), 'Job');
  assert.ok(job !== undefined);
  return job;
}

const COMPLETE = { conditions: [{ type: 'Complete', status: 'True' }], completionTime: '2026-11-20T12:05:00Z' };
const FAILED = { conditions: [{ type: 'Failed', status: 'True', message: 'Job has reached the backoff limit' }] };

test('K3: a lost volume with backups says how the newest one is restored', () => {
  const lost = plan({});
  const { message, reason } = conditionsOf(lost.plan, lost.picture, []).CoordinatorReady;
  assert.equal(reason, 'CoordinatorVolumeLost');
  assert.match(message, /kubectl annotate -n team member alice collective\.storage\/restore-from=latest/);
  assert.deepEqual(wanted(lost, 'Job'), []);
});

test('K3: an order makes a new volume that says from its first moment that it is being filled', () => {
  const ordered = plan({ order: BACKUP });
  const made = wanted(ordered, 'PersistentVolumeClaim').find(({ metadata }) => metadata.name === 'alice-coordinator');
  assert.equal(made?.metadata.annotations?.[ANNOTATIONS.restoreFrom], BACKUP);
  assert.deepEqual(wanted(ordered, 'Job'), [], 'what it is called is not known yet');
  assert.equal(coordinatorSet(ordered)?.replicas, 0);
  assert.equal(ordered.plan.volumes.coordinator.state, 'restoring');
  assert.equal(
    statusOf({ ...ordered, conditions: conditionsOf(ordered.plan, ordered.picture, []), settingsWait: false })
      .coordinator?.volumeUid,
    'claim-coordinator',
  );
});

test('K3: the job begins when no coordinator has the volume, and no coordinator begins before it is done', () => {
  const objects = beingFilled();
  const pods = exampleObjects(['disk-0']).pods;
  const early = plan({ order: BACKUP, objects: { ...objects, pods } });
  assert.deepEqual(wanted(early, 'Job'), []);
  assert.equal(coordinatorSet(early)?.replicas, 0);
  const due = plan({ order: BACKUP, objects });
  assert.equal(wanted(due, 'Job').length, 1);
  assert.match(JSON.stringify(wanted(due, 'Job')[0]), new RegExp(`/var/lib/collective-backups/${BACKUP}"`));
  assert.equal(coordinatorSet(due)?.replicas, 0);
  const [cronJob] = wanted(due, 'CronJob');
  assert.equal((cronJob?.spec as { suspend: boolean } | undefined)?.suspend, true, 'backups rest');
  const { reason, status } = conditionsOf(due.plan, due.picture, []).CoordinatorReady;
  assert.deepEqual([reason, status], ['Restoring', 'False']);
});

test('K3: an operator that looks for the first time takes a volume that is being filled for nothing else', () => {
  const seen = plan({ status: undefined, objects: { ...beingFilled(), statefulSets: new Map() } });
  assert.equal(seen.plan.volumes.coordinator.state, 'restoring');
  assert.equal(coordinatorSet(seen), undefined);
});

test('M2a: a member that comes into another cluster is restored before it begins', () => {
  const none = { ...lostVolume(), statefulSets: new Map(), pods: new Map(), volumeClaims: byName([backupClaim()]) };
  const first = plan({ order: 'latest', status: undefined, objects: none });
  assert.equal(first.plan.volumes.coordinator.state, 'restoring');
  assert.equal(coordinatorSet(first), undefined);
});

test('M2a: what was restored is remembered, the coordinator starts and must find its data, and no settings of a beginning are written', () => {
  const done = jobs(theJob(), COMPLETE, JSON.stringify({ file: BACKUP }));
  const { plan: made, picture } = plan({ order: BACKUP, objects: beingFilled(BACKUP, done) });
  assert.equal(coordinatorSet({ plan: made })?.replicas, 1);
  assert.match(JSON.stringify(made.objects.coordinatorSet), /COLLECTIVE_EXPECT_DATA/);
  const { coordinator } = statusOf({
    picture,
    plan: made,
    conditions: conditionsOf(made, picture, []),
    settingsWait: false,
  });
  assert.deepEqual(coordinator?.restored, {
    order: BACKUP,
    file: BACKUP,
    at: '2026-11-20T12:05:00Z',
    volumeUid: NEW_UID,
  });
  assert.deepEqual([coordinator?.volumeUid, coordinator?.began], [NEW_UID, true]);
  assert.deepEqual(
    made.removals.filter(({ reference }) => reference.resource.kind === 'Job'),
    [],
  );
  assert.ok(made.events.some(({ reason }) => reason === 'MetadataRestored'));

  const status = { coordinator: { ...began()?.coordinator, ...coordinator } } as Member['status'];
  const after = plan({ order: BACKUP, status, objects: beingFilled(BACKUP, done), coordinator: answered() });
  assert.equal(after.plan.orderIsOver, true);
  assert.deepEqual(after.plan.removals.filter(({ reference }) => reference.resource.kind === 'Job').length, 1);
  const kept = wanted(after, 'PersistentVolumeClaim').find(({ metadata }) => metadata.name === 'alice-coordinator');
  const asAnyOther = { [ANNOTATIONS.began]: 'true' };
  assert.deepEqual(kept?.metadata.annotations, asAnyOther, 'it is a volume as any other that has served');
  assert.ok(!after.plan.orders.some(({ kind }) => kind === 'root-realm'));
});

test('a restore that fails says why, holds the coordinator, and another backup is another job', () => {
  const objects = beingFilled(BACKUP, jobs(theJob(), FAILED, 'collective: Read a backup: it is cut (backup_damaged)'));
  const given = plan({ order: BACKUP, objects });
  const { Stalled } = conditionsOf(given.plan, given.picture, []);
  assert.deepEqual([Stalled.status, Stalled.reason], ['True', 'RestoreFailed']);
  assert.match(Stalled.message, /it is cut \(backup_damaged\)\. Choose another backup: kubectl annotate/);
  assert.ok(Stalled.message.endsWith(` To try this one again: kubectl delete -n team job ${theJob().metadata.name}`));
  assert.equal(wanted(plan({ order: BACKUP, objects: beingFilled(BACKUP) }), 'Job').length, 1, 'it is made again');
  assert.equal(coordinatorSet(given)?.replicas, 0);
  const other = plan({ order: 'latest', objects });
  const [job] = wanted(other, 'Job');
  assert.match(JSON.stringify(job), /"\/var\/lib\/collective-backups\/"/);
  assert.equal(other.plan.removals.filter(({ uid }) => uid === 'job-uid').length, 1, 'the failed one goes');
});

test('K3: an order to a coordinator that serves is refused, told and taken away; a silent one is waited for', () => {
  const objects = exampleObjects(['disk-0']);
  const serving = plan({ order: BACKUP, objects, coordinator: answered() });
  assert.deepEqual([serving.plan.orderIsOver, serving.plan.volumes.coordinator.state], [true, 'fine']);
  assert.deepEqual(wanted(serving, 'Job'), []);
  assert.ok(
    serving.plan.events.some(({ reason, message }) => reason === 'RestoreRefused' && /never overwritten/.test(message)),
  );
  const silent = plan({ order: BACKUP, objects });
  assert.deepEqual([silent.plan.orderIsOver, wanted(silent, 'Job').length], [false, 0]);
});

test('K3: who accepts the loss gets an empty volume, whatever was ordered', () => {
  const accepted = plan({ order: BACKUP, accept: 'claim-coordinator' });
  assert.equal(accepted.plan.volumes.coordinator.state, 'fine');
  assert.equal(accepted.plan.volumes.expectsData, false);
});

test('a name that leads out of the folder is refused', () => {
  for (const order of ['../../etc/passwd', '-rf', 'a/b', '']) {
    const given = plan({ order, objects: beingFilled(order) });
    assert.equal(conditionsOf(given.plan, given.picture, []).Stalled.reason, 'RestoreFailed', order);
    assert.deepEqual(wanted(given, 'Job'), []);
  }
});

test('without a volume of backups the order says what is missing', () => {
  const { volumeClaims, ...objects } = beingFilled();
  const without = { ...objects, volumeClaims: byName([...volumeClaims.values()].filter(isNot('alice-backup'))) };
  const given = plan({ order: BACKUP, spec: { backup: undefined }, objects: without });
  const { message } = conditionsOf(given.plan, given.picture, []).Stalled;
  assert.match(message, /There is no volume claim alice-backup with backups/);
});
