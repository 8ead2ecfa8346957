/**
 * What the plugin reads of Collectives and Members. An object may be of an older or newer operator: each field may be
 * absent, and nothing here fails for that.
 */
import type { KubeObject } from './kube-object.ts';

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
  readonly observedGeneration?: number;
}

export interface CollectiveObject extends KubeObject {
  readonly spec?: { readonly domain?: string };
  readonly status?: { readonly membersReady?: string; readonly conditions?: readonly Condition[] };
}

export interface MemberObject extends KubeObject {
  readonly spec?: {
    readonly collectiveRef?: { readonly name?: string };
    readonly nodePools?: readonly { readonly name: string; readonly replicas?: number; readonly capacity?: string }[];
    readonly users?: readonly { readonly name: string; readonly secretName?: string; readonly admin?: boolean }[];
    readonly exposure?: { readonly type?: string };
    readonly maintenance?: { readonly paused?: boolean };
    readonly external?: { readonly endpoint?: string };
  };
  readonly status?: MemberStatus;
}

export interface MemberStatus {
  readonly observedGeneration?: number;
  readonly trustDomain?: string;
  readonly version?: string;
  readonly coordinator?: {
    readonly state?: string;
    readonly image?: string;
    readonly garbageWaits?: boolean;
    readonly restored?: { readonly order?: string; readonly file?: string; readonly at?: string };
  };
  readonly nodes?: readonly NodeSeen[];
  readonly nodesReady?: string;
  readonly capacity?: string;
  readonly used?: string;
  readonly replication?: {
    readonly underReplicated?: number;
    readonly unreadable?: number;
    readonly toMove?: number;
    readonly lost?: number;
    readonly counting?: boolean;
  };
  readonly ca?: CaSeen;
  /** Leaves, and the authorities that are trusted. */
  readonly certificates?: readonly CertificateSeen[];
  readonly trustBundleHash?: string;
  readonly endpoints?: { readonly internal?: string; readonly external?: string };
  readonly users?: readonly { readonly name: string; readonly secretName?: string }[];
  readonly backup?: {
    readonly lastSuccess?: string;
    readonly lastFailure?: string;
    readonly message?: string;
    readonly kept?: readonly string[];
  };
  readonly conditions?: readonly Condition[];
}

export interface CertificateSeen {
  readonly name: string;
  readonly notAfter?: string;
  readonly generation?: number;
}

export interface NodeSeen {
  readonly name: string;
  readonly pool?: string;
  readonly state?: string;
  readonly capacity?: string;
  readonly used?: string;
  readonly leftChunks?: number;
  readonly image?: string;
}

export interface CaSeen {
  readonly generation?: number;
  readonly phase?: string;
  readonly since?: string;
  readonly oldRootsUntil?: string;
  readonly handledTrigger?: string;
  readonly generations?: readonly {
    readonly generation: number;
    readonly fingerprint?: string;
    readonly notAfter?: string;
    readonly created?: string;
  }[];
}

export const ANNOTATIONS = {
  rotateCa: 'collective.storage/rotate-ca',
  drainNodes: 'collective.storage/drain-nodes',
  restoreFrom: 'collective.storage/restore-from',
} as const;

/** What belongs to members, and to one. */
export const OF_MEMBERS = 'app.kubernetes.io/name=collective';
export const MEMBER_LABEL = 'collective.storage/member';

export function conditionOf({ status }: MemberObject, type: string): Condition | undefined {
  return status?.conditions?.find((one) => one.type === type);
}

export function isTrue(member: MemberObject, type: string): boolean {
  return conditionOf(member, type)?.status === 'True';
}

export function authorityName(member: string, generation: number): string {
  return `${member}-ca-g${generation}`;
}

/** Of `status.certificates`, without the authorities, of which `status.ca` says more. */
export function leavesOf({ metadata, status }: MemberObject): readonly CertificateSeen[] {
  const { certificates = [] } = status ?? {};
  return certificates.filter(({ name, generation }) => name !== authorityName(metadata.name, generation ?? 0));
}

/** `member.collective.storage/alice`, as kubectl names objects. */
export function memberName({ metadata }: MemberObject): string {
  return `member.collective.storage/${metadata.name}`;
}
