/**
 * The end of a Member (K3): what it takes along is a question of its policy, and the finalizer ends in any case. Volumes are given up
 * only with the word of their coordinator; one that cannot be asked holds `Delete` until somebody insists, and `Retain`, which
 * gives up nothing, for a few minutes. Pods end first, certificates before their Secrets, so that cert-manager makes no new ones.
 * When its namespace goes, everything goes whatever the policy, and the Member does not hold it up.
 */
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import { CERTIFICATE_NAME, certificateRemoval } from '../ca/plan-leaves.ts';
import type { KubeObject, ResourceKind } from '../kube/kube-object.ts';
import { annotationOf, isDeleting, labelOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { namesOf } from './names.ts';
import type { MemberPicture, ObjectsByName } from './picture.ts';
import { type MemberConditions, plainConditions } from './plan-conditions.ts';
import { removal } from './plan-nodes.ts';
import type { PlannedCondition, Removal } from './plan-types.ts';
import { type RefusedWrite, writeTrouble } from './troubles.ts';

/** So long a coordinator that should answer is waited for when nothing is to be given up. */
export const RETAIN_ASKS_MS = 5 * 60_000;
/** And so long what others end: pods, which a machine that is gone never does, and what Certificates own. */
const OTHERS_END_MS = 5 * 60_000;
const LOOK_AGAIN_MS = 2_000;
const REFUSED_AGAIN_MS = 30_000;

/** Reason of Reconciling once the coordinator had its say: what goes on from there needs it no more. */
export const REMOVING = 'Removing';

export interface DeletionPlan {
  readonly removals: readonly Removal[];
  /** Nothing is left to do: the finalizer goes. */
  readonly isFinished: boolean;
  readonly reconciling: PlannedCondition;
  readonly stalled?: PlannedCondition;
  readonly requeueAfterMs?: number;
}

export function planDeletion(picture: MemberPicture): DeletionPlan {
  if (picture.namespaceEnds) return finished('Its namespace is being deleted, and all that is in it');
  const waiting = mayGo(picture);
  if (waiting !== undefined) return waiting;
  for (const step of [podsStep, certificatesStep, secretsStep]) {
    const { removals, waitsFor } = step(picture);
    if (removals.length > 0 || waitsFor !== undefined) {
      return {
        removals,
        isFinished: false,
        reconciling: {
          status: 'True',
          reason: REMOVING,
          message: waitsFor ?? `${removals.length} objects are removed`,
        },
        requeueAfterMs: LOOK_AGAIN_MS,
      };
    }
  }
  return finished('Nothing is left to remove');
}

/** What the apiserver does not let go is told; the finalizer waits for it. */
export function withRefused(plan: DeletionPlan, refused: readonly RefusedWrite[]): DeletionPlan {
  const [first] = refused.map(writeTrouble);
  if (first === undefined) return plan;
  const stalled: PlannedCondition = { status: 'True', reason: first.reason, message: first.message };
  return {
    ...plan,
    reconciling: { ...plan.reconciling, message: first.message },
    stalled,
    requeueAfterMs: REFUSED_AGAIN_MS,
  };
}

/** What else was known of it stays told. */
export function deletingConditions(
  { member }: MemberPicture,
  { reconciling, stalled }: DeletionPlan,
): MemberConditions {
  const { message } = stalled ?? reconciling;
  const ready = { status: 'False', reason: 'Deleting', message } as const;
  const before = member.status?.conditions ?? [];
  const kept = Object.fromEntries(
    before.map(({ type, status, reason, message }) => [type, { status, reason, message }]),
  );
  const plain = plainConditions(stalled, ready);
  return { ...plain, ...kept, Ready: ready, Reconciling: reconciling, Stalled: plain.Stalled };
}

function finished(message: string): DeletionPlan {
  return { removals: [], isFinished: true, reconciling: { status: 'True', reason: REMOVING, message } };
}

export function isAuthorityObject(member: string, name: string): boolean {
  return name.startsWith(`${member}-ca-g`) && /^[0-9]+$/.test(name.slice(`${member}-ca-g`.length));
}

/** Undefined: it may. */
function mayGo({ member, coordinator, nowMs }: MemberPicture): DeletionPlan | undefined {
  const { status, metadata, spec } = member;
  const began = status?.coordinator?.began === true;
  const hasAgreed = status?.conditions?.some(({ type, reason }) => type === 'Reconciling' && reason === REMOVING);
  const isForced = metadata.annotations?.[ANNOTATIONS.forceDelete] === 'true';
  if (!began || hasAgreed === true || isForced || coordinator.state === 'answered') return undefined;
  const asked = `The coordinator cannot be asked whether somebody uses it (${coordinator.why})`;
  const force = `kubectl annotate -n ${metadata.namespace} member ${metadata.name} ${ANNOTATIONS.forceDelete}=true`;
  if (spec.deletionPolicy === 'Delete') {
    const message = `${asked}, and its volumes are to be deleted. To delete all the same: ${force}`;
    const stalled: PlannedCondition = { status: 'True', reason: 'CoordinatorSilent', message };
    return { removals: [], isFinished: false, reconciling: deleting(message), stalled, requeueAfterMs: 30_000 };
  }
  const leftMs = Date.parse(metadata.deletionTimestamp ?? '') + RETAIN_ASKS_MS - nowMs;
  if (!(leftMs > 0)) return undefined;
  const message = `${asked}. Its volumes are kept, so it goes in ${Math.ceil(leftMs / 1000)} s; sooner with: ${force}`;
  return {
    removals: [],
    isFinished: false,
    // Without the seconds, which would be a write each time.
    reconciling: deleting(message.replace(/in \d+ s/, 'after five minutes')),
    requeueAfterMs: Math.min(leftMs, 30_000),
  };
}

function deleting(message: string): PlannedCondition {
  return { status: 'True', reason: 'Deleting', message };
}

interface Step {
  readonly removals: readonly Removal[];
  /** Not done before this is so. */
  readonly waitsFor?: string;
}

/** Nodes and coordinator end in order by themselves; what they hold is synced. */
function podsStep(picture: MemberPicture): Step {
  const { objects } = picture;
  const removals = [
    ...removalsOf(RESOURCES.cronJobs, objects.cronJobs),
    ...removalsOf(RESOURCES.jobs, objects.jobs),
    ...removalsOf(RESOURCES.statefulSets, objects.statefulSets),
  ];
  const pods = [...objects.pods.keys()];
  if (objects.statefulSets.size === 0 && (pods.length === 0 || isLate(picture))) return { removals };
  return { removals, waitsFor: `Pods end: ${pods.join(', ')}` };
}

/** With the policy Delete volumes and the authority go, too. */
function certificatesStep(picture: MemberPicture): Step {
  const { member, objects } = picture;
  const isDelete = member.spec.deletionPolicy === 'Delete';
  const isKept = ({ metadata: { name } }: KubeObject): boolean =>
    !isDelete && isAuthorityObject(member.metadata.name, name);
  const removals = [
    ...leaving(objects.certificates, isKept).map(certificateRemoval),
    ...(isDelete ? removalsOf(RESOURCES.issuers, objects.issuers) : []),
    ...(isDelete ? removalsOf(RESOURCES.volumeClaims, objects.volumeClaims, isCopiedClaim) : []),
  ];
  const left = [...objects.certificates.values()].filter((certificate) => !isKept(certificate));
  return left.length === 0 || isLate(picture)
    ? { removals }
    : { removals, waitsFor: `${left.length} certificates are removed` };
}

/** Secrets that cert-manager made are nobody's: it leaves them. */
function secretsStep({ member, objects }: MemberPicture): Step {
  const isKept = (secret: KubeObject): boolean =>
    isCopiedSecret(secret) ||
    (member.spec.deletionPolicy !== 'Delete' && isAuthorityObject(member.metadata.name, secret.metadata.name));
  return { removals: removalsOf(RESOURCES.secrets, objects.secrets, isKept) };
}

/** Of a claim of ours the labels say what it is called. Whoever made another one like it wants it for something. */
function isCopiedClaim(claim: KubeObject): boolean {
  const names = namesOf(labelOf(claim, LABELS.member) ?? '');
  const node = labelOf(claim, LABELS.node);
  return ![names.coordinator, names.backup, ...(node === undefined ? [] : [names.node(node)])].includes(
    claim.metadata.name,
  );
}

/** cert-manager writes into each Secret for which Certificate it is, and those of ours have one name. */
function isCopiedSecret(secret: KubeObject): boolean {
  const madeFor = annotationOf(secret, CERTIFICATE_NAME);
  return madeFor !== undefined && madeFor !== secret.metadata.name;
}

function isLate({ member, nowMs }: MemberPicture): boolean {
  return nowMs - Date.parse(member.metadata.deletionTimestamp ?? '') > OTHERS_END_MS;
}

function removalsOf(
  resource: ResourceKind,
  objects: ObjectsByName,
  isKept: (object: KubeObject) => boolean = () => false,
): Removal[] {
  return leaving(objects, isKept).map((object) => removal(resource, object));
}

function leaving(objects: ObjectsByName, isKept: (object: KubeObject) => boolean): KubeObject[] {
  return [...objects.values()].filter(
    (object) => labelOf(object, LABELS.member) !== undefined && !isDeleting(object) && !isKept(object),
  );
}
