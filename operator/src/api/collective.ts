/** `Collective`: the group of members in one namespace, its domain and what its members begin with (K1). */
import { REPLICAS_MAX } from '@collective/base/limits';
import type { ObjectMeta } from '../kube/kube-object.ts';
import { conditionsSchema, observedGenerationSchema } from './condition.ts';
import { DEFAULTS } from './defaults.ts';
import { labelSelectorSchema, resourceRequirementsSchema, schedulingFields, storageClassSchema } from './pod.ts';
import { domain, duration, image, labelValue, objectName, quantity, reportedQuantity } from './scalars.ts';
import { boolean, integer, mapOf, object, oneOf, optional, type Rule, setOf, string, type ValueOf } from './schema.ts';

export const imageSchema = image(
  'Image of coordinator and nodes, with a tag other than latest or a digest. Absent: the image of the operator.',
);

export const replicationSchema = object(
  'On how many nodes each block of a file lies, and on how few a write may be acknowledged. A setting of the root realm, written when the member begins; later `collective realm set` changes it.',
  {
    replicas: optional(
      integer(`On how many nodes each block lies. Absent: ${DEFAULTS.replicas}.`, {
        minimum: 1,
        maximum: REPLICAS_MAX,
      }),
    ),
    minReplicas: optional(
      integer(
        `On how many nodes it lies at least before a write is acknowledged, when there are too few nodes. Absent: ${DEFAULTS.minReplicas}.`,
        { minimum: 1, maximum: REPLICAS_MAX },
      ),
    ),
  },
  {
    rules: [
      {
        rule: `(has(self.minReplicas) ? self.minReplicas : ${DEFAULTS.minReplicas}) <= (has(self.replicas) ? self.replicas : ${DEFAULTS.replicas})`,
        message: `must not be more than replicas (${DEFAULTS.replicas} unless said)`,
        reason: 'FieldValueInvalid',
        fieldPath: '.minReplicas',
      },
    ],
  },
);

const defaultsSchema = object('What a Member uses where it says nothing itself.', {
  image: optional(imageSchema),
  imagePullPolicy: optional(
    oneOf('When the image is pulled. Absent: IfNotPresent.', ['IfNotPresent', 'Always', 'Never']),
  ),
  imagePullSecrets: optional(
    setOf('Secrets with which the image is pulled.', string('Name of a Secret.', { minLength: 1, maxLength: 253 }), {
      maxItems: 8,
    }),
  ),
  storageClass: optional(storageClassSchema),
  resources: optional(resourceRequirementsSchema),
  ...schedulingFields,
  priorityClassName: optional(objectName('PriorityClass of the pods.')),
  replication: optional(replicationSchema),
  compression: optional(
    oneOf(
      'Whether what pays is compressed. A setting of the root realm, written when the member begins. Absent: Enabled.',
      [
        // Not On and Off: without quotes these are truth values to kubectl and Helm.
        'Enabled',
        'Disabled',
      ],
    ),
  ),
  quotas: optional(
    object('What a member may store. A setting of the root realm, written when the member begins. Absent: no limit.', {
      bytes: optional(quantity('How much, before replication.')),
      inodes: optional(integer('How many files and directories.', { minimum: 1 })),
    }),
  ),
});
/** What a Member uses where it says nothing itself. */
export type CollectiveDefaults = ValueOf<typeof defaultsSchema>;

export const collectiveSpecSchema = object('What the members have in common.', {
  domain: domain(
    'Suffix of the trust domains of the members: the trust domain of Member alice is alice.<domain>. It is a name in certificates and need not be in DNS. It never changes.',
    63,
    [
      {
        rule: 'self == oldSelf',
        message: 'never changes: it is part of every certificate of every member',
        reason: 'FieldValueForbidden',
      },
    ],
  ),
  defaults: optional(defaultsSchema),
  memberSelector: optional(labelSelectorSchema),
  monitoring: optional(
    object('Whether Prometheus is told to look at the pods of the members, by a PodMonitor of the same name.', {
      enabled: optional(boolean('Absent: no. It needs the Prometheus operator.')),
      interval: optional(duration('How often. Absent: what Prometheus has as its own.', { atLeast: '1s' })),
      labels: optional(
        mapOf('Labels of the PodMonitor, by which your Prometheus finds it.', labelValue('Value of the label.'), {
          maxProperties: 32,
        }),
      ),
    }),
  ),
});
export type CollectiveSpec = ValueOf<typeof collectiveSpecSchema>;

export const collectiveStatusSchema = object('How the members are, as the operator saw it last.', {
  observedGeneration: optional(observedGenerationSchema),
  members: optional(
    object('How many Members name this Collective and are let in.', {
      ready: integer('Those that are Ready.', { minimum: 0 }),
      total: integer('All.', { minimum: 0 }),
    }),
  ),
  membersReady: optional(string('The same as ready/total.', { maxLength: 32 })),
  capacity: optional(reportedQuantity('Of all nodes of all members.')),
  used: optional(reportedQuantity('On all nodes of all members.')),
  conditions: optional(conditionsSchema),
});
export type CollectiveStatus = ValueOf<typeof collectiveStatusSchema>;

export const COLLECTIVE_RULES: readonly Rule[] = [
  {
    rule: 'self.metadata.name.size() <= 63 && self.metadata.name.matches("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")',
    message: 'must be a DNS label of at most 63 characters: it is the value of a label',
    reason: 'FieldValueInvalid',
    fieldPath: '.metadata.name',
  },
];

export interface Collective {
  readonly apiVersion: string;
  readonly kind: 'Collective';
  readonly metadata: ObjectMeta;
  readonly spec: CollectiveSpec;
  readonly status?: CollectiveStatus;
}
