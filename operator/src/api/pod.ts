/** The parts of a pod's template that users may say, in the words of Kubernetes. */
import { labelValue, looseQuantity, objectName } from './scalars.ts';
import {
  atomicList,
  integer,
  listMap,
  mapOf,
  object,
  oneOf,
  opaque,
  optional,
  string,
  type ValueOf,
} from './schema.ts';

const LABEL_KEY_MAX = 317;
/** Bounds that nobody reaches: they are for the cost of rules, and against nonsense. */
const LABELS_MAX = 64;

const labelKey = (description: string) => string(description, { minLength: 1, maxLength: LABEL_KEY_MAX });
const labels = (description: string) =>
  mapOf(description, labelValue('Value of the label.'), { maxProperties: LABELS_MAX });
const quantities = (description: string) =>
  mapOf(description, looseQuantity('How much, for example 500m or 2Gi.'), { maxProperties: 16 });

export const resourceRequirementsSchema = object('Processor and memory, as in a container.', {
  requests: optional(quantities('What is set aside.')),
  limits: optional(quantities('What is not exceeded.')),
});
export type ResourceRequirements = ValueOf<typeof resourceRequirementsSchema>;

export const labelSelectorSchema = object(
  'A selector of labels, as everywhere in Kubernetes.',
  {
    matchLabels: optional(labels('Labels that are there with just these values.')),
    matchExpressions: optional(
      atomicList(
        'All of these hold.',
        object('What holds for one label.', {
          key: labelKey('The label.'),
          operator: oneOf('How it is compared.', ['In', 'NotIn', 'Exists', 'DoesNotExist']),
          values: optional(atomicList('For In and NotIn.', labelValue('One value.'), { maxItems: LABELS_MAX })),
        }),
        { maxItems: 16 },
      ),
    ),
  },
  { isAtomic: true },
);
export type LabelSelector = ValueOf<typeof labelSelectorSchema>;

/** Passed on to the pod as it is; the apiserver checks it there. */
const affinitySchema = opaque('Affinity of the pod; passed on as it is, checked when the pod is made.');
export type Affinity = ValueOf<typeof affinitySchema>;

const tolerationSchema = object('A taint that is borne, as in a pod.', {
  key: optional(string('Of the taint; absent: of every one.', { maxLength: LABEL_KEY_MAX })),
  operator: optional(oneOf('How the value is compared.', ['Exists', 'Equal'])),
  value: optional(labelValue('Of the taint.')),
  effect: optional(oneOf('Absent: every effect.', ['NoSchedule', 'PreferNoSchedule', 'NoExecute'])),
  tolerationSeconds: optional(integer('How long NoExecute is borne; absent: for ever.', { minimum: 0 })),
});
export type Toleration = ValueOf<typeof tolerationSchema>;

export const topologySpreadSchema = object('How evenly the nodes of a pool lie over machines or zones.', {
  topologyKey: labelKey("Label of the cluster's nodes, for example topology.kubernetes.io/zone."),
  maxSkew: optional(integer('How uneven it may be. Absent: 1.', { minimum: 1, maximum: 64 })),
  whenUnsatisfiable: optional(
    oneOf('What if it cannot be. Absent: ScheduleAnyway.', ['DoNotSchedule', 'ScheduleAnyway']),
  ),
});
export type TopologySpread = ValueOf<typeof topologySpreadSchema>;

/** Where pods run. */
export const schedulingFields = {
  affinity: optional(affinitySchema),
  tolerations: optional(atomicList('Taints that are borne.', tolerationSchema, { maxItems: 16 })),
  nodeSelector: optional(labels("Labels that the cluster's node must have.")),
} as const;

export const topologySpreadsSchema = listMap(
  'How evenly the nodes of this pool lie over machines or zones. Absent: over machines, where it can be.',
  topologySpreadSchema,
  { key: 'topologyKey', maxItems: 8 },
);

export const storageClassSchema = objectName("A StorageClass. Absent: the cluster's default.");
