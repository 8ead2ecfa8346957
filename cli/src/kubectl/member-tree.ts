/**
 * Collectives, their members, and what each is made of, as a tree: coordinator and nodes with pod and volume. What the
 * operator has not made, or cannot find, is shown as missing, since that is what people look for. Pure.
 */
import type { KubeObject } from './kube-object.ts';
import { healthText } from './member-health.ts';
import {
  type CollectiveObject,
  type Condition,
  MEMBER_LABEL,
  type MemberObject,
  type NodeSeen,
} from './member-object.ts';
import { quantityText, usedOf } from './quantity.ts';

export interface TreeItem {
  readonly kind: 'collective' | 'member' | 'coordinator' | 'pool' | 'node' | 'pod' | 'volume';
  readonly name: string;
  readonly says: string;
  readonly children: readonly TreeItem[];
}

export interface TreeObjects {
  readonly collectives: readonly CollectiveObject[];
  readonly members: readonly MemberObject[];
  readonly pods: readonly KubeObject[];
  readonly volumeClaims: readonly KubeObject[];
}

/** One tree a Collective; members that name one which does not exist come last, under its name. */
export function treesOf(objects: TreeObjects, wanted?: string): TreeItem[] {
  const { collectives, members } = objects;
  const known = new Set(collectives.map(({ metadata }) => metadata.name));
  const named = members.map((member) => member.spec?.collectiveRef?.name ?? '-');
  const missing = [...new Set(named.filter((name) => !known.has(name)))].sort();
  const below = (name: string): TreeItem[] =>
    members
      .filter((_, i) => named[i] === name)
      .sort(byName)
      .map((member) => memberItem(member, objects));
  return [
    ...[...collectives].sort(byName).map(
      (one): TreeItem => ({
        kind: 'collective',
        name: one.metadata.name,
        says: collectiveText(one),
        children: below(one.metadata.name),
      }),
    ),
    ...missing.map((name): TreeItem => ({ kind: 'collective', name, says: 'MISSING', children: below(name) })),
  ].filter(({ name }) => wanted === undefined || name === wanted);
}

function collectiveText({ spec, status }: CollectiveObject): string {
  const ready = status?.membersReady === undefined ? '' : `, ${status.membersReady} members ready`;
  const stalled = status?.conditions?.find(({ type, status: is }) => type === 'Stalled' && is === 'True');
  return `${spec?.domain ?? 'no domain'}${ready}${stalled === undefined ? '' : `, STALLED: ${stalled.message}`}`;
}

function memberItem(member: MemberObject, objects: TreeObjects): TreeItem {
  const { metadata, spec, status } = member;
  const { name } = metadata;
  const children: TreeItem[] = [];
  if (spec?.external === undefined) {
    const parts = partsOf(name, objects);
    children.push({
      kind: 'coordinator',
      name: 'coordinator',
      says: status?.coordinator?.state ?? 'not begun',
      children: [parts.pod(`${name}-coordinator-0`), parts.volume(`${name}-coordinator`)],
    });
    for (const [pool, nodes] of poolsOf(member)) {
      children.push({
        kind: 'pool',
        name: pool,
        says: poolText(member, pool, nodes),
        children: nodes.map((node) => ({
          kind: 'node',
          name: node.name,
          says: nodeText(node),
          children: [parts.pod(`${name}-${node.name}-0`), parts.volume(`${name}-${node.name}`)],
        })),
      });
    }
    // Of nodes that are gone, or of nothing that we know: volumes stay on purpose, and cost.
    children.push(...parts.rest());
  }
  return { kind: 'member', name, says: healthText(member), children };
}

/** As the spec lists them; nodes of a pool that is no longer there come last. */
function poolsOf({ spec, status }: MemberObject): [string, NodeSeen[]][] {
  const pools = new Map<string, NodeSeen[]>((spec?.nodePools ?? []).map(({ name }) => [name, []]));
  for (const node of status?.nodes ?? []) {
    const pool = node.pool ?? node.name.replace(/-[0-9]+$/, '');
    const nodes = pools.get(pool);
    if (nodes === undefined) pools.set(pool, [node]);
    else nodes.push(node);
  }
  for (const nodes of pools.values()) nodes.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  return [...pools];
}

function poolText({ spec }: MemberObject, pool: string, nodes: readonly NodeSeen[]): string {
  const wanted = spec?.nodePools?.find(({ name }) => name === pool);
  const ready = nodes.filter(({ state }) => state === 'Ready' || state === 'Full').length;
  return wanted === undefined
    ? `not in the spec any more, ${nodes.length} left`
    : `${ready}/${wanted.replicas ?? 0} nodes of ${quantityText(wanted.capacity)}`;
}

function nodeText({ state, used, capacity, leftChunks }: NodeSeen): string {
  const left = leftChunks === undefined ? '' : `, ${leftChunks} chunks left to move`;
  return `${state ?? '-'}${capacity === undefined ? '' : `, ${usedOf(used, capacity)}`}${left}`;
}

interface Parts {
  pod(name: string): TreeItem;
  volume(name: string): TreeItem;
  rest(): TreeItem[];
}

function partsOf(member: string, { pods, volumeClaims }: TreeObjects): Parts {
  const ofMember = (objects: readonly KubeObject[]): Map<string, KubeObject> =>
    new Map(
      objects
        .filter(({ metadata }) => metadata.labels?.[MEMBER_LABEL] === member)
        .map((object) => [object.metadata.name, object]),
    );
  const [podsLeft, volumesLeft] = [ofMember(pods), ofMember(volumeClaims)];
  const take = (left: Map<string, KubeObject>, name: string): KubeObject | undefined => {
    const found = left.get(name);
    left.delete(name);
    return found;
  };
  const pod = (name: string, found = take(podsLeft, name)): TreeItem => ({
    kind: 'pod',
    name,
    says: found === undefined ? 'MISSING' : podText(found),
    children: [],
  });
  const volume = (name: string, found = take(volumesLeft, name)): TreeItem => ({
    kind: 'volume',
    name,
    says: found === undefined ? 'MISSING' : volumeText(found),
    children: [],
  });
  return {
    pod: (name) => pod(name),
    volume: (name) => volume(name),
    rest: () => [
      ...[...podsLeft].map(([name, found]) => pod(name, found)),
      ...[...volumesLeft].map(([name, found]) => volume(name, found)),
    ],
  };
}

interface ContainerStatus {
  readonly ready?: boolean;
  readonly restartCount?: number;
  readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
}

/** What `kubectl get pods` would say, and what holds it up. */
export function podText({ metadata, spec, status }: KubeObject): string {
  const {
    phase = '-',
    conditions = [],
    containerStatuses = [],
  } = (status ?? {}) as {
    phase?: string;
    conditions?: readonly Condition[];
    containerStatuses?: readonly ContainerStatus[];
  };
  const { nodeName } = (spec ?? {}) as { nodeName?: string };
  const where = nodeName === undefined ? '' : ` on ${nodeName}`;
  if (metadata.deletionTimestamp !== undefined) return `Terminating${where}`;
  const waiting = containerStatuses.find(({ state }) => state?.waiting?.reason !== undefined)?.state?.waiting;
  if (waiting?.reason !== undefined) return `${waiting.reason}${where}${waiting.message ? `: ${waiting.message}` : ''}`;
  const unscheduled = conditions.find(({ type, status: is }) => type === 'PodScheduled' && is === 'False');
  if (unscheduled !== undefined) return `${phase}: ${unscheduled.message ?? unscheduled.reason ?? 'not scheduled'}`;
  const isReady = conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True');
  const restarts = containerStatuses.reduce((sum, { restartCount = 0 }) => sum + restartCount, 0);
  const often = restarts === 0 ? '' : `, ${restarts} restarts`;
  return `${phase}${phase === 'Running' && !isReady ? ', not ready' : ''}${where}${often}`;
}

export function volumeText({ metadata, spec, status }: KubeObject): string {
  const { phase = '-', capacity } = (status ?? {}) as { phase?: string; capacity?: { storage?: string } };
  const { resources, storageClassName } = (spec ?? {}) as {
    resources?: { requests?: { storage?: string } };
    storageClassName?: string;
  };
  const [has, asked] = [capacity?.storage, resources?.requests?.storage];
  const size =
    has === undefined
      ? `asks for ${asked ?? '-'}`
      : has === asked || asked === undefined
        ? has
        : `${has}, asks for ${asked}`;
  const gone = metadata.deletionTimestamp === undefined ? '' : ', being deleted';
  return `${phase}, ${size}${storageClassName === undefined ? '' : ` of ${storageClassName}`}${gone}`;
}

function byName(a: KubeObject, b: KubeObject): number {
  return a.metadata.name < b.metadata.name ? -1 : 1;
}

/** Lines as `tree` draws them. */
export function drawn(items: readonly TreeItem[]): string[] {
  return items.flatMap((item) => [textOf(item), ...drawnBelow(item.children, '')]);
}

function drawnBelow(items: readonly TreeItem[], indent: string): string[] {
  return items.flatMap((item, i) => {
    const last = i === items.length - 1;
    return [
      `${indent}${last ? '└── ' : '├── '}${textOf(item)}`,
      ...drawnBelow(item.children, `${indent}${last ? '    ' : '│   '}`),
    ];
  });
}

function textOf({ kind, name, says }: TreeItem): string {
  return `${kind === 'coordinator' ? kind : `${kind} ${name}`}  ${says}`;
}
