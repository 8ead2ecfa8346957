/**
 * What a member is to be, with every default filled in: from the Member, its Collective and the operator's own settings, in
 * this order of strength. Builders of manifests read nothing else.
 */
import type { Collective } from '../api/collective.ts';
import { DEFAULTS } from '../api/defaults.ts';
import type { Exposure, Member } from '../api/member.ts';
import type { Affinity, ResourceRequirements, Toleration, TopologySpread } from '../api/pod.ts';
import type { OwnerReference } from '../kube/kube-object.ts';

export interface OperatorSettings {
  /** Of coordinators and nodes whose Member and Collective name none. */
  readonly image: string;
  readonly imagePullPolicy: PullPolicy;
  readonly networkPolicies: boolean;
}

export type PullPolicy = 'IfNotPresent' | 'Always' | 'Never';

export interface Scheduling {
  readonly affinity?: Affinity;
  readonly tolerations: readonly Toleration[];
  readonly nodeSelector?: Readonly<Record<string, string>>;
}

export interface PartShape extends Scheduling {
  /** Quantity of its volume. */
  readonly size: string;
  /** Absent: the cluster's default class. */
  readonly storageClass?: string;
  readonly resources: ResourceRequirements;
}

export interface PoolShape extends PartShape {
  readonly name: string;
  readonly replicas: number;
  readonly zone?: string;
  readonly topologySpread: readonly TopologySpread[];
}

export interface BackupShape extends Scheduling {
  readonly schedule: string;
  readonly keep: number;
  readonly size: string;
  readonly storageClass?: string;
  readonly suspend: boolean;
}

export interface MemberShape {
  readonly namespace: string;
  readonly member: string;
  readonly collective: string;
  readonly domain: string;
  readonly trustDomain: string;
  readonly owner: OwnerReference;
  readonly image: string;
  readonly imagePullPolicy: PullPolicy;
  readonly imagePullSecrets: readonly string[];
  readonly priorityClassName?: string;
  readonly networkPolicies: boolean;
  readonly exposure: Exposure & { readonly type: NonNullable<Exposure['type']> };
  readonly coordinator: PartShape;
  readonly pools: readonly PoolShape[];
  readonly backup?: BackupShape;
}

/** Memory is what Node's heap and its buffers take under load; the CPU is not limited, since a late heartbeat costs more. */
const COORDINATOR_RESOURCES: ResourceRequirements = {
  requests: { cpu: '100m', memory: '256Mi' },
  limits: { memory: '1Gi' },
};
const NODE_RESOURCES: ResourceRequirements = {
  requests: { cpu: '100m', memory: '256Mi' },
  limits: { memory: '768Mi' },
};

/** A pod leaves a machine that is gone after this: its volume is needed elsewhere. */
const AWAY_SECONDS = 20;
const AWAY_TAINTS = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

export function shapeOf(member: Member, collective: Collective, operator: OperatorSettings): MemberShape {
  const { metadata, spec } = member;
  const defaults = collective.spec.defaults ?? {};
  const { domain } = collective.spec;
  const scheduling = (own: Partial<Scheduling>): Scheduling => ({
    affinity: own.affinity ?? defaults.affinity,
    tolerations: withAwayTolerations(own.tolerations ?? defaults.tolerations ?? []),
    nodeSelector: own.nodeSelector ?? defaults.nodeSelector,
  });
  const { coordinator = {}, nodePools = [], backup } = spec;
  return {
    namespace: metadata.namespace ?? '',
    member: metadata.name,
    collective: collective.metadata.name,
    domain,
    trustDomain: `${metadata.name}.${domain}`,
    owner: ownerOf(member),
    image: spec.image ?? defaults.image ?? operator.image,
    imagePullPolicy: defaults.imagePullPolicy ?? operator.imagePullPolicy,
    imagePullSecrets: defaults.imagePullSecrets ?? [],
    priorityClassName: defaults.priorityClassName,
    networkPolicies: operator.networkPolicies,
    exposure: { ...spec.exposure, type: spec.exposure?.type ?? 'ClusterIP' },
    coordinator: {
      ...scheduling(coordinator),
      size: coordinator.storage?.size ?? DEFAULTS.coordinatorStorage,
      storageClass: coordinator.storage?.storageClass ?? defaults.storageClass,
      resources: coordinator.resources ?? defaults.resources ?? COORDINATOR_RESOURCES,
    },
    pools: nodePools.map((pool) => ({
      ...scheduling(pool),
      name: pool.name,
      replicas: pool.replicas,
      size: pool.capacity,
      storageClass: pool.storageClass ?? defaults.storageClass,
      resources: pool.resources ?? defaults.resources ?? NODE_RESOURCES,
      zone: pool.zone,
      topologySpread: pool.topologySpread ?? [],
    })),
    backup:
      backup === undefined
        ? undefined
        : {
            ...scheduling({}),
            schedule: backup.schedule,
            keep: backup.keep ?? DEFAULTS.backupsKept,
            size: backup.storage?.size ?? DEFAULTS.backupStorage,
            storageClass: backup.storage?.storageClass ?? defaults.storageClass,
            suspend: backup.suspend ?? false,
          },
  };
}

/** Of what goes with its Member; volumes and the authority do not (K3). */
export function ownerOf({ apiVersion, kind, metadata }: Member): OwnerReference {
  return {
    apiVersion,
    kind,
    name: metadata.name,
    uid: metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true,
  };
}

function withAwayTolerations(own: readonly Toleration[]): readonly Toleration[] {
  const said = new Set(own.map(({ key }) => key));
  const away = AWAY_TAINTS.filter((key) => !said.has(key)).map((key) => ({
    key,
    operator: 'Exists' as const,
    effect: 'NoExecute' as const,
    tolerationSeconds: AWAY_SECONDS,
  }));
  return [...own, ...away];
}
