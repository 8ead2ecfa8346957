/**
 * The whole plan of one Member from one picture (style: decide, then do). What it answers is applied in this order: the
 * finalizer, objects, orders to the coordinator, removals; then the status, built with what the apiserver refused.
 */
import { FINALIZER } from '../api/group.ts';
import { caSettingsOf } from '../ca/ca-settings.ts';
import type { CertificatePlan, LeafWish, PeerReport } from '../ca/certificate-picture.ts';
import { planCertificates } from '../ca/plan-certificates.ts';
import { NO_REQUESTS, planRequests, type RequestsPlan } from '../csr/plan-requests.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { isReadyPod } from '../kube/object-facts.ts';
import { backupSubjects } from '../users/backup-subject.ts';
import { planSubjects, type SubjectOrder, type SubjectsPlan } from '../users/plan-subjects.ts';
import { namesOf, podOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import { planReferences } from './plan-claims.ts';
import { type MemberConditions, plainConditions, planConditions } from './plan-conditions.ts';
import { type DeletionPlan, planDeletion } from './plan-deletion.ts';
import { memberLeaves } from './plan-leaves.ts';
import { type NodeOrder, type NodesPlan, planNodes } from './plan-nodes.ts';
import { type ObjectsPlan, planObjects, podsToTouch } from './plan-objects.ts';
import { hasAllReplicas, replicationGate } from './plan-replication.ts';
import { planRestore } from './plan-restore.ts';
import { planRollout, type RolloutPlan } from './plan-rollout.ts';
import type { Apply, PlannedEvent, Removal } from './plan-types.ts';
import { planVolumes, type VolumesPlan } from './plan-volumes.ts';
import { type MemberShape, shapeOf } from './shape.ts';
import type { RefusedWrite } from './troubles.ts';

/** While something is under way the coordinator is asked this often; what the cluster does is told by watches. */
const UNDER_WAY_MS = 5_000;
const AT_REST_MS = 45_000;

export type CoordinatorOrder =
  | NodeOrder
  | { readonly kind: 'root-realm' }
  | { readonly kind: 'put-subject'; readonly subject: SubjectOrder }
  | { readonly kind: 'remove-subject'; readonly name: string };

export interface MemberPlan {
  readonly kind: 'run';
  readonly shape: MemberShape;
  readonly nodes: NodesPlan;
  readonly volumes: VolumesPlan;
  readonly certificates: CertificatePlan;
  readonly requests: RequestsPlan;
  readonly objects: ObjectsPlan;
  readonly rollout: RolloutPlan;
  readonly subjects: SubjectsPlan;
  readonly isPaused: boolean;
  /** Every chunk, and that is known. */
  readonly isReplicated: boolean;
  /** The coordinator serves, for the first time that is known. */
  readonly begins: boolean;
  /** Its settings of the beginning are still to be written. */
  readonly settingsWait: boolean;
  /** The annotation that ordered a restore is taken away. */
  readonly orderIsOver: boolean;
  /** All that is to be there, in order. */
  readonly applies: readonly Apply[];
  readonly orders: readonly CoordinatorOrder[];
  readonly removals: readonly Removal[];
  readonly podsToTouch: readonly KubeObject[];
  readonly events: readonly PlannedEvent[];
}

export type AnyPlan =
  | MemberPlan
  | { readonly kind: 'external'; readonly conditions: MemberConditions; readonly requeueAfterMs: number }
  | { readonly kind: 'stalled'; readonly conditions: MemberConditions; readonly requeueAfterMs: number }
  | { readonly kind: 'delete'; readonly deletion: DeletionPlan };

export interface CertificateFacts {
  readonly renewalPolicySupported: boolean | 'absent';
  readonly userLeaves: readonly LeafWish[];
  readonly peers: readonly PeerReport[] | undefined;
}

export function planMember(picture: MemberPicture, facts: CertificateFacts): AnyPlan {
  const { member } = picture;
  if (member.metadata.deletionTimestamp !== undefined) return { kind: 'delete', deletion: planDeletion(picture) };
  const hindrance = planReferences(picture);
  if (hindrance !== undefined || picture.collective === undefined) {
    const ready = { status: 'False', reason: hindrance?.reason ?? '', message: hindrance?.message ?? '' } as const;
    // What is in the way may be nothing that is watched.
    return { kind: 'stalled', conditions: plainConditions(hindrance, ready), requeueAfterMs: AT_REST_MS };
  }
  if (member.spec.external !== undefined) return planExternal(picture);
  return planRun(picture, shapeOf(member, picture.collective, picture.operator), facts);
}

function planExternal({ external }: MemberPicture): AnyPlan {
  const conditions =
    external === undefined
      ? plainConditions(undefined, { status: 'Unknown', reason: 'NotAsked', message: 'Its endpoint is asked' })
      : external.reachable
        ? plainConditions(undefined, { status: 'True', reason: 'Reachable', message: 'Its endpoint proves its name' })
        : plainConditions(undefined, { status: 'False', reason: 'Unreachable', message: external.why });
  return { kind: 'external', conditions, requeueAfterMs: AT_REST_MS };
}

function planRun(picture: MemberPicture, shape: MemberShape, facts: CertificateFacts): MemberPlan {
  const { member, objects, nowMs } = picture;
  const isPaused = member.spec.maintenance?.paused === true;
  const nodes = planNodes(picture, shape);
  const volumes = planVolumes(picture, shape, nodes);
  const restore = planRestore(picture, shape, volumes.coordinator);
  const certificates = planCertificates({
    nowMs,
    member,
    trustDomain: shape.trustDomain,
    namespace: shape.namespace,
    renewalPolicySupported: facts.renewalPolicySupported,
    certificates: objects.certificates,
    issuers: objects.issuers,
    secrets: objects.secrets,
    configMaps: objects.configMaps,
    leaves: [...memberLeaves(shape, nodes), ...facts.userLeaves],
    foreign: picture.foreign,
    peers: facts.peers,
  });
  const isReplicated = hasAllReplicas(picture.coordinator);
  const planned = planObjects({ picture, shape, nodes, volumes, restore, certificates, isReplicated });
  const rollout = planRollout({
    nowMs,
    nodes: planned.nodeSets,
    ...(planned.coordinatorSet === undefined ? {} : { coordinator: planned.coordinatorSet }),
    pods: objects.pods,
    replication: replicationGate(picture.coordinator),
    paused: isPaused,
  });
  const seenSubjects = picture.coordinator.state === 'answered' ? picture.coordinator.subjects : undefined;
  const subjects = planSubjects(member, shape.trustDomain, seenSubjects);
  const begins = serves(picture) && member.status?.coordinator?.began !== true;
  const settingsWait = (begins || member.status?.coordinator?.settingsWait === true) && !cameBack(picture);
  return {
    kind: 'run',
    shape,
    nodes,
    volumes,
    certificates,
    requests: requestsOf(picture, shape, certificates, facts),
    objects: planned,
    rollout,
    subjects,
    isPaused,
    isReplicated,
    begins,
    settingsWait,
    orderIsOver: restore.orderIsOver && !isPaused,
    applies: isPaused ? certificates.objects : [...volumes.applies, ...certificates.objects, ...planned.applies],
    orders: isPaused
      ? []
      : [
          ...(settingsWait ? [{ kind: 'root-realm' } as const] : []),
          ...nodes.orders,
          ...subjectOrders(subjects),
          ...subjectOrders(backupSubjects(shape.backup !== undefined, seenSubjects)),
        ],
    removals: isPaused
      ? certificates.removals
      : [...certificates.removals, ...nodes.removals, ...planned.removals, ...rollout.removals],
    podsToTouch: podsToTouch(picture, certificates.trustBundleHash),
    events: isPaused
      ? certificates.events
      : [...certificates.events, ...volumes.events, ...restore.events, ...rollout.events],
  };
}

/** Also of a paused member: who may come in is decided, and certificates are renewed. */
function requestsOf(
  { nowMs, member, objects, coordinator, keptRequests: kept }: MemberPicture,
  { namespace, trustDomain }: MemberShape,
  { issuer, roots, stalled }: CertificatePlan,
  { renewalPolicySupported }: CertificateFacts,
): RequestsPlan {
  // What it keeps is not known: nothing is made for it, and nothing is taken away.
  if (coordinator.state !== 'answered' || renewalPolicySupported === 'absent' || stalled !== undefined)
    return NO_REQUESTS;
  const { leafDurationMs } = caSettingsOf(member, trustDomain);
  const requests = objects.certificateRequests;
  return planRequests({ nowMs, member, namespace, kept, requests, issuer, leafDurationMs, roots });
}

/** Whom nodes and people can use, also if the operator itself cannot ask it: from now on it has something to lose (K3). */
function serves({ member, objects, coordinator }: MemberPicture): boolean {
  return (
    coordinator.state === 'answered' || isReadyPod(objects.pods.get(podOf(namesOf(member.metadata.name).coordinator)))
  );
}

/** With metadata from an earlier life, whose settings are not those of a beginning (K3). */
function cameBack({ member, objects }: MemberPicture): boolean {
  const claim = objects.volumeClaims.get(namesOf(member.metadata.name).coordinator);
  const { creationTimestamp: claimed = '' } = claim?.metadata ?? {};
  return claimed !== '' && claimed < (member.metadata.creationTimestamp ?? '');
}

function subjectOrders({ puts, removals }: Pick<SubjectsPlan, 'puts' | 'removals'>): CoordinatorOrder[] {
  return [
    ...puts.map((subject) => ({ kind: 'put-subject', subject }) as const),
    ...removals.map((name) => ({ kind: 'remove-subject', name }) as const),
  ];
}

export function conditionsOf(
  plan: MemberPlan,
  picture: MemberPicture,
  refused: readonly RefusedWrite[],
): MemberConditions {
  const { shape, nodes, volumes, certificates, rollout } = plan;
  const { condition, stalled } = certificates;
  return planConditions({
    picture,
    shape,
    nodes,
    volumes,
    upgrading: rollout.upgrading,
    certificates: { condition, ...(stalled === undefined ? {} : { stalled: { ...stalled, status: 'True' } }) },
    refused,
  });
}

/** When to look again although nothing was heard. */
export function requeueAfterMs(plan: MemberPlan, conditions: MemberConditions): number {
  const { certificates, requests, rollout, isReplicated } = plan;
  const isSettled = conditions.Ready.status === 'True' && conditions.Reconciling.status === 'False';
  const restMs = isSettled && rollout.upgrading.status !== 'True' && isReplicated;
  return Math.min(
    restMs ? AT_REST_MS : UNDER_WAY_MS,
    certificates.requeueAfterMs ?? AT_REST_MS,
    requests.requeueAfterMs ?? AT_REST_MS,
  );
}

export function hasFinalizer(picture: MemberPicture): boolean {
  return picture.member.metadata.finalizers?.includes(FINALIZER) === true;
}
