/** `Collective`: the group of members in one namespace, its domain and what its members begin with (K1). */
import type { ObjectMeta } from '../kube/kube-object.ts';
import type { Condition } from './condition.ts';
import type { Affinity, LabelSelector, ResourceRequirements, Toleration } from './pod.ts';

export interface Collective {
  readonly apiVersion: string;
  readonly kind: 'Collective';
  readonly metadata: ObjectMeta;
  readonly spec: CollectiveSpec;
  readonly status?: CollectiveStatus;
}

export interface CollectiveSpec {
  /** Suffix of the trust domains of its members (T1); immutable, at most 63 characters. */
  readonly domain: string;
  readonly defaults?: CollectiveDefaults;
  /** Which Members may be part of it; absent: all that name it. */
  readonly memberSelector?: LabelSelector;
  readonly monitoring?: { readonly enabled?: boolean; readonly interval?: string };
}

/** What a Member uses where it says nothing itself. */
export interface CollectiveDefaults {
  /** Absent: the operator's own image. */
  readonly image?: string;
  readonly imagePullPolicy?: 'IfNotPresent' | 'Always' | 'Never';
  readonly imagePullSecrets?: readonly string[];
  readonly storageClass?: string;
  readonly resources?: ResourceRequirements;
  readonly affinity?: Affinity;
  readonly tolerations?: readonly Toleration[];
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly priorityClassName?: string;
  /** Settings of each member's root realm, written when the member begins. */
  readonly replication?: { readonly replicas?: number; readonly minReplicas?: number };
  readonly compression?: 'On' | 'Off';
  readonly quotas?: { readonly bytes?: string; readonly inodes?: number };
}

export interface CollectiveStatus {
  readonly observedGeneration?: number;
  readonly members?: { readonly ready: number; readonly total: number };
  /** "2/3": what the printer column shows. */
  readonly membersReady?: string;
  /** Quantities. */
  readonly capacity?: string;
  readonly used?: string;
  readonly conditions?: readonly Condition[];
}
