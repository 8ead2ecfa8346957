/** What objects of Kubernetes say in their untyped parts. Reading is forgiving: what is not there is absent, never an error. */
import type { KubeObject } from './kube-object.ts';
import { bytesOf } from './quantity.ts';

/** A volume that follows its pod is let go elsewhere within seconds, as a rule. */
const BEGINS_WITHIN_MS = 30_000;

export interface SeenCondition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
}

export function conditionOf(object: KubeObject | undefined, type: string): SeenCondition | undefined {
  const conditions = partOf(partOf(object, 'status'), 'conditions');
  return Array.isArray(conditions) ? (conditions as SeenCondition[]).find((each) => each.type === type) : undefined;
}

export function isReadyPod(pod: KubeObject | undefined): boolean {
  return pod !== undefined && !isDeleting(pod) && conditionOf(pod, 'Ready')?.status === 'True';
}

export function isDeleting(object: KubeObject | undefined): boolean {
  return object?.metadata.deletionTimestamp !== undefined;
}

export function annotationOf(object: KubeObject | undefined, key: string): string | undefined {
  return object?.metadata.annotations?.[key];
}

export function labelOf(object: KubeObject | undefined, key: string): string | undefined {
  return object?.metadata.labels?.[key];
}

export interface ClaimFacts {
  readonly uid: string;
  readonly phase: string;
  /** Absent until it is bound. */
  readonly capacityBytes?: number;
  readonly requestedBytes: number;
  readonly requested?: string;
  readonly storageClass?: string;
}

export function claimFacts(claim: KubeObject): ClaimFacts {
  const requested = partOf(partOf(partOf(claim.spec, 'resources'), 'requests'), 'storage');
  const capacity = bytesOf(partOf(partOf(claim.status, 'capacity'), 'storage'));
  const storageClass = partOf(claim.spec, 'storageClassName');
  return {
    uid: claim.metadata.uid ?? '',
    phase: String(partOf(claim.status, 'phase') ?? 'Pending'),
    requestedBytes: bytesOf(requested) ?? 0,
    ...(capacity === undefined ? {} : { capacityBytes: capacity }),
    ...(typeof requested === 'string' ? { requested } : {}),
    ...(typeof storageClass === 'string' ? { storageClass } : {}),
  };
}

export interface WaitingContainer {
  readonly reason: string;
  readonly message: string;
}

/** Why the first container that does not run waits: ImagePullBackOff, CreateContainerConfigError, CrashLoopBackOff. */
export function waitingContainer(pod: KubeObject | undefined): WaitingContainer | undefined {
  const statuses = partOf(partOf(pod, 'status'), 'containerStatuses');
  for (const each of Array.isArray(statuses) ? statuses : []) {
    const waiting = partOf(partOf(each, 'state'), 'waiting');
    const reason = partOf(waiting, 'reason');
    if (typeof reason !== 'string') continue;
    const last = partOf(partOf(partOf(each, 'lastState'), 'terminated'), 'message');
    return { reason, message: String(partOf(waiting, 'message') ?? last ?? '') };
  }
  return undefined;
}

/** A pod that a machine has and whose containers are still not made: images and volumes take seconds. */
export function waitsLongToBegin(pod: KubeObject, nowMs: number): boolean {
  const isNew = nowMs - Date.parse(pod.metadata.creationTimestamp ?? '') < BEGINS_WITHIN_MS;
  return !isNew && waitingContainer(pod)?.reason === 'ContainerCreating';
}

/** A container runs and is past its startup probe. */
export function hasStarted(pod: KubeObject | undefined): boolean {
  const statuses = partOf(partOf(pod, 'status'), 'containerStatuses');
  return Array.isArray(statuses) && !isDeleting(pod) && statuses.some((each) => partOf(each, 'started') === true);
}

export function containerImage(object: KubeObject | undefined): string | undefined {
  const containers = partOf(podSpecOf(object), 'containers');
  const image = partOf(Array.isArray(containers) ? containers[0] : undefined, 'image');
  return typeof image === 'string' ? image : undefined;
}

/** Of a pod, or of the template of what makes pods. */
export function podSpecOf(object: KubeObject | undefined): unknown {
  return partOf(partOf(partOf(object, 'spec'), 'template'), 'spec') ?? partOf(object, 'spec') ?? {};
}

/** A field of something that may not be an object. */
export function partOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[field] : undefined;
}
