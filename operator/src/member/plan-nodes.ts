/**
 * Which nodes a member has, and how one leaves (K2, K3). A node that is to go is first drained; when the coordinator says that
 * nothing lies on it, and closes its disks with that answer, its claim is marked, its pod ends, the member forgets it, and
 * only then its volume is removed. The mark on the claim carries the removal over a restart of the operator: what is drained
 * goes to its end even if the pool grows again, and its index is not used anew before its volume is gone.
 */
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import { type CoordinatorAnswer, reportedNode } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { annotationOf, labelOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { namesOf, nodeIndex, nodeName, podOf } from './names.ts';
import type { MemberPicture } from './picture.ts';
import type { Removal } from './plan-types.ts';
import type { MemberShape } from './shape.ts';

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

/** Nodes on which nothing seems to lie any more and which are to go: the coordinator is asked for the truth, which closes them. */
export function nodesToClose(plan: NodesPlan, answer: CoordinatorAnswer): string[] {
  return plan.nodes
    .filter(({ leaving }) => leaving === 'Draining')
    .map(({ name }) => reportedNode(answer, name))
    .flatMap((node) => (node !== undefined && node.duty === 'draining' && node.leftChunks === 0 ? [node.name] : []));
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

/** By their volumes, StatefulSets and Services: whatever of a node is left counts. */
function seenNodes({ objects }: MemberPicture, shape: MemberShape): SeenNode[] {
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
  if (mark === 'Drained' || world.claim === undefined) return removeStep(picture, world, { name, pool });
  const node: PlannedNode = { name, pool, leaving: 'Draining', runs: true };
  if (picture.coordinator.state !== 'answered')
    return { node, stuck: `its coordinator cannot be asked what lies there (${picture.coordinator.why})` };
  if (reported === undefined) {
    // A coordinator that never heard of it has nothing there.
    return { node: { ...node, leaving: 'Drained', runs: false } };
  }
  if (mark === undefined) return { node };
  if (reported.duty !== 'draining') return { node, orders: [{ kind: 'duty', node: name, duty: 'draining' }] };
  const holding = picture.coordinator.holdings.get(name);
  if (holding?.chunks === 0) return { node: { ...node, leaving: 'Drained' } };
  const left = Math.max(reported.leftChunks, holding?.chunks ?? 0);
  const waiting = reported.waiting.map(({ chunks, says }) => `${chunks} chunks: ${says}`);
  return waiting.length === 0 ? { node } : { node, stuck: `${left} chunks lie there still; ${waiting.join('; ')}` };
}

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
  if (world.pod !== undefined) return { node };
  if (picture.coordinator.state !== 'answered')
    return { node, stuck: `its coordinator cannot be asked to forget it (${picture.coordinator.why})` };
  if (reportedNode(picture.coordinator, name) !== undefined) return { node, orders: [{ kind: 'forget', node: name }] };
  return world.claim === undefined ? {} : { node, removals: [removal(RESOURCES.volumeClaims, world.claim)] };
}

export function removal(resource: Removal['reference']['resource'], { metadata }: KubeObject): Removal {
  return {
    reference: { resource, namespace: metadata.namespace ?? '', name: metadata.name },
    uid: metadata.uid ?? '',
  };
}
