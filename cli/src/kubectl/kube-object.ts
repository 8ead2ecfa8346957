/** Objects of Kubernetes as they come over the wire, and the kinds that the plugin asks for. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly managedFields?: unknown;
}

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly [field: string]: unknown;
}

export interface Resource {
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
}

const OURS = 'collective.storage/v1alpha1';
const CERT_MANAGER = 'cert-manager.io/v1';

export const RESOURCES = {
  collectives: { apiVersion: OURS, kind: 'Collective', plural: 'collectives' },
  members: { apiVersion: OURS, kind: 'Member', plural: 'members' },
  statefulSets: { apiVersion: 'apps/v1', kind: 'StatefulSet', plural: 'statefulsets' },
  pods: { apiVersion: 'v1', kind: 'Pod', plural: 'pods' },
  volumeClaims: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', plural: 'persistentvolumeclaims' },
  services: { apiVersion: 'v1', kind: 'Service', plural: 'services' },
  configMaps: { apiVersion: 'v1', kind: 'ConfigMap', plural: 'configmaps' },
  secrets: { apiVersion: 'v1', kind: 'Secret', plural: 'secrets' },
  events: { apiVersion: 'v1', kind: 'Event', plural: 'events' },
  disruptionBudgets: { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', plural: 'poddisruptionbudgets' },
  networkPolicies: { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', plural: 'networkpolicies' },
  cronJobs: { apiVersion: 'batch/v1', kind: 'CronJob', plural: 'cronjobs' },
  jobs: { apiVersion: 'batch/v1', kind: 'Job', plural: 'jobs' },
  certificates: { apiVersion: CERT_MANAGER, kind: 'Certificate', plural: 'certificates' },
  certificateRequests: { apiVersion: CERT_MANAGER, kind: 'CertificateRequest', plural: 'certificaterequests' },
  issuers: { apiVersion: CERT_MANAGER, kind: 'Issuer', plural: 'issuers' },
} as const satisfies Record<string, Resource>;
