/**
 * `Member`: a trust domain with its authority, coordinator and nodes (K1, T1), or one that lives elsewhere (`external`). Its
 * trust domain is `<metadata.name>.<Collective.spec.domain>`; so its name is a DNS label of at most 24 characters.
 */
import type { ObjectMeta } from '../kube/kube-object.ts';
import type { Condition } from './condition.ts';
import type { Affinity, ResourceRequirements, Toleration, TopologySpread } from './pod.ts';

export interface Member {
  readonly apiVersion: string;
  readonly kind: 'Member';
  readonly metadata: ObjectMeta;
  readonly spec: MemberSpec;
  readonly status?: MemberStatus;
}

export interface MemberSpec {
  /** A Collective of the same namespace; immutable. */
  readonly collectiveRef: { readonly name: string };
  /** Absent: the Collective's, then the operator's. */
  readonly image?: string;
  readonly coordinator?: CoordinatorSpec;
  /** At least one, unless `external`; list-map by name, at most 16. */
  readonly nodePools?: readonly NodePool[];
  readonly ca?: CaSpec;
  readonly exposure?: Exposure;
  /** List-map by name, at most 256. */
  readonly users?: readonly MemberUser[];
  readonly backup?: BackupSpec;
  readonly maintenance?: { readonly paused?: boolean };
  /** What becomes of volumes and CA when the Member is deleted (K3). */
  readonly deletionPolicy?: 'Retain' | 'Delete';
  readonly external?: { readonly endpoint: string; readonly trustBundle: string };
}

export interface CoordinatorSpec {
  /** Default: 10Gi; grows only. */
  readonly storage?: { readonly size?: string; readonly storageClass?: string };
  /** "etcd" is reserved. */
  readonly log?: 'file';
  readonly resources?: ResourceRequirements;
  readonly affinity?: Affinity;
  readonly tolerations?: readonly Toleration[];
  readonly nodeSelector?: Readonly<Record<string, string>>;
}

export interface NodePool {
  /** A DNS label of at most 15 characters (T1). */
  readonly name: string;
  /** Number of nodes, 0 to 64. */
  readonly replicas: number;
  /** Of each node: size of its volume; the node gives it less a share for the file system. Grows only. */
  readonly capacity: string;
  /** Immutable. */
  readonly storageClass?: string;
  /** Replicas of a chunk are spread over zones: a fixed zone of this pool. */
  readonly zone?: string;
  readonly topologySpread?: readonly TopologySpread[];
  readonly resources?: ResourceRequirements;
  readonly affinity?: Affinity;
  readonly tolerations?: readonly Toleration[];
  readonly nodeSelector?: Readonly<Record<string, string>>;
}

/** Durations as Go writes them ("8760h"). */
export interface CaSpec {
  /** Of a generation of the authority. Default 87600h (10 years). */
  readonly duration?: string;
  /** Of a leaf. Default 720h, at least 1h. */
  readonly leafDuration?: string;
  /** How long the old root is trusted at most once all leaves are of the new one. Default 168h. */
  readonly overlap?: string;
  /** A generation older than this is followed by the next. Default: two thirds of `duration`. */
  readonly rotateAfter?: string;
}

export interface Exposure {
  readonly type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  /** What clients outside dial: host (port from the Service). NodePort without one: addresses of the cluster's nodes. */
  readonly advertised?: { readonly host?: string };
  /** List-map by node name ("coordinator" or a node): an address of its own. */
  readonly addresses?: readonly { readonly name: string; readonly host: string; readonly port?: number }[];
  readonly annotations?: Readonly<Record<string, string>>;
}

/** T3a: a person or program with a client certificate in a Secret. */
export interface MemberUser {
  readonly name: string;
  /** Default: `<member>-user-<name>`. */
  readonly secretName?: string;
  readonly admin?: boolean;
  /** Default: the root realm, read-write. */
  readonly realms?: readonly { readonly path: string; readonly readOnly?: boolean }[];
  /** Trusted: acts with the uids of its own machine. Squashed: all it does is done as one uid. */
  readonly identity?: 'Trusted' | 'Squashed';
  /** Of a squashed one; absent: one of its own. */
  readonly uid?: number;
}

export interface BackupSpec {
  /** Cron, five fields, UTC. */
  readonly schedule: string;
  /** How many are kept. Default 7. */
  readonly keep?: number;
  readonly storage?: { readonly size?: string; readonly storageClass?: string };
  readonly suspend?: boolean;
}

export interface MemberStatus {
  readonly observedGeneration?: number;
  readonly trustDomain?: string;
  readonly version?: string;
  readonly coordinator?: CoordinatorState;
  /** List-map by name. */
  readonly nodes?: readonly NodeStateSeen[];
  /** "3/3": what the printer column shows. */
  readonly nodesReady?: string;
  /** Quantities. */
  readonly capacity?: string;
  readonly used?: string;
  readonly replication?: {
    readonly underReplicated: number;
    readonly unreadable: number;
    readonly toMove: number;
    readonly counting: boolean;
  };
  readonly ca?: CaState;
  /** List-map by name. */
  readonly certificates?: readonly CertificateSeen[];
  /** "ok", or what is next: what the printer column shows. */
  readonly certificatesSummary?: string;
  readonly trustBundleHash?: string;
  /** Addresses that people dial. */
  readonly endpoints?: { readonly internal?: string; readonly external?: string };
  /** Subjects that this operator has written, so that what leaves `users` is taken back. */
  readonly users?: readonly { readonly name: string; readonly secretName: string; readonly uid?: number }[];
  readonly backup?: { readonly lastSuccess?: string; readonly lastFailure?: string; readonly message?: string };
  readonly conditions?: readonly Condition[];
}

export interface CoordinatorState {
  readonly state: 'Pending' | 'Starting' | 'Ready' | 'Unreachable' | 'VolumeLost';
  /** Uid of the volume claim that holds the metadata: another one is a loss, never a blank beginning (K3). */
  readonly volumeUid?: string;
  /** Set when the coordinator served once: from then on it must not start blank. */
  readonly began?: boolean;
  readonly image?: string;
}

export interface NodeStateSeen {
  readonly name: string;
  readonly pool: string;
  readonly state: 'Pending' | 'Starting' | 'Ready' | 'Away' | 'Full' | 'Draining' | 'Drained' | 'Removing';
  readonly volumeUid?: string;
  readonly capacity?: string;
  readonly used?: string;
  /** Of a draining node. */
  readonly leftChunks?: number;
  readonly image?: string;
}

/** T6: a rotation is resumed from here. */
export interface CaState {
  /** Newest generation that exists. */
  readonly generation: number;
  /** What is done now: nothing, or the step of a rotation. */
  readonly phase: 'Stable' | 'Creating' | 'Distributing' | 'Reissuing' | 'Retiring';
  readonly since?: string;
  /** Value of the annotation rotate-ca that was handled last. */
  readonly handledTrigger?: string;
  /** Newest first: which roots are trusted. */
  readonly generations?: readonly CaGeneration[];
}

export interface CaGeneration {
  readonly generation: number;
  /** SHA-256 of the certificate, hex: another one in the Secret begins the next generation. */
  readonly fingerprint: string;
  readonly notAfter: string;
  readonly created: string;
  /** SHA-256 of what of spec.ca it was made from. */
  readonly specHash?: string;
}

export interface CertificateSeen {
  readonly name: string;
  readonly notAfter: string;
  readonly generation: number;
}
