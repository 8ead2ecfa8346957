/**
 * The objects that a member's pods and clients need, in the order in which they are applied, and those of its objects that nothing
 * needs any more. StatefulSets begin only when their certificate can be mounted: kubelet asks again for a missing Secret only
 * after a minute or two.
 */
import { formatHostPort } from '@collective/base/host-port';
import { ANNOTATIONS, LABELS } from '../api/group.ts';
import type { CertificatePlan } from '../ca/certificate-picture.ts';
import type { KubeObject, ResourceKind } from '../kube/kube-object.ts';
import { annotationOf, isDeleting, labelOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { externalAddress, nodePortOf } from './external-address.ts';
import { backupCronJob } from './manifests/cron-job.ts';
import { nodesDisruptionBudget } from './manifests/disruption-budget.ts';
import { networkPolicies } from './manifests/network-policy.ts';
import { coordinatorService, nodeService, nodesService } from './manifests/service.ts';
import { serviceAccount } from './manifests/service-account.ts';
import { coordinatorStatefulSet, nodeStatefulSet } from './manifests/stateful-set.ts';
import { namesOf } from './names.ts';
import type { MemberPicture, ObjectsByName } from './picture.ts';
import { type NodesPlan, type PlannedNode, removal } from './plan-nodes.ts';
import type { RestorePlan } from './plan-restore.ts';
import type { Apply, Removal } from './plan-types.ts';
import type { VolumesPlan } from './plan-volumes.ts';
import type { MemberShape } from './shape.ts';

export interface ObjectsInput {
  readonly picture: MemberPicture;
  readonly shape: MemberShape;
  readonly nodes: NodesPlan;
  readonly volumes: VolumesPlan;
  readonly restore: Pick<RestorePlan, 'applies' | 'removals'>;
  readonly certificates: Pick<CertificatePlan, 'ready'>;
  readonly isReplicated: boolean;
}

export interface ObjectsPlan {
  readonly applies: readonly Apply[];
  readonly removals: readonly Removal[];
  readonly coordinatorSet?: KubeObject;
  /** As they are to be, of those that run. */
  readonly nodeSets: readonly KubeObject[];
}

export function planObjects(input: ObjectsInput): ObjectsPlan {
  const { picture, shape, nodes, volumes, restore, isReplicated } = input;
  const coordinatorSet = coordinatorSetOf(input);
  const nodeSets = nodes.nodes.flatMap((node) => nodeSetOf(input, node));
  const exposed = shape.exposure.type === 'ClusterIP' ? [] : nodes.nodes;
  const services = [
    serviceOf(input, 'coordinator', (nodePort) => coordinatorService(shape, nodePort)),
    { resource: RESOURCES.services, object: nodesService(shape) },
    ...exposed.map(({ name: node, pool }) =>
      serviceOf(input, node, (nodePort) => nodeService(shape, { pool, node, nodePort })),
    ),
  ];
  const running = nodes.nodes.filter(({ runs }) => runs).length;
  const budgets = running === 0 ? [] : [nodesDisruptionBudget(shape, { nodes: running, isReplicated })];
  const policies = shape.networkPolicies ? networkPolicies(shape) : [];
  const rests = volumes.coordinator.state !== 'fine';
  const cronJobs = shape.backup === undefined ? [] : [backupCronJob(shape, shape.backup, { rests })];
  const { objects } = picture;
  return {
    applies: [
      ...applies(RESOURCES.serviceAccounts, [serviceAccount(shape)]),
      ...applies(RESOURCES.networkPolicies, policies),
      ...services,
      ...applies(RESOURCES.disruptionBudgets, budgets),
      ...applies(RESOURCES.statefulSets, [...(coordinatorSet === undefined ? [] : [coordinatorSet]), ...nodeSets]),
      ...applies(RESOURCES.cronJobs, cronJobs),
      ...restore.applies,
    ],
    removals: [
      ...unwanted(
        RESOURCES.services,
        objects.services,
        services.map(({ object }) => object),
      ),
      ...unwanted(RESOURCES.disruptionBudgets, objects.disruptionBudgets, budgets),
      ...unwanted(RESOURCES.networkPolicies, objects.networkPolicies, policies),
      ...unwanted(RESOURCES.cronJobs, objects.cronJobs, cronJobs),
      ...restore.removals,
    ],
    ...(coordinatorSet === undefined ? {} : { coordinatorSet }),
    nodeSets,
  };
}

/** Components whose pods end by themselves. */
const RUN_ONCE: ReadonlySet<string> = new Set(['backup', 'restore']);

/** Pods whose annotation names another bundle: kubelet looks at the volumes of a pod that changes at once (T6). */
export function podsToTouch({ objects }: MemberPicture, trustBundleHash: string | undefined): KubeObject[] {
  if (trustBundleHash === undefined) return [];
  return [...objects.pods.values()].filter(
    (pod) =>
      !isDeleting(pod) &&
      !RUN_ONCE.has(labelOf(pod, 'app.kubernetes.io/component') ?? '') &&
      annotationOf(pod, ANNOTATIONS.trustBundleHash) !== trustBundleHash,
  );
}

/**
 * One that is deleted comes back under the port that it had, or people outside would have lost their way in; if somebody else has
 * that port by then, any is better than none. One that is there keeps the port that it has, also one that a person gave it.
 */
function serviceOf(
  { picture: { member, objects }, shape }: ObjectsInput,
  part: string,
  build: (nodePort?: number) => KubeObject,
): Apply {
  const object = build();
  const service = objects.services.get(object.metadata.name);
  const nodePort =
    shape.exposure.type === 'NodePort' ? nodePortOf({ part, service, before: member.status }) : undefined;
  return {
    resource: RESOURCES.services,
    object,
    // Whether it is there is seen when it is applied: it may go while its coordinator is asked.
    ...(nodePort === undefined ? {} : { atFirst: build(nodePort) }),
  };
}

function coordinatorSetOf({ picture, shape, volumes, certificates }: ObjectsInput): KubeObject | undefined {
  const names = namesOf(shape.member);
  const isThere = picture.objects.statefulSets.has(names.coordinator);
  if (!isThere && (volumes.coordinator.state !== 'fine' || !certificates.ready.has(names.coordinatorTls)))
    return undefined;
  return coordinatorStatefulSet(shape, {
    expectsData: volumes.expectsData,
    isHeld: volumes.coordinator.state === 'restoring',
  });
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
  const external = externalAddress(shape, {
    part: node.name,
    service: picture.objects.services.get(name),
    before: picture.member.status,
  });
  // A port of the cluster is there with the Service, a balancer's address perhaps never: that is not waited for.
  if (!isThere && external.state === 'awaited' && shape.exposure.type === 'NodePort') return [];
  return [
    nodeStatefulSet(shape, {
      pool,
      node: node.name,
      capacityBytes,
      ...(external.state === 'known' ? { externalAddress: formatHostPort(external) } : {}),
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
