/** The two kinds as CustomResourceDefinitions: one version, its schema, what kubectl prints (K1). */
import { COLLECTIVE_RULES, collectiveSpecSchema, collectiveStatusSchema } from './collective.ts';
import { API_GROUP } from './group.ts';
import { MEMBER_RULES, memberSpecSchema } from './member.ts';
import { memberStatusSchema } from './member-status.ts';
import type { JsonSchema, Rule, Schema } from './schema.ts';

/** In the words of apiextensions.k8s.io/v1. */
export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date' | 'boolean';
  readonly description: string;
  readonly jsonPath: string;
  /** 1: with `-o wide` only. */
  readonly priority?: 1;
}

export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1';
  readonly kind: 'CustomResourceDefinition';
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly group: string;
    readonly names: { readonly kind: string; readonly [name: string]: unknown };
    readonly scope: 'Namespaced';
    readonly versions: readonly [
      {
        readonly name: string;
        readonly served: true;
        readonly storage: true;
        readonly subresources: { readonly status: object };
        readonly additionalPrinterColumns: readonly PrinterColumn[];
        readonly schema: { readonly openAPIV3Schema: JsonSchema };
      },
    ];
  };
}

interface Kind {
  readonly kind: string;
  readonly plural: string;
  readonly shortName: string;
  readonly description: string;
  readonly spec: Schema<unknown>;
  readonly status: Schema<unknown>;
  readonly rules: readonly Rule[];
  readonly columns: readonly PrinterColumn[];
}

const READY: PrinterColumn = {
  name: 'Ready',
  type: 'string',
  description: 'Whether it is as it should be.',
  jsonPath: '.status.conditions[?(@.type=="Ready")].status',
};
const REASON: PrinterColumn = {
  name: 'Reason',
  type: 'string',
  description: 'Why it is ready or not.',
  jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
  priority: 1,
};
const USED: PrinterColumn = {
  name: 'Used',
  type: 'string',
  description: 'What lies on the nodes.',
  jsonPath: '.status.used',
};
const CAPACITY: PrinterColumn = {
  name: 'Capacity',
  type: 'string',
  description: 'What the nodes can hold.',
  jsonPath: '.status.capacity',
};
const AGE: PrinterColumn = {
  name: 'Age',
  type: 'date',
  description: 'How long ago it was made.',
  jsonPath: '.metadata.creationTimestamp',
};

const KINDS: readonly Kind[] = [
  {
    kind: 'Collective',
    plural: 'collectives',
    shortName: 'col',
    description: 'A group of members in one namespace: the domain of their names, and what they begin with.',
    spec: collectiveSpecSchema,
    status: collectiveStatusSchema,
    rules: COLLECTIVE_RULES,
    columns: [
      READY,
      {
        name: 'Members',
        type: 'string',
        description: 'Members that are ready, of all.',
        jsonPath: '.status.membersReady',
      },
      USED,
      CAPACITY,
      { name: 'Domain', type: 'string', description: 'Suffix of the trust domains.', jsonPath: '.spec.domain' },
      REASON,
      AGE,
    ],
  },
  {
    kind: 'Member',
    plural: 'members',
    shortName: 'mem',
    description:
      'A trust domain of its own: an authority, a coordinator that knows the names, nodes that hold the bytes, and users. Or a member that lives elsewhere.',
    spec: memberSpecSchema,
    status: memberStatusSchema,
    rules: MEMBER_RULES,
    columns: [
      READY,
      { name: 'Nodes', type: 'string', description: 'Nodes that are ready, of all.', jsonPath: '.status.nodesReady' },
      USED,
      CAPACITY,
      {
        name: 'Certs',
        type: 'string',
        description: 'Whether certificates are well, or what is next.',
        jsonPath: '.status.certificatesSummary',
      },
      { name: 'Version', type: 'string', description: 'Version of the coordinator.', jsonPath: '.status.version' },
      REASON,
      {
        name: 'Collective',
        type: 'string',
        description: 'The Collective that it is part of.',
        jsonPath: '.spec.collectiveRef.name',
        priority: 1,
      },
      {
        name: 'Trust-Domain',
        type: 'string',
        description: 'Its trust domain.',
        jsonPath: '.status.trustDomain',
        priority: 1,
      },
      {
        name: 'CA',
        type: 'integer',
        description: 'Generation of its authority.',
        jsonPath: '.status.ca.generation',
        priority: 1,
      },
      {
        name: 'Endpoint',
        type: 'string',
        description: 'Where people outside the cluster reach it.',
        jsonPath: '.status.endpoints.external',
        priority: 1,
      },
      AGE,
    ],
  },
];

export function customResourceDefinitions(): readonly CustomResourceDefinition[] {
  return KINDS.map(definitionOf);
}

function definitionOf({
  kind,
  plural,
  shortName,
  description,
  spec,
  status,
  rules,
  columns,
}: Kind): CustomResourceDefinition {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${API_GROUP}` },
    spec: {
      group: API_GROUP,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames: [shortName],
        // Not "collective": kubectl takes a category before a kind of that name, and `kubectl delete collective NAME` would be refused.
        categories: ['collective-storage'],
      },
      scope: 'Namespaced',
      versions: [
        {
          name: 'v1alpha1',
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: columns,
          schema: { openAPIV3Schema: rootSchema(description, spec, status, rules) },
        },
      ],
    },
  };
}

function rootSchema(
  description: string,
  spec: Schema<unknown>,
  status: Schema<unknown>,
  rules: readonly Rule[],
): JsonSchema {
  return {
    type: 'object',
    description,
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string', description: 'Version of the API.' },
      kind: { type: 'string', description: 'Kind of the object.' },
      // The name stands here so that a rule may point at it.
      metadata: { type: 'object', properties: { name: { type: 'string' } } },
      spec: spec.json,
      status: status.json,
    },
    'x-kubernetes-validations': rules,
  };
}
