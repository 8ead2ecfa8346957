/**
 * One budget over all nodes of a member (K2): an integer, since `maxUnavailable` does not count a StatefulSet whose pod is
 * missing. While chunks lack replicas no ready node may be evicted; one that is not ready always may.
 */
import type { IPodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import type { KubeObject } from '../../kube/kube-object.ts';
import { labelsOf, namesOf, selectorOf } from '../names.ts';
import type { MemberShape } from '../shape.ts';
import { raw } from './raw.ts';

export function nodesDisruptionBudget(
  { namespace, member, collective, owner }: MemberShape,
  { nodes, isReplicated }: { readonly nodes: number; readonly isReplicated: boolean },
): KubeObject {
  return raw({
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: {
      name: namesOf(member).nodes,
      namespace,
      labels: labelsOf({ member, collective, component: 'node' }),
      ownerReferences: [{ ...owner }],
    },
    spec: {
      minAvailable: isReplicated ? Math.max(0, nodes - 1) : nodes,
      selector: { matchLabels: selectorOf({ member, component: 'node' }) },
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
    },
  } satisfies IPodDisruptionBudget);
}
