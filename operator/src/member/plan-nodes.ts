/**
 * Which nodes a member has, and how one leaves (K2, K3). A node that is to go is first drained; when the coordinator says that
 * nothing lies on it, and closes its disks with that answer, its claim is marked, its pod ends, the member forgets it, and
 * only then its volume is removed. The mark on the claim carries the removal over a restart of the operator: what is drained
 * goes to its end even if the pool grows again, and its index is not used anew before its volume is gone.
 */
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import { type CoordinatorAnswer, reportedNode } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { annotationOf, isDeleting, isReadyPod, labelOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { staysTooLong } from './claim-users.ts';
import { namesOf, nodeIndex, nodeName, podOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import type { Removal } from './plan-types.ts';
import type { MemberShape } from './shape.ts';
import { podTrouble } from './troubles.ts';

const PODS_TOLD_MAX = 3;
/** A coordinator that starts anew is silent for moments, on another machine for longer; CoordinatorReady says so at once. */
const SILENT_AFTER_MS = 120_000;

export type RemovalStep = 'Draining' | 'Drained';

export interface PlannedNode {
  readonly name: string;
  readonly pool: string;
  /** Absent: it stays. */
  readonly leaving?: RemovalStep;
  /** Its pod is to run. */
  readonly runs: boolean;
}

export type NodeOrder =
  | { readonly kind: 'duty'; readonly node: string; readonly duty: 'active' | 'draining' }
  /** The member forgets it; refused while anything lies there. */
  | { readonly kind: 'forget'; readonly node: string };

export interface StuckNode {
  readonly node: string;
  readonly why: string;
}

export interface NodesPlan {
  /** By pool and index. */
  readonly nodes: readonly PlannedNode[];
  readonly orders: readonly NodeOrder[];
  /** In this order, and after the orders. */
  readonly removals: readonly Removal[];
  /** Leaving nodes that cannot go on now. */
  readonly stuck: readonly StuckNode[];
}

export function planNodes(picture: MemberPicture, shape: MemberShape): NodesPlan {
  const seen = seenNodes(picture, shape);
  const named = drainedByName(picture.member.metadata.annotations?.[ANNOTATIONS.drainNodes]);
  const nodes = shape.pools.flatMap((pool) => poolNodes(pool.name, pool.replicas, seen, named));
  const orphaned = seen.filter(({ pool }) => !shape.pools.some(({ name }) => name === pool)).map(leaves);
  const steps = [...nodes, ...orphaned].map((node) => nextStep(picture, shape, node));
  return {
    nodes: steps.flatMap(({ node }) => (node === undefined ? [] : [node])),
    orders: steps.flatMap(({ orders }) => orders ?? []),
    removals: steps.flatMap(({ removals }) => removals ?? []),
    stuck: steps.flatMap(({ node, stuck }) =>
      stuck === undefined || node === undefined ? [] : [{ node: node.name, why: stuck }],
    ),
  };
}

/** Nodes that are being emptied: the coordinator is asked what is left there, and closes one of which it says that nothing is. */
export function nodesToCount(plan: NodesPlan, answer: CoordinatorAnswer): string[] {
  return plan.nodes
    .filter(({ leaving }) => leaving === 'Draining')
    .map(({ name }) => reportedNode(answer, name))
    .flatMap((node) => (node !== undefined && node.duty === 'draining' ? [node.name] : []));
}

interface SeenNode {
  readonly name: string;
  readonly pool: string;
  readonly index: number;
  readonly mark?: RemovalStep;
}

interface WantedNode {
  readonly name: string;
  readonly pool: string;
  readonly leaving: boolean;
  readonly mark?: RemovalStep;
}

/**
 * By their volumes and StatefulSets: whatever of a node is left counts. And by the status, of those that were being taken away when
 * the last of it went: the coordinator may still have to forget them.
 */
function seenNodes({ objects, member }: MemberPicture, shape: MemberShape): SeenNode[] {
  const found = new Map<string, SeenNode>();
  const all = [objects.volumeClaims, objects.statefulSets].flatMap((map) => [...map.values()]);
  for (const object of all) {
    const name = labelOf(object, LABELS.node);
    const pool = labelOf(object, LABELS.pool);
    const index = name === undefined || pool === undefined ? undefined : nodeIndex(pool, name);
    if (name === undefined || pool === undefined || index === undefined || found.has(name)) continue;
    const mark = removalMark(objects.volumeClaims.get(namesOf(shape.member).node(name)));
    found.set(name, { name, pool, index, ...(mark === undefined ? {} : { mark }) });
  }
  for (const { name, pool, state } of member.status?.nodes ?? []) {
    const index = nodeIndex(pool, name);
    if (state === 'Removing' && index !== undefined && !found.has(name)) found.set(name, { name, pool, index });
  }
  return [...found.values()].sort((a, b) => (a.pool === b.pool ? a.index - b.index : a.pool < b.pool ? -1 : 1));
}

export function removalMark(claim: KubeObject | undefined): RemovalStep | undefined {
  const mark = annotationOf(claim, ANNOTATIONS.removal);
  return mark === 'Draining' || mark === 'Drained' ? mark : undefined;
}

function drainedByName(annotation: string | undefined): ReadonlySet<string> {
  return new Set((annotation ?? '').split(',').map((name) => name.trim()));
}

/** Those that stay, lowest index first; those that leave, named ones before the highest; and new ones in the free places. */
function poolNodes(
  pool: string,
  replicas: number,
  seen: readonly SeenNode[],
  named: ReadonlySet<string>,
): readonly WantedNode[] {
  const own = seen.filter((node) => node.pool === pool);
  const going = new Set(own.filter(({ name, mark }) => mark === 'Drained' || named.has(name)).map(({ name }) => name));
  const staying = own.filter(({ name }) => !going.has(name));
  for (const { name } of staying.slice(replicas)) going.add(name);
  const missing = Math.max(0, replicas - staying.length);
  const taken = new Set(own.map(({ index }) => index));
  const fresh: WantedNode[] = [];
  for (let index = 0; fresh.length < missing; index++) {
    // A name that is to be drained is not given to a new node, or it would leave at once.
    if (!taken.has(index) && !named.has(nodeName(pool, index)))
      fresh.push({ name: nodeName(pool, index), pool, leaving: false });
  }
  const indexed = (node: WantedNode): number => nodeIndex(pool, node.name) ?? 0;
  return [...own.map((node) => (going.has(node.name) ? leaves(node) : { ...node, leaving: false })), ...fresh].sort(
    (a, b) => indexed(a) - indexed(b),
  );
}

function leaves({ name, pool, mark }: SeenNode): WantedNode {
  return { name, pool, leaving: true, ...(mark === undefined ? {} : { mark }) };
}

interface NodeStep {
  readonly node?: PlannedNode;
  readonly orders?: readonly NodeOrder[];
  readonly removals?: readonly Removal[];
  readonly stuck?: string;
}

function nextStep(picture: MemberPicture, shape: MemberShape, wanted: WantedNode): NodeStep {
  const { name, pool, mark } = wanted;
  const reported = reportedNode(picture.coordinator, name);
  if (!wanted.leaving) {
    // Only what this operator began is taken back: an administrator may drain a node for reasons of his own.
    const isToReturn = mark === 'Draining' && reported?.duty === 'draining';
    return {
      node: { name, pool, runs: true },
      orders: isToReturn ? [{ kind: 'duty', node: name, duty: 'active' }] : [],
    };
  }
  const world = worldOf(picture, shape, name);
  // A coordinator that lets it take chunks did not say that it is empty: it had not registered then, or a backup knows nothing of it.
  const isTaken = reported !== undefined && reported.duty !== 'draining';
  if ((mark === 'Drained' && !isTaken) || world.claim === undefined) return removeStep(picture, world, { name, pool });
  const node: PlannedNode = { name, pool, leaving: 'Draining', runs: true };
  if (picture.coordinator.state !== 'answered')
    return {
      node,
      ...silentFor(picture, `its coordinator cannot be asked what lies there (${picture.coordinator.why})`),
    };
  if (reported === undefined) {
    if (isReadyPod(world.pod)) return { node, stuck: UNREGISTERED };
    if (picture.coordinator.status.garbage.waits) return { node, stuck: RESTORED };
    // A coordinator that never heard of it has nothing there.
    return { node: { ...node, leaving: 'Drained', runs: false } };
  }
  if (mark !== 'Draining') return { node };
  if (isTaken) return { node, orders: [{ kind: 'duty', node: name, duty: 'draining' }] };
  const holding = picture.coordinator.holdings.get(name);
  if (holding?.chunks === 0) {
    if (picture.coordinator.status.garbage.waits) return { node, stuck: RESTORED };
    return { node: { ...node, leaving: 'Drained' } };
  }
  // As after its start, before all nodes have registered: what was in the way a moment ago says nothing.
  if (picture.coordinator.status.replication.counting) return { node };
  const left = holding?.chunks ?? reported.leftChunks;
  const waiting = reported.waiting.map(({ chunks, says }) => `${chunks} chunks: ${says}`);
  return waiting.length === 0 ? { node } : { node, stuck: `${left} chunks lie there still; ${waiting.join('; ')}` };
}

/** It is what `why` says, once that has lasted. */
function silentFor({ member, nowMs }: MemberPicture, why: string): { readonly stuck?: string } {
  const ready = member.status?.conditions?.find(({ type }) => type === 'CoordinatorReady');
  const isLong = ready?.status === 'False' && nowMs - Date.parse(ready.lastTransitionTime) >= SILENT_AFTER_MS;
  return isLong ? { stuck: why } : {};
}

/** A pod is ready once it has registered, so this is a matter of moments. */
const UNREGISTERED =
  'it runs, and its coordinator does not know it yet: what lies there is not known before it has registered';
/** D9: metadata of a backup may know neither the node nor what was moved there since. */
const RESTORED =
  'its coordinator was restored from a backup, which may not know what lies there: nothing is taken away until you say so: collective maintenance set garbage-waits=false';

interface NodeWorld {
  readonly statefulSet: KubeObject | undefined;
  readonly claim: KubeObject | undefined;
  readonly pod: KubeObject | undefined;
}

function worldOf({ objects }: MemberPicture, shape: MemberShape, node: string): NodeWorld {
  const name = namesOf(shape.member).node(node);
  return {
    statefulSet: objects.statefulSets.get(name),
    claim: objects.volumeClaims.get(name),
    pod: objects.pods.get(podOf(name)),
  };
}

/** Empty by the coordinator's word: the pod ends, the member forgets the node, the volume goes. */
function removeStep(
  picture: MemberPicture,
  world: NodeWorld,
  { name, pool }: { name: string; pool: string },
): NodeStep {
  const node: PlannedNode = { name, pool, leaving: 'Drained', runs: false };
  if (world.statefulSet !== undefined) return { node, removals: [removal(RESOURCES.statefulSets, world.statefulSet)] };
  if (world.pod !== undefined) {
    const trouble = isDeleting(world.pod) ? podTrouble(world.pod, picture.nowMs) : undefined;
    return trouble === undefined ? { node } : { node, stuck: trouble.message };
  }
  if (picture.coordinator.state !== 'answered')
    return { node, ...silentFor(picture, `its coordinator cannot be asked to forget it (${picture.coordinator.why})`) };
  const reported = reportedNode(picture.coordinator, name);
  // One that still is to take chunks is never forgotten.
  if (reported !== undefined && reported.duty !== 'draining')
    return { node, orders: [{ kind: 'duty', node: name, duty: 'draining' }] };
  if (reported !== undefined) return { node, orders: [{ kind: 'forget', node: name }] };
  if (world.claim === undefined) return {};
  if (picture.coordinator.status.garbage.waits) return { node, stuck: RESTORED };
  const removals = [removal(RESOURCES.volumeClaims, world.claim)];
  return staysTooLong(world.claim, picture.nowMs)
    ? { node, removals, stuck: heldText(world.claim, picture) }
    : { node, removals };
}

/** The member has nothing on it any more; what holds it is not the operator's. */
function heldText(
  { metadata: { name, namespace, finalizers = [] } }: KubeObject,
  { claimUsers }: MemberPicture,
): string {
  const pods = claimUsers.get(name) ?? [];
  if (pods.length > 0) {
    const more = pods.length > PODS_TOLD_MAX ? ` and ${pods.length - PODS_TOLD_MAX} more` : '';
    const told = `${pods.slice(0, PODS_TOLD_MAX).join(', ')}${more}`;
    return `it is empty, and its volume claim ${name} is still used by pod ${told}: the claim goes once that is deleted (kubectl get pods -n ${namespace})`;
  }
  return `it is empty, and its volume claim ${name} was to go, and is kept by its finalizers (${finalizers.join(', ')}): it goes once who set them takes them away`;
}

export function removal(resource: Removal['reference']['resource'], { metadata }: KubeObject): Removal {
  return {
    reference: { resource, namespace: metadata.namespace ?? '', name: metadata.name },
    uid: metadata.uid ?? '',
  };
}
