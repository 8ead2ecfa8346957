/**
 * Coordinator and nodes as StatefulSets of one replica (K2): a pod with a name, a volume and a leaf of its own. Their strategy
 * is OnDelete, because the operator itself decides when a pod may go (`plan-rollout.ts`); so what needs no other start, such
 * as `COLLECTIVE_EXPECT_DATA`, may change in the template at any time and counts from the next start on.
 */
import { createHash } from 'node:crypto';
import type { IStatefulSet } from 'kubernetes-models/apps/v1/StatefulSet';
import type { IIoK8sApiCoreV1PodSpec as PodSpec } from 'kubernetes-models/v1/PodSpec';
import { ANNOTATIONS } from '../../api/group.ts';
import type { KubeObject } from '../../kube/kube-object.ts';
import { type Component, labelsOf, memberAddress, namesOf, PORTS, podOf, selectorOf } from '../names.ts';
import type { MemberShape, PoolShape } from '../shape.ts';
import { podSpec, probes, settingsEnv, TLS_FOLDER, VOLUME_FOLDER } from './pod-template.ts';
import { raw } from './raw.ts';

/**
 * Programs end by themselves within 5 s of being asked (D4 needs no more), and lose nothing by being killed. Who deletes a namespace waits
 * for it, too: while pods are left Kubernetes looks again only after half of the longest of these times.
 */
const TERMINATION_SECONDS = 10;
/** A node counts as back when it has served for some heartbeats. */
const NODE_MIN_READY_SECONDS = 5;
export const EXPECT_DATA = 'COLLECTIVE_EXPECT_DATA';
/** Settings that count from the next start on, whenever that is. */
const NO_RESTART_FOR: ReadonlySet<string> = new Set([EXPECT_DATA]);

export interface CoordinatorSetOptions {
  /** It has served before: from now on it must not start blank (K3). */
  readonly expectsData: boolean;
  /** Its volume is being filled by a restore: nobody else may have it meanwhile. */
  readonly isHeld?: boolean;
}

export function coordinatorStatefulSet(
  shape: MemberShape,
  { expectsData, isHeld = false }: CoordinatorSetOptions,
): KubeObject {
  const names = namesOf(shape.member);
  const spec = podSpec({
    shape,
    scheduling: shape.coordinator,
    resources: shape.coordinator.resources,
    container: {
      name: 'coordinator',
      args: ['coordinator'],
      ports: [
        { name: 'grpc', containerPort: PORTS.grpc },
        { name: 'health', containerPort: PORTS.coordinatorHealth },
      ],
      ...probes(),
    },
    env: settingsEnv({
      MEMBER: shape.member,
      COLLECTIVE: shape.domain,
      DATA: `${VOLUME_FOLDER}/coordinator`,
      TLS: TLS_FOLDER,
      LISTEN: `:${PORTS.grpc}`,
      HEALTH_LISTEN: `:${PORTS.coordinatorHealth}`,
      // Who may come in at all is said by certificates; people of one member share its root as they share /tmp.
      ROOT_MODE: '1777',
      EXPECT_DATA: expectsData ? 'true' : undefined,
    }),
    tlsSecret: names.coordinatorTls,
    volumeClaim: names.coordinator,
    terminationGracePeriodSeconds: TERMINATION_SECONDS,
  });
  return statefulSet(
    shape,
    { name: names.coordinator, serviceName: names.coordinator, component: 'coordinator', replicas: isHeld ? 0 : 1 },
    spec,
  );
}

export interface NodeSetOptions {
  readonly pool: PoolShape;
  readonly node: string;
  /** That it gives; less than its volume. */
  readonly capacityBytes: number;
  /** host:port that people outside dial; absent: as inside. `[$(HOST_IP)]` is the address of its machine. */
  readonly externalAddress?: string;
}

export function nodeStatefulSet(
  shape: MemberShape,
  { pool, node, capacityBytes, externalAddress }: NodeSetOptions,
): KubeObject {
  const names = namesOf(shape.member);
  const name = names.node(node);
  const internal = `${podOf(name)}.${names.nodes}.${shape.namespace}.svc:${PORTS.bulk}`;
  const spec = podSpec({
    shape,
    scheduling: pool,
    resources: pool.resources,
    container: {
      name: 'node',
      args: ['node'],
      ports: [
        { name: 'bulk', containerPort: PORTS.bulk },
        { name: 'health', containerPort: PORTS.nodeHealth },
      ],
      ...probes(),
    },
    env: [
      // Replicas lie in several zones: without a label every machine is one.
      pool.zone === undefined
        ? { name: 'COLLECTIVE_ZONE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }
        : { name: 'COLLECTIVE_ZONE', value: pool.zone },
      { name: 'HOST_IP', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } },
      ...settingsEnv({
        COORDINATOR: memberAddress(shape.member, shape.namespace),
        DATA: `${VOLUME_FOLDER}/node`,
        TLS: TLS_FOLDER,
        CAPACITY: String(capacityBytes),
        LISTEN: `:${PORTS.bulk}`,
        ADVERTISE: `internal=${internal},external=${externalAddress ?? internal}`,
        HEALTH_LISTEN: `:${PORTS.nodeHealth}`,
        AUTO_TLS: 'false',
      }),
    ],
    tlsSecret: names.nodeTls(node),
    volumeClaim: name,
    terminationGracePeriodSeconds: TERMINATION_SECONDS,
    pod: spreadOf(shape, pool),
  });
  const facts = { name, serviceName: names.nodes, component: 'node', node, pool: pool.name } as const;
  return statefulSet(shape, facts, spec, NODE_MIN_READY_SECONDS);
}

/** Of the template: another value means that the pod must start anew. */
export function templateHash(template: { readonly spec?: PodSpec; readonly metadata?: unknown }): string {
  const counted = JSON.stringify(template, (key, value: unknown) => {
    if (key !== 'env' || !Array.isArray(value)) return value;
    return (value as { readonly name: string }[]).filter(({ name }) => !NO_RESTART_FOR.has(name));
  });
  return createHash('sha256').update(counted).digest('hex').slice(0, 16);
}

interface SetFacts {
  readonly name: string;
  readonly serviceName: string;
  readonly component: Component;
  readonly node?: string;
  readonly pool?: string;
  readonly replicas?: number;
}

function statefulSet(
  { namespace, member, collective, owner }: MemberShape,
  { name, serviceName, component, node, pool, replicas = 1 }: SetFacts,
  spec: PodSpec,
  minReadySeconds?: number,
): KubeObject {
  const labels = labelsOf({ member, collective, component, node, pool });
  const template = { metadata: { labels }, spec };
  const annotations = { [ANNOTATIONS.templateHash]: templateHash(template) };
  return raw({
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name, namespace, labels, annotations, ownerReferences: [{ ...owner }] },
    spec: {
      replicas,
      minReadySeconds,
      serviceName,
      selector: { matchLabels: selectorOf({ member, component, node }) },
      updateStrategy: { type: 'OnDelete' },
      template: { ...template, metadata: { labels, annotations } },
    },
  } satisfies IStatefulSet);
}

/** Softly apart from each other, and as the pool says. */
function spreadOf({ member }: MemberShape, pool: PoolShape): Partial<PodSpec> {
  const labelSelector = { matchLabels: selectorOf({ member, component: 'node' }) };
  const own = new Set(pool.topologySpread.map(({ topologyKey }) => topologyKey));
  const byDefault = ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'].filter((key) => !own.has(key));
  return {
    affinity: (pool.affinity as PodSpec['affinity']) ?? {
      podAntiAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [
          { weight: 100, podAffinityTerm: { topologyKey: 'kubernetes.io/hostname', labelSelector } },
        ],
      },
    },
    topologySpreadConstraints: [
      ...pool.topologySpread.map(({ topologyKey, maxSkew = 1, whenUnsatisfiable = 'ScheduleAnyway' as const }) => ({
        topologyKey,
        maxSkew,
        whenUnsatisfiable,
        labelSelector,
      })),
      ...byDefault.map((topologyKey) => ({
        topologyKey,
        maxSkew: 1,
        whenUnsatisfiable: 'ScheduleAnyway' as const,
        labelSelector,
      })),
    ],
  };
}
