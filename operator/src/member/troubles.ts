/**
 * Why something of a member does not come up, told from pods, claims, events of the cluster and refused writes, with what a
 * person can do about it. The words of the cluster are passed on, since they say which quota or which class it is.
 */
import type { KubeObject } from '../kube/kube-object.ts';
import { claimFacts, conditionOf, containerImage, isReadyPod, waitingContainer } from '../kube/object-facts.ts';
import { podOf } from './names.ts';
import type { ClusterWarning, MemberPicture } from './picture.ts';

export type TroubleReason =
  | 'ImageCannotBePulled'
  | 'Unschedulable'
  | 'QuotaExceeded'
  | 'StorageClassMissing'
  | 'VolumeNotProvisioned'
  | 'VolumeCannotGrow'
  | 'PodRefused'
  | 'PodCrashes'
  | 'PodNotStarted'
  | 'WriteRefused';

export interface Trouble {
  readonly reason: TroubleReason;
  readonly message: string;
  /** Nothing comes of waiting: a person must do something. */
  readonly needsPerson: boolean;
}

/** A write that the apiserver refused; the reconcile goes on with the others. */
export interface RefusedWrite {
  readonly kind: string;
  readonly name: string;
  readonly message: string;
}

/** Of a StatefulSet, its pod and its claim, which have one name. */
export function partTrouble(picture: MemberPicture, name: string): Trouble | undefined {
  const { objects, warnings } = picture;
  const pod = objects.pods.get(podOf(name));
  if (isReadyPod(pod)) return undefined;
  const claim = objects.volumeClaims.get(name);
  return (
    claimTrouble(claim, warnings.get(`PersistentVolumeClaim/${name}`)) ??
    (pod === undefined ? missingPod(name, objects.statefulSets.get(name), warnings) : podTrouble(pod))
  );
}

export function writeTrouble({ kind, name, message }: RefusedWrite): Trouble {
  if (message.includes('exceeded quota')) return quota(`${kind} ${name}`, message);
  const isGrowth = kind === 'PersistentVolumeClaim' && /resiz|shrink|less than status.capacity|expan/i.test(message);
  if (isGrowth) {
    return {
      reason: 'VolumeCannotGrow',
      message: `Volume claim ${name} cannot grow: ${message}. Its StorageClass needs allowVolumeExpansion: true; a pool of another class can take its place`,
      needsPerson: true,
    };
  }
  return { reason: 'WriteRefused', message: `The apiserver refuses ${kind} ${name}: ${message}`, needsPerson: false };
}

function claimTrouble(claim: KubeObject | undefined, warning: ClusterWarning | undefined): Trouble | undefined {
  if (claim === undefined || warning === undefined || claimFacts(claim).phase !== 'Pending') return undefined;
  const { name } = claim.metadata;
  const { storageClass } = claimFacts(claim);
  if (/storageclass.*not found/i.test(warning.message)) {
    return {
      reason: 'StorageClassMissing',
      message: `Volume claim ${name}: ${warning.message}. Create the StorageClass${storageClass === undefined ? '' : ` ${storageClass}`}, or delete the claim and name another class`,
      needsPerson: true,
    };
  }
  return {
    reason: 'VolumeNotProvisioned',
    message: `Volume claim ${name} gets no volume (${warning.reason}): ${warning.message}`,
    needsPerson: false,
  };
}

function missingPod(
  name: string,
  statefulSet: KubeObject | undefined,
  warnings: ReadonlyMap<string, ClusterWarning>,
): Trouble | undefined {
  const warning = statefulSet === undefined ? undefined : warnings.get(`StatefulSet/${name}`);
  if (warning === undefined) return undefined;
  if (warning.message.includes('exceeded quota')) return quota(`Pod ${podOf(name)}`, warning.message);
  return {
    reason: 'PodRefused',
    message: `Pod ${podOf(name)} is not created (${warning.reason}): ${warning.message}`,
    needsPerson: false,
  };
}

function quota(what: string, message: string): Trouble {
  return {
    reason: 'QuotaExceeded',
    message: `${what} is more than a ResourceQuota of the namespace allows: ${message}. Raise the quota, or ask for less`,
    needsPerson: true,
  };
}

const PULL_REASONS: ReadonlySet<string> = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'ImageInspectError',
]);

function podTrouble(pod: KubeObject): Trouble | undefined {
  const { name } = pod.metadata;
  const scheduled = conditionOf(pod, 'PodScheduled');
  if (scheduled?.status === 'False') {
    return {
      reason: 'Unschedulable',
      message: `Pod ${name} finds no machine: ${scheduled.message ?? scheduled.reason ?? ''}. Look at its requests, nodeSelector, affinity and tolerations, and at where its volume is`,
      needsPerson: false,
    };
  }
  const waiting = waitingContainer(pod);
  if (waiting === undefined) return undefined;
  if (PULL_REASONS.has(waiting.reason)) {
    return {
      reason: 'ImageCannotBePulled',
      message: `Pod ${name}: image ${containerImage(pod)} cannot be pulled (${waiting.reason}): ${waiting.message}. Look at the name of the image, the registry and imagePullSecrets`,
      needsPerson: false,
    };
  }
  if (waiting.reason === 'CrashLoopBackOff') {
    return {
      reason: 'PodCrashes',
      message: `Pod ${name} ends again and again: ${waiting.message}. kubectl logs -n ${pod.metadata.namespace} ${name} --previous`,
      needsPerson: false,
    };
  }
  if (waiting.reason === 'ContainerCreating' || waiting.reason === 'PodInitializing') return undefined;
  return {
    reason: 'PodNotStarted',
    message: `Pod ${name} does not start (${waiting.reason}): ${waiting.message}`,
    needsPerson: false,
  };
}
