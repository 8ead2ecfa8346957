/**
 * `spec.monitoring`: one PodMonitor for coordinators and nodes of all members of a Collective, in its namespace, so that whoever
 * has a Prometheus of their own needs no values of the chart. Series carry the member and the node as labels.
 */
import type { Collective } from '../api/collective.ts';
import { LABELS } from '../api/group.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import { labelValue, MANAGED_BY } from '../member/names.ts';

/** Undefined when it is not asked for; what an earlier one made is then to be removed. */
export function podMonitor({ apiVersion, kind, metadata, spec }: Collective): KubeObject | undefined {
  const { enabled = false, interval, labels = {} } = spec.monitoring ?? {};
  if (!enabled) return undefined;
  const { name, namespace, uid = '' } = metadata;
  const collective = labelValue(name);
  return {
    apiVersion: RESOURCES.podMonitors.apiVersion,
    kind: RESOURCES.podMonitors.kind,
    metadata: {
      name,
      namespace,
      labels: {
        ...labels,
        'app.kubernetes.io/name': 'collective',
        'app.kubernetes.io/part-of': collective,
        'app.kubernetes.io/managed-by': MANAGED_BY,
        [LABELS.collective]: collective,
      },
      ownerReferences: [{ apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true }],
    },
    spec: {
      selector: { matchLabels: { [LABELS.collective]: collective, 'app.kubernetes.io/managed-by': MANAGED_BY } },
      podTargetLabels: [LABELS.member, LABELS.node, 'app.kubernetes.io/component'],
      podMetricsEndpoints: [{ port: 'health', path: '/metrics', ...(interval === undefined ? {} : { interval }) }],
    },
  };
}
