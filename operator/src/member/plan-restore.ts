/**
 * From a lost volume of the coordinator back to its metadata (K3, M2a): somebody names a backup by an annotation, a new volume is
 * made, a job fills it, and only then a coordinator may start on it. That the new volume is one that is being filled stands on its
 * claim from its first moment, so that no operator that looks later takes it for an empty one to begin with.
 *
 * Nothing that is there is ever overwritten: an order for a coordinator that serves is refused, and the job writes into an empty
 * folder only.
 */
import { ANNOTATIONS } from '../api/group.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { annotationOf, conditionOf, isDeleting, labelOf, partOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { LATEST, type RestoreWish, restoreJob, restoreJobName } from './manifests/restore-job.ts';
import { namesOf, podOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import { removal } from './plan-nodes.ts';
import type { Apply, PlannedEvent, Removal } from './plan-types.ts';
import type { CoordinatorVolume } from './plan-volumes.ts';
import { podReport } from './pod-report.ts';
import type { MemberShape } from './shape.ts';
import { podTrouble } from './troubles.ts';

/** A name in the folder of the backups, and never a way out of it. */
const BACKUP_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$/;

export type RestoreProgress =
  | { readonly state: 'waiting' | 'running' | 'failed'; readonly message: string }
  | { readonly state: 'done'; readonly file?: string; readonly at?: string };

export interface RestorePlan {
  readonly applies: readonly Apply[];
  readonly removals: readonly Removal[];
  readonly events: readonly PlannedEvent[];
  /** The order on the Member has been seen to, or refused: it is taken away. */
  readonly orderIsOver: boolean;
}

/** What is wished for, and only until it is done: of the Member, else of the claim that is being filled. */
export function restoreOrder({ member }: MemberPicture, claim: KubeObject | undefined): string | undefined {
  return member.metadata.annotations?.[ANNOTATIONS.restoreFrom] ?? annotationOf(claim, ANNOTATIONS.restoreFrom);
}

/** How far the job is that fills the claim. */
export function restoreProgress(picture: MemberPicture, shape: MemberShape, wish: RestoreWish): RestoreProgress {
  const { objects } = picture;
  const names = namesOf(shape.member);
  const { from } = wish;
  if (!BACKUP_NAME.test(from))
    return failed(
      shape,
      `"${from}" is neither "${LATEST}" nor the name of a backup, such as those of status.backup.kept`,
    );
  const job = objects.jobs.get(restoreJobName(shape.member, wish));
  if (job !== undefined) return jobProgress(picture, shape, job, from);
  if (!objects.volumeClaims.has(names.backup) && shape.backup === undefined)
    return failed(shape, `There is no volume claim ${names.backup} with backups. Create it, or set spec.backup`);
  if (objects.pods.has(podOf(names.coordinator)))
    return { state: 'waiting', message: `The pod ${podOf(names.coordinator)} ends first` };
  return { state: 'running', message: `The metadata are restored from the backup ${from}` };
}

function jobProgress(picture: MemberPicture, shape: MemberShape, job: KubeObject, from: string): RestoreProgress {
  const { name } = job.metadata;
  const pods = [...picture.objects.pods.values()].filter((pod) => labelOf(pod, 'job-name') === name);
  if (conditionOf(job, 'Complete')?.status === 'True') {
    const at = partOf(job.status, 'completionTime');
    const file = pods.map((pod) => partOf(podReport(pod)?.told, 'file')).find((each) => typeof each === 'string');
    return {
      state: 'done',
      ...(typeof file === 'string' ? { file } : {}),
      ...(typeof at === 'string' ? { at } : {}),
    };
  }
  if (conditionOf(job, 'Failed')?.status === 'True') {
    const why = pods.map((pod) => podReport(pod)?.text ?? '').find((text) => text !== '');
    const again = `kubectl delete -n ${shape.namespace} job ${name}`;
    return failed(
      shape,
      `The backup ${from} could not be restored: ${why ?? conditionOf(job, 'Failed')?.message ?? 'it is not known why'}`,
      `. To try this one again: ${again}`,
    );
  }
  const trouble = pods.map((pod) => podTrouble(pod, picture.nowMs)).find((each) => each !== undefined);
  const message = `The metadata are restored from the backup ${from} by job ${name}`;
  return { state: 'running', message: trouble === undefined ? message : `${message}. ${trouble.message}` };
}

function failed({ namespace, member }: MemberShape, why: string, more = ''): RestoreProgress {
  const again = `kubectl annotate -n ${namespace} member ${member} --overwrite ${ANNOTATIONS.restoreFrom}=NAME`;
  return { state: 'failed', message: `${why.trim()}. Choose another backup: ${again}${more}` };
}

export function planRestore(picture: MemberPicture, shape: MemberShape, volume: CoordinatorVolume): RestorePlan {
  const { member, objects, coordinator } = picture;
  const wish = volume.state === 'restoring' ? volume.wish : undefined;
  const current = wish === undefined ? undefined : restoreJobName(shape.member, wish);
  const isDue = wish !== undefined && volume.state === 'restoring' && volume.progress.state === 'running';
  const isDone = volume.state === 'fine' && volume.restored !== undefined;
  const recorded = member.status?.coordinator?.restored;
  const order = member.metadata.annotations?.[ANNOTATIONS.restoreFrom];
  const claim = objects.volumeClaims.get(namesOf(shape.member).coordinator);
  const isHandled = order !== undefined && recorded?.order === order && recorded.volumeUid === claim?.metadata.uid;
  // A coordinator that is silent may be one whose volume goes just now.
  const isRefused =
    order !== undefined &&
    !isHandled &&
    !isDone &&
    volume.state === 'fine' &&
    coordinator.state === 'answered' &&
    !isDeleting(claim);
  const jobs = [...objects.jobs.values()].filter((job) => labelOf(job, 'app.kubernetes.io/component') === 'restore');
  const isKept = ({ metadata: { name } }: KubeObject): boolean => name === current || isDone;
  return {
    applies:
      isDue && !objects.jobs.has(current ?? '') ? [{ resource: RESOURCES.jobs, object: restoreJob(shape, wish) }] : [],
    removals: jobs.filter((job) => !isKept(job) && !isDeleting(job)).map((job) => removal(RESOURCES.jobs, job)),
    events: [...(isDone ? [doneEvent(volume.restored)] : []), ...(isRefused ? [refusedEvent(shape, order)] : [])],
    orderIsOver: isHandled || isRefused,
  };
}

function doneEvent({ order, file }: { readonly order: string; readonly file?: string }): PlannedEvent {
  return {
    type: 'Normal',
    reason: 'MetadataRestored',
    message: `The metadata are those of the backup ${file ?? order}. Nothing is removed from nodes until you say so: collective maintenance set garbage-waits=false`,
  };
}

function refusedEvent({ namespace, member }: MemberShape, order: string): PlannedEvent {
  const names = namesOf(member);
  return {
    type: 'Warning',
    reason: 'RestoreRefused',
    message: `Nothing was restored from ${order}: the coordinator serves, and what it has is never overwritten. To give up what it has: kubectl delete -n ${namespace} pvc ${names.coordinator} --wait=false, then pod ${podOf(names.coordinator)}, then order again`,
  };
}
