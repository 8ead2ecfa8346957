/**
 * Who may speak to whom. Every port of ours asks for a certificate (T3), so anybody may knock at coordinator and nodes; but
 * what they themselves dial is named: nodes their coordinator and each other, the coordinator nobody.
 */
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import type { KubeObject } from '../../kube/kube-object.ts';
import { type Component, labelsOf, namesOf, PORTS, selectorOf } from '../names.ts';
import type { MemberShape } from '../shape.ts';
import { raw } from './raw.ts';

type Spec = NonNullable<INetworkPolicy['spec']>;
type Egress = NonNullable<Spec['egress']>;

const NAMES: Egress = [
  {
    ports: [
      { protocol: 'UDP', port: 53 },
      { protocol: 'TCP', port: 53 },
    ],
  },
];

export function networkPolicies(shape: MemberShape): KubeObject[] {
  const { member } = shape;
  const names = namesOf(member);
  const to = (component: Component, port: number): Egress[number] => ({
    to: [{ podSelector: { matchLabels: selectorOf({ member, component }) } }],
    ports: [{ protocol: 'TCP', port }],
  });
  const coordinator = to('coordinator', PORTS.grpc);
  return [
    policy(shape, names.coordinator, 'coordinator', [PORTS.grpc, PORTS.coordinatorHealth], NAMES),
    policy(shape, names.nodes, 'node', [PORTS.bulk, PORTS.nodeHealth], [...NAMES, coordinator, to('node', PORTS.bulk)]),
    ...(shape.backup === undefined ? [] : [policy(shape, names.backup, 'backup', [], [...NAMES, coordinator])]),
  ];
}

function policy(
  { namespace, member, collective, owner }: MemberShape,
  name: string,
  component: Component,
  open: readonly number[],
  egress: Egress,
): KubeObject {
  return raw({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: {
      name,
      namespace,
      labels: labelsOf({ member, collective, component }),
      ownerReferences: [{ ...owner }],
    },
    spec: {
      podSelector: { matchLabels: selectorOf({ member, component }) },
      policyTypes: ['Ingress', 'Egress'],
      ingress: open.length === 0 ? [] : [{ ports: open.map((port) => ({ protocol: 'TCP', port })) }],
      egress,
    },
  } satisfies INetworkPolicy);
}
