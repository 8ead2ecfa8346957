/**
 * The objects that a member's pods and clients need, in the order in which they are applied, and those of its objects that nothing
 * needs any more. StatefulSets begin only when their certificate can be mounted: kubelet asks again for a missing Secret only
 * after a minute or two.
 */
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import type { CertificatePlan } from '../ca/certificate-picture.ts';
import type { KubeObject, ResourceKind } from '../kube/kube-object.ts';
import { annotationOf, isDeleting, labelOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { externalAddress, formatAddress } from './external-address.ts';
import { backupCronJob } from './manifests/cron-job.ts';
import { nodesDisruptionBudget } from './manifests/disruption-budget.ts';
import { networkPolicies } from './manifests/network-policy.ts';
import { coordinatorService, nodeService, nodesService } from './manifests/service.ts';
import { serviceAccount } from './manifests/service-account.ts';
import { coordinatorStatefulSet, nodeStatefulSet } from './manifests/stateful-set.ts';
import { namesOf } from './names.ts';
import type { MemberPicture, ObjectsByName } from './picture.ts';
import { type NodesPlan, type PlannedNode, removal } from './plan-nodes.ts';
import type { Apply, Removal } from './plan-types.ts';
import type { VolumesPlan } from './plan-volumes.ts';
import type { MemberShape } from './shape.ts';

export interface ObjectsInput {
  readonly picture: MemberPicture;
  readonly shape: MemberShape;
  readonly nodes: NodesPlan;
  readonly volumes: VolumesPlan;
  readonly certificates: Pick<CertificatePlan, 'ready'>;
  readonly isReplicationHealthy: boolean;
}

export interface ObjectsPlan {
  readonly applies: readonly Apply[];
  readonly removals: readonly Removal[];
  readonly coordinatorSet?: KubeObject;
  /** As they are to be, of those that run. */
  readonly nodeSets: readonly KubeObject[];
}

export function planObjects(input: ObjectsInput): ObjectsPlan {
  const { picture, shape, nodes, isReplicationHealthy } = input;
  const coordinatorSet = coordinatorSetOf(input);
  const nodeSets = nodes.nodes.flatMap((node) => nodeSetOf(input, node));
  const exposed = shape.exposure.type === 'ClusterIP' ? [] : nodes.nodes;
  const services = [
    coordinatorService(shape),
    nodesService(shape),
    ...exposed.map(({ name, pool }) => nodeService(shape, name, pool)),
  ];
  const running = nodes.nodes.filter(({ runs }) => runs).length;
  const budgets = running === 0 ? [] : [nodesDisruptionBudget(shape, { nodes: running, isReplicationHealthy })];
  const policies = shape.networkPolicies ? networkPolicies(shape) : [];
  const cronJobs = shape.backup === undefined ? [] : [backupCronJob(shape, shape.backup)];
  const { objects } = picture;
  return {
    applies: [
      ...applies(RESOURCES.serviceAccounts, [serviceAccount(shape)]),
      ...applies(RESOURCES.networkPolicies, policies),
      ...applies(RESOURCES.services, services),
      ...applies(RESOURCES.disruptionBudgets, budgets),
      ...applies(RESOURCES.statefulSets, [...(coordinatorSet === undefined ? [] : [coordinatorSet]), ...nodeSets]),
      ...applies(RESOURCES.cronJobs, cronJobs),
    ],
    removals: [
      ...unwanted(RESOURCES.services, objects.services, services),
      ...unwanted(RESOURCES.disruptionBudgets, objects.disruptionBudgets, budgets),
      ...unwanted(RESOURCES.networkPolicies, objects.networkPolicies, policies),
      ...unwanted(RESOURCES.cronJobs, objects.cronJobs, cronJobs),
    ],
    ...(coordinatorSet === undefined ? {} : { coordinatorSet }),
    nodeSets,
  };
}

/** Pods whose annotation names another bundle: kubelet looks at the volumes of a pod that changes at once (T6). */
export function podsToTouch({ objects }: MemberPicture, trustBundleHash: string | undefined): KubeObject[] {
  if (trustBundleHash === undefined) return [];
  return [...objects.pods.values()].filter(
    (pod) =>
      !isDeleting(pod) &&
      labelOf(pod, 'app.kubernetes.io/component') !== 'backup' &&
      annotationOf(pod, ANNOTATIONS.trustBundleHash) !== trustBundleHash,
  );
}

function coordinatorSetOf({ picture, shape, volumes, certificates }: ObjectsInput): KubeObject | undefined {
  const names = namesOf(shape.member);
  const isThere = picture.objects.statefulSets.has(names.coordinator);
  if (!isThere && (volumes.coordinator.state === 'lost' || !certificates.ready.has(names.coordinatorTls)))
    return undefined;
  return coordinatorStatefulSet(shape, { expectsData: volumes.expectsData });
}

function nodeSetOf({ picture, shape, volumes, certificates }: ObjectsInput, node: PlannedNode): KubeObject[] {
  const names = namesOf(shape.member);
  const name = names.node(node.name);
  const pool = shape.pools.find((each) => each.name === node.pool);
  const capacityBytes = volumes.capacities.get(node.name);
  // Of a pool that is no longer wanted nothing is known but what is there: it stays as it is until it is empty.
  if (!node.runs || pool === undefined || capacityBytes === undefined) return [];
  const isThere = picture.objects.statefulSets.has(name);
  if (!isThere && !certificates.ready.has(names.nodeTls(node.name))) return [];
  const external = externalAddress(shape, node.name, picture.objects.services.get(name));
  // A port of the cluster is there with the Service, a balancer's address perhaps never: that is not waited for.
  if (!isThere && external.state === 'awaited' && shape.exposure.type === 'NodePort') return [];
  return [
    nodeStatefulSet(shape, {
      pool,
      node: node.name,
      capacityBytes,
      ...(external.state === 'known' ? { externalAddress: formatAddress(external) } : {}),
    }),
  ];
}

function applies(resource: ResourceKind, objects: readonly KubeObject[]): Apply[] {
  return objects.map((object) => ({ resource, object }));
}

function unwanted(resource: ResourceKind, seen: ObjectsByName, wanted: readonly KubeObject[]): Removal[] {
  const names = new Set(wanted.map(({ metadata }) => metadata.name));
  return [...seen.values()]
    .filter((object) => !names.has(object.metadata.name) && labelOf(object, LABELS.member) !== undefined)
    .filter((object) => !isDeleting(object))
    .map((object) => removal(resource, object));
}
