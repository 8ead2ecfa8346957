/**
 * What the objects of a member are called, and the labels by which they are found. Names are short enough by
 * construction: member 24 + pool 15 + index 2 characters stay below the 52 of a StatefulSet (K2).
 */
import { LABELS } from '../api/group.ts';

export const PORTS = {
  grpc: 7420,
  coordinatorHealth: 9420,
  bulk: 7431,
  nodeHealth: 9431,
} as const;

export type Component = 'coordinator' | 'node' | 'backup' | 'restore';

export const MANAGED_BY = 'collective-operator';
/** Finds all that the operator made, in one watch a kind. */
export const MANAGED_SELECTOR = `app.kubernetes.io/managed-by=${MANAGED_BY}`;

export interface MemberNames {
  /** StatefulSet, Service, volume claim and network policy. */
  readonly coordinator: string;
  readonly coordinatorTls: string;
  readonly operatorTls: string;
  readonly trust: string;
  /** Headless Service, disruption budget and network policy. */
  readonly nodes: string;
  readonly serviceAccount: string;
  readonly backup: string;
  readonly backupTls: string;
  /** StatefulSet, volume claim and external Service of a node. */
  node(node: string): string;
  nodeTls(node: string): string;
}

export function namesOf(member: string): MemberNames {
  return {
    coordinator: `${member}-coordinator`,
    coordinatorTls: `${member}-coordinator-tls`,
    operatorTls: `${member}-operator-tls`,
    trust: `${member}-trust`,
    nodes: `${member}-nodes`,
    serviceAccount: member,
    backup: `${member}-backup`,
    backupTls: `${member}-backup-tls`,
    node: (node) => `${member}-${node}`,
    nodeTls: (node) => `${member}-${node}-tls`,
  };
}

/** The only pod of a StatefulSet. */
export function podOf(statefulSet: string): string {
  return `${statefulSet}-0`;
}

/** A node's name within its member (T1). */
export function nodeName(pool: string, index: number): string {
  return `${pool}-${index}`;
}

/** Undefined for a name that no node of this pool has. */
export function nodeIndex(pool: string, node: string): number | undefined {
  const digits = node.startsWith(`${pool}-`) ? node.slice(pool.length + 1) : '';
  return /^(0|[1-9][0-9]{0,4})$/.test(digits) ? Number(digits) : undefined;
}

export interface LabelFacts {
  readonly member: string;
  readonly collective: string;
  readonly component?: Component;
  readonly node?: string;
  readonly pool?: string;
}

export function labelsOf({ member, collective, component, node, pool }: LabelFacts): Record<string, string> {
  return {
    ...selectorOf({ member, component, node }),
    'app.kubernetes.io/part-of': labelValue(collective),
    'app.kubernetes.io/managed-by': MANAGED_BY,
    [LABELS.member]: member,
    ...(node === undefined ? {} : { [LABELS.node]: node }),
    ...(pool === undefined ? {} : { [LABELS.pool]: pool }),
    [LABELS.collective]: labelValue(collective),
  };
}

/** The part of the labels that never changes, for selectors, which are immutable in StatefulSets. */
export function selectorOf({
  member,
  component,
  node,
}: Pick<LabelFacts, 'member' | 'component' | 'node'>): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'collective',
    'app.kubernetes.io/instance': member,
    ...(component === undefined ? {} : { 'app.kubernetes.io/component': component }),
    ...(node === undefined ? {} : { [LABELS.node]: node }),
  };
}

const LABEL_VALUE_CHARACTERS_MAX = 63;

/** A Collective's name may be longer than a label's value. */
export function labelValue(name: string): string {
  return name.slice(0, LABEL_VALUE_CHARACTERS_MAX).replace(/[^a-zA-Z0-9]+$/, '');
}

export function memberAddress(member: string, namespace: string): string {
  return `${namesOf(member).coordinator}.${namespace}.svc:${PORTS.grpc}`;
}
