/**
 * The status of a Member from its plan. Numbers that move all the time are told in steps (`roughQuantity`), so that a member at
 * work does not cost a write every few seconds; what planners need again (volumes, rotation) is exact.
 */
import { formatHostPort } from '@collective/base/host-port';
import type { NodeStatus } from '@collective/client';
import type { CoordinatorState, MemberStatus, NodeStateSeen } from '../api/member.ts';
import { BACKUPS_TOLD_MAX } from '../api/member-status.ts';
import { setConditions } from '../api/set-conditions.ts';
import { type CoordinatorAnswer, reportedNode } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { conditionOf, containerImage, isReadyPod, labelOf, partOf } from '../kube/object-facts.ts';
import { roughQuantity } from '../kube/quantity.ts';
import { type ExposedPart, externalAddress, HOST_IP, nodePortOf } from './external-address.ts';
import { memberAddress, namesOf, podOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import type { MemberConditions } from './plan-conditions.ts';
import type { MemberPlan } from './plan-member.ts';
import type { PlannedNode } from './plan-nodes.ts';
import { podReport } from './pod-report.ts';
import type { MemberShape } from './shape.ts';

export interface StatusInput {
  readonly picture: MemberPicture;
  readonly plan: MemberPlan;
  readonly conditions: MemberConditions;
  /** The coordinator's settings of the beginning are still to be written. */
  readonly settingsWait: boolean;
}

export function statusOf({ picture, plan, conditions, settingsWait }: StatusInput): MemberStatus {
  const { member, coordinator } = picture;
  const { shape, nodes, certificates } = plan;
  const seen = nodes.nodes.map((node) => nodeState(picture, plan, node));
  const wanted = nodes.nodes.filter(({ leaving }) => leaving === undefined).length;
  const ready = seen.filter(({ state }) => state === 'Ready' || state === 'Full').length;
  return present({
    ...plainStatus(picture, conditions),
    trustDomain: shape.trustDomain,
    version: coordinator.state === 'answered' ? coordinator.status.version : member.status?.version,
    coordinator: coordinatorState(picture, plan, conditions, settingsWait),
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
  { shape, volumes, begins }: MemberPlan,
  conditions: MemberConditions,
  settingsWait: boolean,
): CoordinatorState {
  const { coordinator: name } = namesOf(shape.member);
  const pod = objects.pods.get(podOf(name));
  const before = member.status?.coordinator;
  const isLost = volumes.coordinator.state === 'lost';
  const uid = isLost ? before?.volumeUid : volumes.coordinator.state === 'fine' ? volumes.coordinator.uid : undefined;
  // Another volume begins anew, after its loss was accepted.
  const isSame = before?.volumeUid === undefined || uid === undefined || before.volumeUid === uid;
  const filled = volumes.coordinator.state === 'fine' ? volumes.coordinator.restored : undefined;
  const restored = filled ?? (before?.restored?.volumeUid === uid ? before?.restored : undefined);
  return present({
    state: isLost
      ? 'VolumeLost'
      : volumes.coordinator.state === 'restoring'
        ? 'Restoring'
        : partState(pod, coordinator.state === 'answered', conditions),
    volumeUid: uid ?? before?.volumeUid,
    began: begins || filled !== undefined || (isSame && before?.began === true) ? true : undefined,
    settingsWait: (filled === undefined && (begins || isSame) && settingsWait) || undefined,
    image: containerImage(pod),
    nodePort: rememberedPort(shape, {
      part: 'coordinator',
      service: objects.services.get(name),
      before: member.status,
    }),
    restored,
    garbageWaits:
      coordinator.state === 'answered'
        ? coordinator.status.garbage.waits || undefined
        : (restored && before?.garbageWaits) || undefined,
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

function nodeState(
  { member, objects, coordinator }: MemberPicture,
  { shape }: MemberPlan,
  node: PlannedNode,
): NodeStateSeen {
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
    leftChunks: node.leaving === 'Draining' ? leftOn(coordinator, node.name) : undefined,
    image: containerImage(pod),
    nodePort: rememberedPort(shape, { part: node.name, service: objects.services.get(name), before: member.status }),
  });
}

/** Of a member that is exposed in another way, none: it would have lost its meaning until it is. */
function rememberedPort({ exposure }: MemberShape, exposed: ExposedPart): number | undefined {
  return exposure.type === 'NodePort' ? nodePortOf(exposed) : undefined;
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

/** As it was counted for this very look: what the coordinator's own work knows is nothing until its first walk after a start. */
function leftOn(coordinator: CoordinatorAnswer, node: string): number | undefined {
  const counted = coordinator.state === 'answered' ? coordinator.holdings.get(node)?.chunks : undefined;
  const left = counted ?? reportedNode(coordinator, node)?.leftChunks;
  return left === undefined ? undefined : roughCount(left);
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
  const { underReplicated, unreadable, toMove, lost, counting } = coordinator.status.replication;
  return {
    underReplicated: roughCount(underReplicated),
    unreadable: roughCount(unreadable),
    toMove: roughCount(toMove),
    lost,
    counting,
  };
}

function endpointsOf({ member, objects }: MemberPicture, { shape }: MemberPlan): MemberStatus['endpoints'] {
  const { coordinator: name } = namesOf(shape.member);
  const internal = memberAddress(shape.member, shape.namespace);
  const external = externalAddress(shape, {
    part: 'coordinator',
    service: objects.services.get(name),
    before: member.status,
  });
  if (external.state !== 'known') return { internal };
  // The address of its machine is as good as that of any other for a port of the cluster.
  const hostIp = partOf(objects.pods.get(podOf(name))?.status, 'hostIP');
  const host = external.host === HOST_IP ? hostIp : external.host;
  return typeof host === 'string'
    ? { internal, external: formatHostPort({ host, port: external.port }) }
    : { internal };
}

/** From the jobs that are kept: one that succeeded, one that failed. */
function backupOf({ member, objects }: MemberPicture): MemberStatus['backup'] {
  if (member.spec.backup === undefined) return undefined;
  const before = member.status?.backup;
  const isBackup = (object: KubeObject): boolean => labelOf(object, 'app.kubernetes.io/component') === 'backup';
  const ends = [...objects.jobs.values()].filter(isBackup).map((job) => ({
    success: partOf(job.status, 'completionTime'),
    failure: conditionOf(job, 'Failed'),
  }));
  const lastSuccess = latest(before?.lastSuccess, ...ends.map(({ success }) => success));
  const failed = ends.flatMap(({ failure }) => (failure?.status === 'True' ? [failure] : []));
  const lastFailure = latest(before?.lastFailure, ...failed.map(({ lastTransitionTime }) => lastTransitionTime));
  const isFailing = lastFailure !== undefined && lastFailure > (lastSuccess ?? '');
  const told = failed.find(({ lastTransitionTime }) => lastTransitionTime === lastFailure)?.message;
  const [newest] = [...objects.pods.values()]
    .filter(isBackup)
    .flatMap((pod) => podReport(pod) ?? [])
    .filter(({ exitCode }) => exitCode === 0)
    .sort((a, b) => (a.finishedAt < b.finishedAt ? 1 : -1));
  return present({
    lastSuccess,
    lastFailure,
    message: isFailing ? (told ?? before?.message) : undefined,
    kept: backupsTold(newest?.told) ?? before?.kept,
  });
}

function backupsTold(report: unknown): string[] | undefined {
  const backups = partOf(report, 'backups');
  if (!Array.isArray(backups) || !backups.every((each) => typeof each === 'string')) return undefined;
  return (backups as string[]).slice(0, BACKUPS_TOLD_MAX);
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
