/**
 * The status of a Member from its plan. Numbers that move all the time are told in steps (`roughQuantity`), so that a member at
 * work does not cost a write every few seconds; what planners need again (volumes, rotation) is exact.
 */
import type { NodeStatus } from '@collective/client';
import type { CoordinatorState, MemberStatus, NodeStateSeen } from '../api/member.ts';
import { setConditions } from '../api/set-conditions.ts';
import { type CoordinatorAnswer, reportedNode } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { conditionOf, containerImage, isReadyPod, partOf } from '../kube/object-facts.ts';
import { roughQuantity } from '../kube/quantity.ts';
import { externalAddress, formatAddress, HOST_IP } from './external-address.ts';
import { memberAddress, namesOf, podOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import type { MemberConditions } from './plan-conditions.ts';
import type { MemberPlan } from './plan-member.ts';
import type { PlannedNode } from './plan-nodes.ts';

export interface StatusInput {
  readonly picture: MemberPicture;
  readonly plan: MemberPlan;
  readonly conditions: MemberConditions;
  /** The coordinator's settings of the beginning are written. */
  readonly began: boolean;
}

export function statusOf({ picture, plan, conditions, began }: StatusInput): MemberStatus {
  const { member, coordinator } = picture;
  const { shape, nodes, certificates } = plan;
  const seen = nodes.nodes.map((node) => nodeState(picture, plan, node));
  const wanted = nodes.nodes.filter(({ leaving }) => leaving === undefined).length;
  const ready = seen.filter(({ state }) => state === 'Ready' || state === 'Full').length;
  return present({
    ...plainStatus(picture, conditions),
    trustDomain: shape.trustDomain,
    version: coordinator.state === 'answered' ? coordinator.status.version : member.status?.version,
    coordinator: coordinatorState(picture, plan, conditions, began),
    nodes: seen,
    nodesReady: `${ready}/${wanted}`,
    ...roomOf(coordinator, member.status),
    replication: replicationOf(coordinator) ?? member.status?.replication,
    ca: certificates.ca,
    certificates: certificates.certificates,
    certificatesSummary: conditions.CertificatesReady.status === 'True' ? 'ok' : conditions.CertificatesReady.reason,
    trustBundleHash: certificates.trustBundleHash,
    endpoints: endpointsOf(picture, plan),
    users: plan.subjects.users,
    backup: backupOf(picture),
  });
}

/** Of a Member with nothing but conditions; what is known from before stays. */
export function plainStatus({ member, nowMs }: MemberPicture, conditions: MemberConditions): MemberStatus {
  const { generation } = member.metadata;
  return present({
    ...member.status,
    observedGeneration: generation,
    conditions: setConditions(conditions, {
      previous: member.status?.conditions ?? [],
      nowMs,
      observedGeneration: generation,
    }),
  });
}

function coordinatorState(
  { member, objects, coordinator }: MemberPicture,
  { shape, volumes }: MemberPlan,
  conditions: MemberConditions,
  began: boolean,
): CoordinatorState {
  const { coordinator: name } = namesOf(shape.member);
  const pod = objects.pods.get(podOf(name));
  const before = member.status?.coordinator;
  const isLost = volumes.coordinator.state === 'lost';
  const uid = isLost ? before?.volumeUid : volumes.coordinator.state === 'fine' ? volumes.coordinator.uid : undefined;
  // Another volume begins anew, after its loss was accepted.
  const isSame = before?.volumeUid === undefined || uid === undefined || before.volumeUid === uid;
  return present({
    state: isLost ? 'VolumeLost' : partState(pod, coordinator.state === 'answered', conditions),
    volumeUid: uid ?? before?.volumeUid,
    began: began || (isSame && before?.began === true) ? true : undefined,
    image: containerImage(pod),
  });
}

function partState(
  pod: KubeObject | undefined,
  answers: boolean,
  conditions: MemberConditions,
): CoordinatorState['state'] {
  if (answers) return 'Ready';
  if (pod === undefined) return 'Pending';
  return conditions.CoordinatorReady.reason === 'Unreachable' ? 'Unreachable' : 'Starting';
}

function nodeState({ objects, coordinator }: MemberPicture, { shape }: MemberPlan, node: PlannedNode): NodeStateSeen {
  const name = namesOf(shape.member).node(node.name);
  const pod = objects.pods.get(podOf(name));
  const reported = reportedNode(coordinator, node.name);
  return present({
    name: node.name,
    pool: node.pool,
    state: stateOf(node, pod, reported),
    volumeUid: objects.volumeClaims.get(name)?.metadata.uid,
    capacity: reported === undefined ? undefined : roughQuantity(reported.capacityBytes),
    used: reported === undefined ? undefined : roughQuantity(reported.usedBytes),
    leftChunks: node.leaving === 'Draining' && reported !== undefined ? roughCount(reported.leftChunks) : undefined,
    image: containerImage(pod),
  });
}

function stateOf(
  { leaving, runs }: PlannedNode,
  pod: KubeObject | undefined,
  reported: NodeStatus | undefined,
): NodeStateSeen['state'] {
  if (leaving === 'Draining') return 'Draining';
  if (leaving === 'Drained') return runs ? 'Drained' : 'Removing';
  if (pod === undefined) return 'Pending';
  if (!isReadyPod(pod)) return reported?.state === 'away' ? 'Away' : 'Starting';
  return reported?.state === 'full' ? 'Full' : 'Ready';
}

/** In steps of an eighth at most: what is left of thousands need not be exact. */
function roughCount(count: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, count))) - 3);
  return Math.ceil(count / step) * step;
}

function roomOf(
  coordinator: CoordinatorAnswer,
  before: MemberStatus | undefined,
): Pick<MemberStatus, 'capacity' | 'used'> {
  if (coordinator.state !== 'answered') return { capacity: before?.capacity, used: before?.used };
  const { capacityBytes, usedBytes } = coordinator.status;
  return { capacity: roughQuantity(capacityBytes), used: roughQuantity(usedBytes) };
}

function replicationOf(coordinator: CoordinatorAnswer): MemberStatus['replication'] {
  if (coordinator.state !== 'answered') return undefined;
  const { underReplicated, unreadable, toMove, counting } = coordinator.status.replication;
  return {
    underReplicated: roughCount(underReplicated),
    unreadable: roughCount(unreadable),
    toMove: roughCount(toMove),
    counting,
  };
}

function endpointsOf({ objects }: MemberPicture, { shape }: MemberPlan): MemberStatus['endpoints'] {
  const { coordinator: name } = namesOf(shape.member);
  const internal = memberAddress(shape.member, shape.namespace);
  const external = externalAddress(shape, 'coordinator', objects.services.get(name));
  if (external.state !== 'known') return { internal };
  // The address of its machine is as good as that of any other for a port of the cluster.
  const hostIp = partOf(objects.pods.get(podOf(name))?.status, 'hostIP');
  const host = external.host === HOST_IP ? hostIp : external.host;
  return typeof host === 'string' ? { internal, external: formatAddress({ host, port: external.port }) } : { internal };
}

/** From the jobs that are kept: one that succeeded, one that failed. */
function backupOf({ member, objects }: MemberPicture): MemberStatus['backup'] {
  if (member.spec.backup === undefined) return undefined;
  const before = member.status?.backup;
  const ends = [...objects.jobs.values()].map((job) => ({
    success: partOf(job.status, 'completionTime'),
    failure: conditionOf(job, 'Failed'),
  }));
  const lastSuccess = latest(before?.lastSuccess, ...ends.map(({ success }) => success));
  const failed = ends.flatMap(({ failure }) => (failure?.status === 'True' ? [failure] : []));
  const lastFailure = latest(before?.lastFailure, ...failed.map(({ lastTransitionTime }) => lastTransitionTime));
  const isFailing = lastFailure !== undefined && lastFailure > (lastSuccess ?? '');
  const told = failed.find(({ lastTransitionTime }) => lastTransitionTime === lastFailure)?.message;
  return present({ lastSuccess, lastFailure, message: isFailing ? (told ?? before?.message) : undefined });
}

function latest(...times: readonly unknown[]): string | undefined {
  return times
    .filter((time): time is string => typeof time === 'string')
    .sort()
    .at(-1);
}

/** Without what is undefined: two statuses are compared as they are written. */
function present<Value extends object>(value: Value): Value {
  return JSON.parse(JSON.stringify(value)) as Value;
}
