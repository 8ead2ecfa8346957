/** The kinds that the operator reads or writes. */
import { API_VERSION } from '../api/group.ts';
import type { ResourceKind } from './kube-object.ts';

const CERT_MANAGER = 'cert-manager.io/v1';

export const RESOURCES = {
  collectives: resource(API_VERSION, 'Collective', 'collectives'),
  members: resource(API_VERSION, 'Member', 'members'),
  certificates: resource(CERT_MANAGER, 'Certificate', 'certificates'),
  certificateRequests: resource(CERT_MANAGER, 'CertificateRequest', 'certificaterequests'),
  issuers: resource(CERT_MANAGER, 'Issuer', 'issuers'),
  secrets: resource('v1', 'Secret', 'secrets'),
  configMaps: resource('v1', 'ConfigMap', 'configmaps'),
  services: resource('v1', 'Service', 'services'),
  serviceAccounts: resource('v1', 'ServiceAccount', 'serviceaccounts'),
  pods: resource('v1', 'Pod', 'pods'),
  volumeClaims: resource('v1', 'PersistentVolumeClaim', 'persistentvolumeclaims'),
  events: resource('events.k8s.io/v1', 'Event', 'events'),
  statefulSets: resource('apps/v1', 'StatefulSet', 'statefulsets'),
  disruptionBudgets: resource('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets'),
  networkPolicies: resource('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies'),
  cronJobs: resource('batch/v1', 'CronJob', 'cronjobs'),
  jobs: resource('batch/v1', 'Job', 'jobs'),
  /** Of the Prometheus operator: there is no such kind in many clusters, so it is never watched. */
  podMonitors: resource('monitoring.coreos.com/v1', 'PodMonitor', 'podmonitors'),
  leases: resource('coordination.k8s.io/v1', 'Lease', 'leases'),
  /** Asked one by one: a Role within a namespace gives the right to get that very one. */
  namespaces: { ...resource('v1', 'Namespace', 'namespaces'), namespaced: false },
} as const satisfies Record<string, ResourceKind>;

function resource(apiVersion: string, kind: string, plural: string): ResourceKind {
  return { apiVersion, kind, plural, namespaced: true };
}
