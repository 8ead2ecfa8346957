/**
 * The Services of a member: one for its coordinator, a headless one that gives every node's pod a name of its own, and, when
 * it is exposed, one for each node, because bytes come from the node that has them (D10). Which port of the machines a Service has
 * is the apiserver's choice, but for one that comes back (`nodePort`).
 */
import type { IService } from 'kubernetes-models/v1/Service';
import type { KubeObject } from '../../kube/kube-object.ts';
import { labelsOf, namesOf, PORTS, selectorOf } from '../names.ts';
import type { MemberShape } from '../shape.ts';
import { raw } from './raw.ts';

export function coordinatorService(shape: MemberShape, nodePort?: number): KubeObject {
  const { namespace, member, collective, owner, exposure } = shape;
  return raw({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: namesOf(member).coordinator,
      namespace,
      labels: labelsOf({ member, collective, component: 'coordinator' }),
      annotations: exposedAnnotations(shape),
      ownerReferences: [{ ...owner }],
    },
    spec: {
      type: exposure.type,
      selector: selectorOf({ member, component: 'coordinator' }),
      ports: [{ name: 'grpc', port: PORTS.grpc, targetPort: 'grpc', protocol: 'TCP', nodePort }],
    },
  } satisfies IService);
}

/** Also for nodes that are not ready: without their coordinator they go on to serve what they have. */
export function nodesService({ namespace, member, collective, owner }: MemberShape): KubeObject {
  return raw({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: namesOf(member).nodes,
      namespace,
      labels: labelsOf({ member, collective, component: 'node' }),
      ownerReferences: [{ ...owner }],
    },
    spec: {
      type: 'ClusterIP',
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: selectorOf({ member, component: 'node' }),
      ports: [{ name: 'bulk', port: PORTS.bulk, targetPort: 'bulk', protocol: 'TCP' }],
    },
  } satisfies IService);
}

export interface NodeServiceOptions {
  readonly pool: string;
  readonly node: string;
  readonly nodePort?: number;
}

export function nodeService(shape: MemberShape, { pool, node, nodePort }: NodeServiceOptions): KubeObject {
  const { namespace, member, collective, owner, exposure } = shape;
  return raw({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: namesOf(member).node(node),
      namespace,
      labels: labelsOf({ member, collective, component: 'node', node, pool }),
      annotations: exposedAnnotations(shape),
      ownerReferences: [{ ...owner }],
    },
    spec: {
      type: exposure.type,
      publishNotReadyAddresses: true,
      selector: selectorOf({ member, component: 'node', node }),
      ports: [{ name: 'bulk', port: PORTS.bulk, targetPort: 'bulk', protocol: 'TCP', nodePort }],
    },
  } satisfies IService);
}

function exposedAnnotations({ exposure }: MemberShape): Record<string, string> | undefined {
  return exposure.type === 'ClusterIP' || exposure.annotations === undefined ? undefined : { ...exposure.annotations };
}
