/** A member as the cluster shows it, for tests of planners: volumes, StatefulSets and pods of `alice`, and what its coordinator says. */
import type { NodeHolding, NodeStatus } from '@collective/client';
import type { Condition } from '../api/condition.ts';
import { ANNOTATIONS } from '../api/group.ts';
import type { Member } from '../api/member.ts';
import type { CoordinatorAnswer, CoordinatorStatus } from '../coordinator/coordinator-answer.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import { labelsOf, namesOf, podOf } from './names.ts';
import { type MemberObjects, type MemberPicture, NO_OBJECTS } from './picture.ts';

export const NOW_MS = Date.parse('2026-11-20T12:00:00Z');
const names = namesOf('alice');

export function examplePicture(change: Partial<MemberPicture> = {}): MemberPicture {
  return {
    nowMs: NOW_MS,
    operator: operatorSettings(),
    member: exampleMember(),
    collective: exampleCollective(),
    claims: [],
    objects: NO_OBJECTS,
    coordinator: { state: 'unasked', why: 'it does not run yet' },
    keptRequests: [],
    namespaceEnds: false,
    foreign: new Set(),
    warnings: new Map(),
    claimUsers: new Map(),
    ...change,
  };
}

export interface ExampleNode {
  readonly name: string;
  readonly mark?: string;
  /** Absent ones: only the rest of the node is there. */
  readonly without?: readonly ('claim' | 'statefulSet' | 'pod')[];
  readonly isReady?: boolean;
  /** Its container has started, also if it is not ready. */
  readonly isRunning?: boolean;
  readonly podHash?: string;
  readonly hash?: string;
  readonly capacity?: string;
  readonly requested?: string;
}

/** Coordinator and nodes of the pool `disk`, all up unless said otherwise. */
export function exampleObjects(nodes: readonly (ExampleNode | string)[]): MemberObjects {
  const all = nodes.map((node) => (typeof node === 'string' ? { name: node } : node));
  const has = (part: 'claim' | 'statefulSet' | 'pod') => all.filter(({ without = [] }) => !without.includes(part));
  return {
    ...NO_OBJECTS,
    volumeClaims: byName([claim({ name: 'coordinator' }), ...has('claim').map(claim)]),
    statefulSets: byName([statefulSet({ name: 'coordinator' }), ...has('statefulSet').map(statefulSet)]),
    pods: byName([pod({ name: 'coordinator' }), ...has('pod').map(pod)]),
  };
}

export function byName(objects: readonly KubeObject[]): ReadonlyMap<string, KubeObject> {
  return new Map(objects.map((object) => [object.metadata.name, object]));
}

function claim({ name, mark, capacity = '100Gi', requested = '100Gi' }: ExampleNode): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: names.node(name),
      namespace: 'team',
      uid: `claim-${name}`,
      labels: labels(name),
      ...(mark === undefined ? {} : { annotations: { [ANNOTATIONS.removal]: mark } }),
    },
    spec: { resources: { requests: { storage: requested } }, storageClassName: 'standard' },
    status: { phase: 'Bound', capacity: { storage: capacity } },
  };
}

function statefulSet({ name, hash = 'new' }: ExampleNode): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: {
      name: names.node(name),
      namespace: 'team',
      uid: `set-${name}`,
      labels: labels(name),
      annotations: { [ANNOTATIONS.templateHash]: hash },
    },
    spec: { minReadySeconds: 5 },
  };
}

function pod({ name, isReady = true, isRunning = isReady, podHash = 'new' }: ExampleNode): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: podOf(names.node(name)),
      namespace: 'team',
      uid: `pod-${name}`,
      labels: labels(name),
      annotations: { [ANNOTATIONS.templateHash]: podHash },
    },
    spec: { containers: [{ name: 'node', image: 'collective:1.0.0' }] },
    status: {
      conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False', lastTransitionTime: '2026-11-20T11:00:00Z' }],
      ...(isRunning ? { containerStatuses: [{ started: true, ready: isReady, state: { running: {} } }] } : {}),
    },
  };
}

function labels(name: string): Record<string, string> {
  const facts = { member: 'alice', collective: 'photos' };
  return name === 'coordinator'
    ? labelsOf({ ...facts, component: 'coordinator' })
    : labelsOf({ ...facts, component: 'node', node: name, pool: name.replace(/-[0-9]+$/, '') });
}

export function began(
  change: Partial<NonNullable<NonNullable<Member['status']>['coordinator']>> = {},
): Member['status'] {
  return { coordinator: { state: 'Ready', volumeUid: 'claim-coordinator', began: true, ...change } };
}

/** What a status says of a coordinator that has not answered for so long. */
export function silentFor(ms: number): Condition {
  return {
    type: 'CoordinatorReady',
    status: 'False',
    reason: 'Unreachable',
    message: '',
    lastTransitionTime: new Date(NOW_MS - ms).toISOString(),
  };
}

export interface AnswerFacts {
  readonly nodes?: readonly (Partial<NodeStatus> & { readonly name: string })[];
  readonly replication?: Partial<CoordinatorStatus['replication']>;
  readonly holdings?: Readonly<Record<string, number>>;
  /** Its metadata are from a backup, and nobody has looked yet. */
  readonly garbageWaits?: boolean;
}

/** A coordinator that answers; nothing is wrong with it unless said otherwise. */
export function answered(facts: AnswerFacts = {}): CoordinatorAnswer {
  const { nodes = [], replication = {}, holdings = {}, garbageWaits = false } = facts;
  const status: CoordinatorStatus = {
    member: 'alice',
    trustDomain: 'alice.photos.example',
    version: '1.0.0',
    epoch: { generation: 1, start: 1 },
    logPosition: 1,
    stablePosition: 1,
    sessions: 0,
    nodes: nodes.map(reported),
    refusedNodes: [],
    capacityBytes: 0,
    usedBytes: 0,
    files: 0,
    directories: 1,
    trashBytes: 0,
    trashFiles: 0,
    replication: {
      replicas: 0,
      underReplicated: 0,
      counting: false,
      unstable: 0,
      lost: 0,
      toMove: 0,
      unreadable: 0,
      bytesToRepair: 0,
      restSeconds: 0,
      repairedBytes: 0,
      waiting: [],
      failure: '',
      ...replication,
    },
    garbage: { waits: garbageWaits } as CoordinatorStatus['garbage'],
    metadataCapacityBytes: 0,
    metadataFreeBytes: 0,
    metadataFull: false,
    trust: { bundleHash: '', roots: [], signingRoot: '', groups: [], peers: [], sessionsLeftOut: 0, connections: [] },
    jobs: [],
    certificates: [],
    events: [],
  };
  const held = Object.entries(holdings).map(([name, chunks]): [string, NodeHolding] => [
    name,
    { name, duty: 'draining', state: 'ready', chunks, bytes: chunks },
  ]);
  return { state: 'answered', status, holdings: new Map(held), subjects: [], requests: [] };
}

function reported(node: Partial<NodeStatus> & { readonly name: string }): NodeStatus {
  return {
    state: 'ready',
    zone: '',
    capacityBytes: 100,
    usedBytes: 10,
    freeBytes: 90,
    version: '1.0.0',
    disk: `disk-of-${node.name}`,
    chunks: 1,
    addresses: [],
    duty: 'active',
    leftChunks: 0,
    leftBytes: 0,
    waiting: [],
    clockOffMs: 0,
    ...node,
  };
}
