/** All that a reconcile of one Member looks at, gathered before anything is decided. Plain data: planners are functions of it. */
import type { Collective } from '../api/collective.ts';
import type { Member } from '../api/member.ts';
import type { CoordinatorAnswer } from '../coordinator/coordinator-answer.ts';
import type { CheckedKeptRequest } from '../csr/checked-requests.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import type { ForeignObjects } from './foreign-objects.ts';
import type { OperatorSettings } from './shape.ts';

export interface MemberPicture {
  readonly nowMs: number;
  readonly operator: OperatorSettings;
  readonly member: Member;
  readonly collective?: Collective;
  /** Every Member within the operator's scope that has the same trust domain, this one among them. */
  readonly claims: readonly TrustClaim[];
  readonly objects: MemberObjects;
  readonly coordinator: CoordinatorAnswer;
  /** That the coordinator keeps unanswered (T5), checked. */
  readonly keptRequests: readonly CheckedKeptRequest[];
  /** Of a Member that is being deleted: its namespace is, too. */
  readonly namespaceEnds: boolean;
  /** What is in the way of objects that are to be made. */
  readonly foreign: ForeignObjects;
  /** Newest warning of the cluster about an object of the member, by `Kind/name`. */
  readonly warnings: ReadonlyMap<string, ClusterWarning>;
  /** Pods, whosever, that use a volume claim which was to have gone, by claim. */
  readonly claimUsers: ReadonlyMap<string, readonly string[]>;
  /** Of an external member: how its endpoint answered; absent: not asked yet. */
  readonly external?: ExternalAnswer;
}

export interface TrustClaim {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly created: string;
  /** It has begun under this trust domain. */
  readonly holds: boolean;
}

export type ExternalAnswer = { readonly reachable: true } | { readonly reachable: false; readonly why: string };

/** From the events of the cluster: what a status does not say, such as why a StatefulSet makes no pod. */
export interface ClusterWarning {
  readonly reason: string;
  readonly message: string;
}

export type ObjectsByName = ReadonlyMap<string, KubeObject>;

/** Of this member only. */
export interface MemberObjects {
  readonly statefulSets: ObjectsByName;
  readonly services: ObjectsByName;
  readonly volumeClaims: ObjectsByName;
  readonly pods: ObjectsByName;
  readonly disruptionBudgets: ObjectsByName;
  readonly networkPolicies: ObjectsByName;
  readonly serviceAccounts: ObjectsByName;
  readonly cronJobs: ObjectsByName;
  readonly jobs: ObjectsByName;
  readonly configMaps: ObjectsByName;
  readonly secrets: ObjectsByName;
  readonly certificates: ObjectsByName;
  readonly issuers: ObjectsByName;
  /** cert-manager's own, for Certificates, are among them. */
  readonly certificateRequests: ObjectsByName;
}

export const NO_OBJECTS: MemberObjects = {
  statefulSets: new Map(),
  services: new Map(),
  volumeClaims: new Map(),
  pods: new Map(),
  disruptionBudgets: new Map(),
  networkPolicies: new Map(),
  serviceAccounts: new Map(),
  cronJobs: new Map(),
  jobs: new Map(),
  configMaps: new Map(),
  secrets: new Map(),
  certificates: new Map(),
  issuers: new Map(),
  certificateRequests: new Map(),
};
