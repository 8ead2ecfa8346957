/**
 * Why something of a member does not come up, told from pods, claims, events of the cluster and refused writes, with what a
 * person can do about it. The words of the cluster are passed on, since they say which quota or which class it is.
 */
import { LABELS } from '../api/group.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import {
  claimFacts,
  conditionOf,
  containerImage,
  isReadyPod,
  partOf,
  waitingContainer,
  waitsLongToBegin,
} from '../kube/object-facts.ts';
import { MANAGED_SELECTOR, podOf } from './names.ts';
import type { ClusterWarning, MemberPicture } from './picture.ts';

export type TroubleReason =
  | 'ImageCannotBePulled'
  | 'Unschedulable'
  | 'QuotaExceeded'
  | 'StorageClassMissing'
  | 'VolumeNotProvisioned'
  | 'VolumeCannotGrow'
  | 'VolumeUnlabelled'
  | 'VolumeGone'
  | 'VolumeNotAttached'
  | 'PodRefused'
  | 'PodCrashes'
  | 'PodNotStarted'
  | 'PodDoesNotEnd'
  | 'WebhookSilent'
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
  const { objects, warnings, nowMs } = picture;
  const pod = objects.pods.get(podOf(name));
  if (isReadyPod(pod)) return undefined;
  const claim = objects.volumeClaims.get(name);
  return (
    claimTrouble(claim, warnings.get(`PersistentVolumeClaim/${name}`)) ??
    (pod === undefined
      ? missingPod(name, objects.statefulSets.get(name), warnings)
      : (podTrouble(pod, nowMs) ?? unattachedVolume(pod, warnings.get(`Pod/${podOf(name)}`), nowMs)))
  );
}

export function writeTrouble({ kind, name, message }: RefusedWrite): Trouble {
  if (message.includes('exceeded quota')) return quota(`${kind} ${name}`, message);
  // The size of a claim that the operator sees is kept, so this is one that it does not see.
  if (kind === 'PersistentVolumeClaim' && /less than status.capacity/i.test(message)) {
    return {
      reason: 'VolumeUnlabelled',
      message: `Volume claim ${name} is there already, is larger than the Member asks for, and lacks the labels by which the operator knows it: ${message}. kubectl label pvc ${name} ${MANAGED_SELECTOR} ${LABELS.member}=MEMBER, in its namespace and with the name of the Member`,
      needsPerson: true,
    };
  }
  const isGrowth = kind === 'PersistentVolumeClaim' && /resiz|shrink|expan/i.test(message);
  if (isGrowth) {
    return {
      reason: 'VolumeCannotGrow',
      message: `Volume claim ${name} cannot grow: ${message}. Its StorageClass needs allowVolumeExpansion: true; a pool of another class can take its place`,
      needsPerson: true,
    };
  }
  if (message.includes('failed calling webhook')) {
    return {
      reason: 'WebhookSilent',
      message: `${kind} ${name} cannot be written, since who judges it does not answer: ${message}. Look whether its pods run (of cert-manager: kubectl get pods -n cert-manager -o wide)`,
      needsPerson: false,
    };
  }
  return { reason: 'WriteRefused', message: `The apiserver refuses ${kind} ${name}: ${message}`, needsPerson: false };
}

function claimTrouble(claim: KubeObject | undefined, warning: ClusterWarning | undefined): Trouble | undefined {
  if (claim !== undefined && claimFacts(claim).phase === 'Lost') return goneVolume(claim);
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

/** It never comes to an end by itself: Kubernetes binds a claim once. */
function goneVolume({ metadata: { name, namespace }, spec }: KubeObject): Trouble {
  const volume = String(partOf(spec, 'volumeName') ?? '');
  return {
    reason: 'VolumeGone',
    message: `Volume claim ${name}: its PersistentVolume ${volume} is gone. Bring it back under that name, or give up what was on it: kubectl delete -n ${namespace} pvc ${name}; the Member says then how it goes on`,
    needsPerson: true,
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

/** After a pod's own time to end: for a kubelet that is late, and clocks that differ. */
const ENDS_WITHIN_MS = 15_000;

export function podTrouble(pod: KubeObject, nowMs: number): Trouble | undefined {
  const { name, deletionTimestamp } = pod.metadata;
  // The time by which it was to have ended.
  if (deletionTimestamp !== undefined && nowMs - Date.parse(deletionTimestamp) > ENDS_WITHIN_MS) return endlessPod(pod);
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

/** A machine that is silent may run the pod still, so Kubernetes starts it nowhere else until somebody says that it does not. */
/** A volume that moves is still attached where it was for a moment; where that machine is gone, it stays so for minutes. */
function unattachedVolume(pod: KubeObject, warning: ClusterWarning | undefined, nowMs: number): Trouble | undefined {
  if (warning === undefined || !/attach/i.test(warning.message) || !waitsLongToBegin(pod, nowMs)) return undefined;
  return {
    reason: 'VolumeNotAttached',
    message: `Pod ${pod.metadata.name} waits for its volume: ${warning.message}. If it is held by a machine that is off and does not come back, kubectl get volumeattachments, and kubectl delete volumeattachment that of this volume there; Kubernetes does so after six minutes`,
    needsPerson: false,
  };
}

function endlessPod(pod: KubeObject): Trouble {
  const machine = String(partOf(pod.spec, 'nodeName') ?? 'its machine');
  return {
    reason: 'PodDoesNotEnd',
    message: `Pod ${pod.metadata.name} was to end, and ${machine} does not say that it has. It starts elsewhere only when that is certain: if ${machine} is off, kubectl taint nodes ${machine} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, and take the taint off when it is back`,
    needsPerson: false,
  };
}
