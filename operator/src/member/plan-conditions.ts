/**
 * The conditions of a Member. Ready, Reconciling and Stalled are exactly those of kstatus, so that Helm, Flux and `kubectl wait`
 * understand them: Stalled means that a person must act, and then it is not Reconciling. Chunks that lack a copy make
 * a Member neither unready nor Reconciling: it serves, and ReplicationHealthy says so.
 */
import type { MemberCondition } from '../api/group.ts';
import { reportedNode } from '../coordinator/coordinator-answer.ts';
import { isReadyPod } from '../kube/object-facts.ts';
import { namesOf, podOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import type { NodesPlan, PlannedNode } from './plan-nodes.ts';
import { replicationCondition } from './plan-replication.ts';
import type { PlannedCondition } from './plan-types.ts';
import type { VolumesPlan } from './plan-volumes.ts';
import type { MemberShape } from './shape.ts';
import { partTrouble, type RefusedWrite, type Trouble, writeTrouble } from './troubles.ts';

export type MemberConditions = Readonly<Record<MemberCondition, PlannedCondition>>;

export interface ConditionsInput {
  readonly picture: MemberPicture;
  readonly shape: MemberShape;
  readonly nodes: NodesPlan;
  readonly volumes: VolumesPlan;
  readonly upgrading: PlannedCondition;
  readonly certificates: { readonly condition: PlannedCondition; readonly stalled?: PlannedCondition };
  readonly refused: readonly RefusedWrite[];
}

export function planConditions(input: ConditionsInput): MemberConditions {
  const { picture, upgrading, certificates } = input;
  const coordinator = coordinatorCondition(input);
  const nodes = nodesCondition(input);
  const replication = replicationCondition(picture.coordinator);
  const parts = [certificates.condition, coordinator, nodes];
  const stalled = stalledCondition(input);
  const failing = parts.find(({ status }) => status !== 'True');
  const ready: PlannedCondition =
    stalled.status === 'True'
      ? { ...stalled, status: 'False' }
      : failing === undefined
        ? { status: 'True', reason: 'Ready', message: 'Coordinator, nodes and certificates are as they should be' }
        : { ...failing, status: 'False' };
  return {
    Ready: ready,
    Reconciling: reconcilingCondition(input, { stalled, failing }),
    Stalled: stalled,
    CertificatesReady: certificates.condition,
    CoordinatorReady: coordinator,
    NodesReady: nodes,
    ReplicationHealthy: replication,
    Upgrading: upgrading,
  };
}

/** Of a Member that cannot be begun with, or is external: one word on all of it. */
export function plainConditions(stalled: PlannedCondition | undefined, ready: PlannedCondition): MemberConditions {
  const unknown: PlannedCondition = { status: 'Unknown', reason: ready.reason, message: ready.message };
  const isReady = ready.status === 'True';
  return {
    Ready: ready,
    Reconciling:
      isReady || stalled !== undefined
        ? { status: 'False', reason: ready.reason, message: ready.message }
        : { status: 'True', reason: ready.reason, message: ready.message },
    Stalled: stalled ?? notStalled(),
    CertificatesReady: unknown,
    CoordinatorReady: unknown,
    NodesReady: unknown,
    ReplicationHealthy: unknown,
    Upgrading: { status: 'False', reason: ready.reason, message: '' },
  };
}

function coordinatorCondition({ picture, shape, volumes, refused }: ConditionsInput): PlannedCondition {
  const { coordinator: name } = namesOf(shape.member);
  if (volumes.coordinator.state === 'lost')
    return { status: 'False', reason: 'CoordinatorVolumeLost', message: volumes.coordinator.message };
  if (volumes.coordinator.state === 'restoring') {
    const { state, message } = volumes.coordinator.progress;
    return { status: 'False', reason: state === 'failed' ? 'RestoreFailed' : 'Restoring', message };
  }
  if (picture.coordinator.state === 'answered')
    return { status: 'True', reason: 'Serves', message: 'The coordinator answers' };
  const trouble = partTrouble(picture, name) ?? refusedOf(refused, name);
  if (trouble !== undefined) return troubled(trouble);
  if (isReadyPod(picture.objects.pods.get(podOf(name))))
    return {
      status: 'False',
      reason: 'Unreachable',
      message: `The coordinator does not answer: ${picture.coordinator.why}`,
    };
  return {
    status: 'False',
    reason: 'Starting',
    message: `The coordinator does not serve yet: ${picture.coordinator.why}`,
  };
}

function nodesCondition(input: ConditionsInput): PlannedCondition {
  const staying = input.nodes.nodes.filter(({ leaving }) => leaving === undefined);
  const unready = staying.filter((node) => !isNodeReady(input.picture, input.shape, node));
  const count = `${staying.length - unready.length} of ${staying.length} nodes are ready`;
  if (unready.length === 0) return { status: 'True', reason: 'NodesReady', message: count };
  const names = unready.map(({ name }) => namesOf(input.shape.member).node(name));
  const trouble = names
    .map((name) => partTrouble(input.picture, name) ?? refusedOf(input.refused, name))
    .find((each) => each !== undefined);
  if (trouble !== undefined) return { ...troubled(trouble), message: `${count}. ${trouble.message}` };
  return {
    status: 'False',
    reason: 'Starting',
    message: `${count}; not: ${unready.map(({ name }) => name).join(', ')}`,
  };
}

/** Its pod is ready; what the coordinator says of it is a matter of seconds, and would make the condition flap. */
export function isNodeReady({ objects }: MemberPicture, { member }: MemberShape, { name }: PlannedNode): boolean {
  return isReadyPod(objects.pods.get(podOf(namesOf(member).node(name))));
}

function refusedOf(refused: readonly RefusedWrite[], name: string): Trouble | undefined {
  const write = refused.find((each) => each.name === name);
  return write === undefined ? undefined : writeTrouble(write);
}

function troubled({ reason, message }: Trouble): PlannedCondition {
  return { status: 'False', reason, message };
}

function stalledCondition(input: ConditionsInput): PlannedCondition {
  const { picture, shape, nodes, volumes, certificates, refused } = input;
  if (volumes.coordinator.state === 'lost')
    return { status: 'True', reason: 'CoordinatorVolumeLost', message: volumes.coordinator.message };
  if (volumes.coordinator.state === 'restoring' && volumes.coordinator.progress.state === 'failed')
    return { status: 'True', reason: 'RestoreFailed', message: volumes.coordinator.progress.message };
  if (certificates.stalled !== undefined) return certificates.stalled;
  const names = [namesOf(shape.member).coordinator, ...nodes.nodes.map(({ name }) => namesOf(shape.member).node(name))];
  const troubles = [...names.map((name) => partTrouble(picture, name)), ...refused.map(writeTrouble)];
  const [trouble] = troubles.flatMap((each) => (each?.needsPerson === true ? [each] : []));
  return trouble === undefined ? notStalled() : { status: 'True', reason: trouble.reason, message: trouble.message };
}

function notStalled(): PlannedCondition {
  return { status: 'False', reason: 'NotStalled', message: '' };
}

function reconcilingCondition(
  { picture, nodes, volumes, upgrading, refused }: ConditionsInput,
  { stalled, failing }: { stalled: PlannedCondition; failing: PlannedCondition | undefined },
): PlannedCondition {
  const at = (reason: string, message: string): PlannedCondition => ({ status: 'True', reason, message });
  if (picture.member.spec.maintenance?.paused === true)
    return { status: 'False', reason: 'Paused', message: 'spec.maintenance.paused: nothing is changed' };
  const isStalled = stalled.status === 'True';
  const [stuck] = nodes.stuck;
  if (stuck !== undefined) {
    // Ready and Stalled name what else is wrong; of a drain nothing else tells.
    const more = isStalled ? `. ${stalled.message}` : failing === undefined ? '' : `. ${failing.message}`;
    const message = `Node ${stuck.node} cannot go: ${stuck.why}${more}`;
    return { status: isStalled ? 'False' : 'True', reason: 'DrainStuck', message };
  }
  if (isStalled) return { status: 'False', reason: 'Stalled', message: stalled.message };
  if (failing !== undefined) return at(failing.reason, failing.message);
  const leaving = nodes.nodes.filter((node) => node.leaving !== undefined);
  if (leaving.length > 0) return at('Draining', leaving.map((node) => leavingText(picture, node)).join('; '));
  if (upgrading.status === 'True') return at(upgrading.reason, upgrading.message);
  const [growing] = volumes.growing;
  if (growing !== undefined) return at('VolumeGrowing', `Volume claim ${growing.claim} grows. ${growing.message}`);
  const [write] = refused;
  if (write !== undefined) {
    const trouble = writeTrouble(write);
    return at(trouble.reason, trouble.message);
  }
  return { status: 'False', reason: 'Settled', message: 'Everything is as the spec wants it' };
}

/** Without the number of chunks, which would be a write every few seconds; `status.nodes` has it in steps. */
function leavingText(picture: MemberPicture, { name, leaving }: PlannedNode): string {
  if (leaving === 'Drained') return `node ${name} is empty and goes`;
  return reportedNode(picture.coordinator, name) === undefined ? `node ${name} goes` : `node ${name} is emptied`;
}
