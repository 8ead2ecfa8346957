/**
 * Whose pod may start anew for a changed template (K2): one at a time, and only while every chunk has its replicas and every
 * other node is ready. Nodes go first and the coordinator last: what lies on a node has copies elsewhere, so an image that
 * cannot run stops at the first node and takes nothing away, while a coordinator is the only one of its member; servers of
 * two neighbouring versions work together either way round. What does not run anyway is replaced at once: it has nothing to lose,
 * and a broken image must not stand in the way of the one that mends it. A node that runs and is not ready may only miss its
 * coordinator, and serves reads meanwhile: it waits until what was replaced before is ready.
 */
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import {
  annotationOf,
  conditionOf,
  hasStarted,
  isDeleting,
  isReadyPod,
  labelOf,
  podSpecOf,
} from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { EXPECT_DATA } from './manifests/stateful-set.ts';
import { podOf } from './names.ts';
import type { ObjectsByName } from './picture.ts';
import { removal } from './plan-nodes.ts';
import type { PlannedCondition, PlannedEvent, Removal } from './plan-types.ts';

/** K2: what is known of the replicas of all chunks. */
export interface ReplicationGate {
  readonly isHealthy: boolean;
  readonly why: string;
}

export interface RolloutInput {
  readonly nowMs: number;
  /** As they are to be; the coordinator's apart. */
  readonly nodes: readonly KubeObject[];
  readonly coordinator?: KubeObject;
  readonly pods: ObjectsByName;
  readonly replication: ReplicationGate;
  readonly paused: boolean;
}

export interface RolloutPlan {
  readonly removals: readonly Removal[];
  readonly events: readonly PlannedEvent[];
  readonly upgrading: PlannedCondition;
}

export function planRollout(input: RolloutInput): RolloutPlan {
  const sets = [...input.nodes, ...(input.coordinator === undefined ? [] : [input.coordinator])];
  const parts = sets.map((set) => partOfSet(set, input));
  const outdated = parts.filter(({ isOutdated }) => isOutdated);
  if (outdated.length === 0) return idle('False', 'UpToDate', 'Every pod follows its template');
  const progress = `${parts.length - outdated.length} of ${parts.length} pods follow the template`;
  if (input.paused) return idle('True', 'Paused', `${progress}; spec.maintenance.paused holds the rest`);
  const broken = brokenPart(parts);
  if (broken !== undefined) return replace(broken, progress, 'it is not ready anyway');
  const leaving = outdated.find(({ isLeaving }) => isLeaving);
  if (leaving !== undefined) return idle('True', 'RollingOut', `${progress}; ${leaving.name} starts anew`);
  const unready = parts.find(({ isSettled, isOutdated, isReady }) => !isSettled && !(isOutdated && !isReady));
  if (unready !== undefined)
    return idle('True', 'WaitingForPods', `${progress}; the next waits until ${unready.name} is ready`);
  if (!input.replication.isHealthy)
    return idle('True', 'WaitingForReplication', `${progress}; the next waits: ${input.replication.why}`);
  const [next] = outdated;
  return next === undefined ? idle('False', 'UpToDate', '') : replace(next, progress, 'it is next');
}

/** Replaced whatever the replicas: what does not run, then the coordinator, then a node once all that follow the template are ready. */
function brokenPart(parts: readonly Part[]): Part | undefined {
  const broken = parts.filter(({ isOutdated, isReady, isLeaving }) => isOutdated && !isReady && !isLeaving);
  const isNobodyUnderWay = parts.every(
    ({ isOutdated, isSettled, isLeaving }) => isSettled || (isOutdated && !isLeaving),
  );
  return (
    broken.find(({ isRunning }) => !isRunning) ??
    broken.find(({ isNode }) => !isNode) ??
    (isNobodyUnderWay ? broken[0] : undefined)
  );
}

interface Part {
  readonly name: string;
  readonly pod: KubeObject | undefined;
  readonly isOutdated: boolean;
  readonly isNode: boolean;
  readonly isReady: boolean;
  /** Ready, or at least started. */
  readonly isRunning: boolean;
  /** Ready for as long as its StatefulSet asks. */
  readonly isSettled: boolean;
  readonly isLeaving: boolean;
}

function partOfSet(set: KubeObject, { pods, nowMs }: RolloutInput): Part {
  const pod = pods.get(podOf(set.metadata.name));
  const wanted = annotationOf(set, ANNOTATIONS.templateHash);
  const isReady = isReadyPod(pod);
  const readySince = Date.parse(conditionOf(pod, 'Ready')?.lastTransitionTime ?? '');
  const { minReadySeconds = 0 } = set.spec as { readonly minReadySeconds?: number };
  return {
    name: set.metadata.name,
    pod,
    isNode: labelOf(set, LABELS.node) !== undefined,
    // A pod that is not there yet comes with the new template.
    isOutdated:
      pod !== undefined &&
      (annotationOf(pod, ANNOTATIONS.templateHash) !== wanted || (expectsData(pod) && !expectsData(set))),
    isReady,
    isRunning: isReady || hasStarted(pod),
    isSettled: isReady && !(nowMs - readySince < minReadySeconds * 1000),
    isLeaving: isDeleting(pod),
  };
}

/** Once a loss was accepted, a pod that was made before it would refuse for ever to begin without data. */
function expectsData(object: KubeObject): boolean {
  const { containers = [] } = podSpecOf(object) as {
    readonly containers?: readonly { readonly env?: { name: string }[] }[];
  };
  return containers.some(({ env = [] }) => env.some(({ name }) => name === EXPECT_DATA));
}

function replace({ name, pod }: Part, progress: string, why: string): RolloutPlan {
  return {
    removals: pod === undefined ? [] : [removal(RESOURCES.pods, pod)],
    events: [
      {
        type: 'Normal',
        reason: 'PodReplaced',
        message: `Pod of ${name} starts anew with its changed template: ${why}`,
      },
    ],
    upgrading: { status: 'True', reason: 'RollingOut', message: `${progress}; ${name} starts anew` },
  };
}

function idle(status: PlannedCondition['status'], reason: string, message: string): RolloutPlan {
  return { removals: [], events: [], upgrading: { status, reason, message } };
}
