/**
 * `Member`: a trust domain with its authority, coordinator and nodes (K1, T1), or one that lives elsewhere (`external`). Its
 * trust domain is `<metadata.name>.<Collective.spec.domain>`; so its name is a DNS label of at most 24 characters.
 *
 * Objects of a member are named `<member>-<what>`. Rules keep what users choose from meeting what others are called: a pool's
 * name has no "-" (else pool b-c of a and pool c of a-b would both be a-b-c), a user's does not end as those of servers and authorities do.
 */
import type { ObjectMeta } from '../kube/kube-object.ts';
import { imageSchema, replicationSchema } from './collective.ts';
import { CRON } from './cron.ts';
import { DEFAULTS } from './defaults.ts';
import type { MemberStatus } from './member-status.ts';
import { resourceRequirementsSchema, schedulingFields, storageClassSchema, topologySpreadsSchema } from './pod.ts';
import { GROWS, shorterThanAuthority, volumeRules } from './rules.ts';
import { duration, host, labelValue, objectName, quantity } from './scalars.ts';
import {
  boolean,
  described,
  integer,
  listMap,
  mapOf,
  object,
  oneOf,
  optional,
  type Rule,
  string,
  type ValueOf,
} from './schema.ts';

export type {
  CaGeneration,
  CaState,
  CertificateSeen,
  CoordinatorState,
  MemberStatus,
  NodeStateSeen,
} from './member-status.ts';

const NODE_POOLS_MAX = 16;
const POOL_REPLICAS_MAX = 64;
const USERS_MAX = 256;
const REALMS_MAX = 32;

const volumeSchema = (description: string, defaultSize: string) =>
  object(description, {
    size: optional(quantity(`Size of the volume; only grows. Absent: ${defaultSize}.`)),
    storageClass: optional(
      described(
        storageClassSchema,
        "StorageClass; never changes. Absent: the Collective's, then the cluster's default.",
      ),
    ),
  });

const coordinatorSchema = object('The coordinator: names, rights, and where every block lies.', {
  storage: optional(volumeSchema('The volume of the metadata, some 500 bytes a file.', DEFAULTS.coordinatorStorage)),
  log: optional(oneOf('Where the log of changes is kept: in a file on the volume. "etcd" is reserved.', ['file'])),
  resources: optional(resourceRequirementsSchema),
  ...schedulingFields,
});
export type CoordinatorSpec = ValueOf<typeof coordinatorSchema>;

const nodePoolSchema = object(
  'Storage nodes that are alike. Each is a StatefulSet of one pod with a volume of its own, so any of them can be drained and go (K2).',
  {
    name: string('Name of the pool; its nodes are NAME-0, NAME-1 and so on. Another name is another pool.', {
      minLength: 1,
      maxLength: 15,
      rules: [
        {
          rule: 'self.matches("^[a-z][a-z0-9]*$")',
          message: 'must be at most 15 letters a-z and digits, a letter first, without "-"',
          reason: 'FieldValueInvalid',
        },
      ],
    }),
    replicas: integer(
      'Number of nodes. With fewer, those named in the annotation collective.storage/drain-nodes go, then the highest; each goes only when it is empty.',
      { minimum: 0, maximum: POOL_REPLICAS_MAX },
    ),
    capacity: quantity('Size of the volume of each node; only grows. A share of it is for the file system.', [GROWS]),
    storageClass: optional(
      described(
        storageClassSchema,
        "StorageClass of the volumes; never changes. Absent: the Collective's, then the cluster's default.",
      ),
    ),
    zone: optional(
      labelValue(
        'The zone in which all nodes of this pool lie: replicas of a block are spread over zones. Absent: each machine is one.',
      ),
    ),
    topologySpread: optional(topologySpreadsSchema),
    resources: optional(resourceRequirementsSchema),
    ...schedulingFields,
  },
  {
    rules: [
      {
        rule: 'has(self.storageClass) ? (has(oldSelf.storageClass) && self.storageClass == oldSelf.storageClass) : !has(oldSelf.storageClass)',
        message: 'never changes: make another pool, then take the nodes of this one away',
        reason: 'FieldValueForbidden',
        fieldPath: '.storageClass',
      },
    ],
  },
);
export type NodePool = ValueOf<typeof nodePoolSchema>;

const caSchema = object(
  'How long certificates last and when the authority is followed by the next. Durations are hours, minutes and seconds, such as 720h.',
  {
    duration: optional(
      duration(`Life of a generation of the authority. Absent: ${DEFAULTS.caDuration}.`, { atLeast: '1h' }),
    ),
    leafDuration: optional(
      duration(
        `Life of a certificate of a coordinator, node or user; it is renewed after two thirds. Absent: ${DEFAULTS.leafDuration}.`,
        { atLeast: '1h' },
      ),
    ),
    overlap: optional(
      duration(
        `How long the old authority is trusted at most when the new one has signed everything. Absent: ${DEFAULTS.caOverlap}.`,
        { atLeast: '1m' },
      ),
    ),
    rotateAfter: optional(
      duration('Age at which a generation is followed by the next. Absent: two thirds of duration.', { atLeast: '1h' }),
    ),
  },
  {
    rules: [
      shorterThanAuthority('leafDuration', DEFAULTS.leafDuration),
      shorterThanAuthority('overlap', DEFAULTS.caOverlap),
      shorterThanAuthority('rotateAfter', undefined),
    ],
  },
);
/** Durations as Go writes them ("8760h"). */
export type CaSpec = ValueOf<typeof caSchema>;

const exposureSchema = object('How clients outside the cluster reach the coordinator and every node (D10).', {
  type: optional(
    oneOf(
      'Kind of the Services, one for the coordinator and one for each node. ClusterIP: reached from inside only.',
      ['ClusterIP', 'NodePort', 'LoadBalancer'],
      { default: 'ClusterIP' },
    ),
  ),
  advertised: optional(
    object('What clients outside dial for all of them.', {
      host: optional(
        host(
          "Host; the port is the Service's. Absent: what the load balancer reports, or for NodePort the machine on which each pod runs.",
        ),
      ),
    }),
  ),
  addresses: optional(
    listMap(
      'Addresses for some of them, where one host for all is not enough.',
      object('The address of one.', {
        name: string('"coordinator", or the name of a node such as disks-0.', {
          minLength: 1,
          maxLength: 24,
          pattern: '^(coordinator|[a-z][a-z0-9]*-[0-9]+)$',
        }),
        host: host('What clients dial.'),
        port: optional(integer("Absent: the Service's.", { minimum: 1, maximum: 65_535 })),
      }),
      { key: 'name', maxItems: NODE_POOLS_MAX * POOL_REPLICAS_MAX + 1 },
    ),
  ),
  annotations: optional(
    mapOf('Annotations of the Services, for example for the load balancer.', string('Value.', { maxLength: 4096 }), {
      maxProperties: 32,
    }),
  ),
});
export type Exposure = ValueOf<typeof exposureSchema>;

/** Ends of the names of Secrets that hold servers' and authorities' keys. */
const RESERVED_ENDS = '-(tls|ca-g[0-9]+)$';

const userSchema = object(
  'A person or program with a client certificate in a Secret (T3a).',
  {
    name: string('Name in the certificate: spiffe://<member>.<domain>/user/<name>.', {
      minLength: 1,
      maxLength: 40,
      rules: [
        {
          rule: `self.matches("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$") && !("-" + self).matches("${RESERVED_ENDS}")`,
          message:
            'must be at most 40 of a-z, 0-9 and "-", not "-" at its ends, and must not end like a Secret of a server ("-tls", "-ca-g1")',
          reason: 'FieldValueInvalid',
        },
      ],
    }),
    secretName: optional(
      string('Secret for the certificate. Absent: <member>-user-<name>.', {
        minLength: 1,
        maxLength: 253,
        rules: [
          {
            rule: `self.matches("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$") && !self.matches("${RESERVED_ENDS}")`,
            message: 'must be the name of a Secret, and must not end like one of a server ("-tls", "-ca-g1")',
            reason: 'FieldValueInvalid',
          },
        ],
      }),
    ),
    admin: optional(boolean('Whether it may administer the member. Absent: no.')),
    realms: optional(
      listMap(
        'Directories (realms) that it may use. Absent: the root, read and write.',
        object('One realm.', {
          path: string('Path of the realm, for example /photos.', {
            minLength: 1,
            maxLength: 255,
            rules: [
              {
                rule: 'self == "/" || (self.matches("^(/[^/]+)+$") && !self.matches("/[.]{1,2}(/|$)"))',
                message: 'must be an absolute path without "." and "..", without "/" at its end',
                reason: 'FieldValueInvalid',
              },
            ],
          }),
          readOnly: optional(boolean('Absent: no.')),
        }),
        { key: 'path', minItems: 1, maxItems: REALMS_MAX },
      ),
    ),
    identity: optional(
      oneOf(
        'Squashed: whatever it does is done as one uid. Trusted: it acts with the uids of its own machine.',
        ['Trusted', 'Squashed'],
        { default: 'Squashed' },
      ),
    ),
    uid: optional(
      integer('Uid of a squashed one. Absent: one that nobody else has.', { minimum: 1, maximum: 2_147_483_646 }),
    ),
  },
  {
    rules: [
      {
        rule: '!has(self.uid) || !has(self.identity) || self.identity == "Squashed"',
        message: 'is only for identity Squashed: a trusted one acts with the uids of its own machine',
        reason: 'FieldValueForbidden',
        fieldPath: '.uid',
      },
    ],
  },
);
/** T3a: a person or program with a client certificate in a Secret. */
export type MemberUser = ValueOf<typeof userSchema>;

const backupSchema = object(
  'Saves the metadata by a schedule to a volume of its own.',
  {
    schedule: string('When, in UTC: five fields as for cron, or @hourly, @daily, @weekly, @monthly.', {
      minLength: 1,
      maxLength: 64,
      rules: [
        {
          rule: `self.matches("${CRON}")`,
          message:
            'must be a schedule of five fields (minute, hour, day, month, weekday 0-6), for example "17 3 * * *", or @daily',
          reason: 'FieldValueInvalid',
        },
      ],
    }),
    keep: optional(
      integer(`How many backups are kept. Absent: ${DEFAULTS.backupsKept}.`, { minimum: 1, maximum: 1000 }),
    ),
    storage: optional(volumeSchema('The volume of the backups. Choose one on another disk.', DEFAULTS.backupStorage)),
    suspend: optional(boolean('Whether the schedule rests. Absent: no.')),
  },
  { rules: volumeRules(['storage'], DEFAULTS.backupStorage) },
);
export type BackupSpec = ValueOf<typeof backupSchema>;

const POOL_REPLICAS = 'self.nodePools.map(pool, pool.replicas).sum()';

export const memberSpecSchema = object(
  'How the member is meant to be.',
  {
    collectiveRef: object(
      'The Collective that it is part of, in the same namespace. It never changes.',
      { name: objectName('Name of the Collective.', 63) },
      {
        rules: [
          {
            rule: 'self == oldSelf',
            message: 'never changes: the domain of the Collective is part of every certificate of the member',
            reason: 'FieldValueForbidden',
          },
        ],
      },
    ),
    image: optional(
      described(
        imageSchema,
        "Image of coordinator and nodes, with a tag other than latest or a digest. Absent: the Collective's, then the operator's.",
      ),
    ),
    replication: optional(
      described(
        replicationSchema,
        `${replicationSchema.json.description} Absent: as the Collective says; otherwise nothing of what it says of replication counts.`,
      ),
    ),
    coordinator: optional(coordinatorSchema),
    nodePools: optional(
      listMap('The storage nodes. At least one pool, unless the member is external.', nodePoolSchema, {
        key: 'name',
        minItems: 1,
        maxItems: NODE_POOLS_MAX,
      }),
    ),
    ca: optional(caSchema),
    exposure: optional(exposureSchema),
    users: optional(
      listMap('People and programs with a client certificate.', userSchema, { key: 'name', maxItems: USERS_MAX }),
    ),
    backup: optional(backupSchema),
    maintenance: optional(
      object('For hands.', {
        paused: optional(
          boolean(
            'Whether the operator leaves everything of this member as it is; its certificates are renewed all the same. Absent: no.',
          ),
        ),
      }),
    ),
    deletionPolicy: optional(
      oneOf(
        'What becomes of volumes and authority when the Member is deleted: kept, so that a Member of the same name finds them again, or deleted too.',
        ['Retain', 'Delete'],
        { default: 'Retain' },
      ),
    ),
    external: optional(
      object('A member that lives elsewhere. It has no coordinator and no nodes here.', {
        endpoint: string('Host and port of its coordinator.', {
          minLength: 3,
          maxLength: 260,
          rules: [
            {
              rule: 'self.matches("^([a-z0-9]([-a-z0-9.]*[a-z0-9])?|[[][0-9a-f:.]+[]]):[1-9][0-9]{0,4}$")',
              message: 'must be HOST:PORT, for example files.example.org:7420',
              reason: 'FieldValueInvalid',
            },
          ],
        }),
        trustBundle: string('Its authorities: certificates in PEM.', {
          minLength: 64,
          maxLength: 65_536,
          rules: [
            {
              rule: 'self.startsWith("-----BEGIN CERTIFICATE-----")',
              message: 'must be certificates in PEM',
              reason: 'FieldValueInvalid',
            },
          ],
        }),
      }),
    ),
  },
  {
    rules: [
      {
        rule: 'has(self.external) || has(self.nodePools)',
        message: 'is required, unless the member is external',
        reason: 'FieldValueRequired',
        fieldPath: '.nodePools',
      },
      {
        rule: '!has(self.external) || !(has(self.nodePools) || has(self.coordinator) || has(self.replication) || has(self.ca) || has(self.exposure) || has(self.users) || has(self.backup) || has(self.image))',
        message:
          'a member that lives elsewhere has no image, replication, coordinator, nodePools, ca, exposure, users or backup here',
        reason: 'FieldValueForbidden',
        fieldPath: '.external',
      },
      {
        rule: 'has(self.external) == has(oldSelf.external)',
        message: 'a member lives here or elsewhere for good: make another Member',
        reason: 'FieldValueForbidden',
        fieldPath: '.external',
      },
      {
        rule: `!has(self.replication) || !has(self.replication.replicas) || !has(self.nodePools) || ${POOL_REPLICAS} >= self.replication.replicas`,
        message: 'the pools together must have at least as many nodes as replication.replicas',
        reason: 'FieldValueInvalid',
        fieldPath: '.nodePools',
      },
      {
        rule: `!has(self.nodePools) || ${POOL_REPLICAS} > 0`,
        message: 'the pools together must have at least one node',
        reason: 'FieldValueInvalid',
        fieldPath: '.nodePools',
      },
      ...volumeRules(['coordinator', 'storage'], DEFAULTS.coordinatorStorage),
    ],
  },
);
export type MemberSpec = ValueOf<typeof memberSpecSchema>;

export const MEMBER_RULES: readonly Rule[] = [
  {
    rule: 'self.metadata.name.size() <= 24 && self.metadata.name.matches("^[a-z]([-a-z0-9]*[a-z0-9])?$")',
    message:
      'must be a DNS label of at most 24 characters that begins with a letter: it is part of the trust domain and of the names of Services',
    reason: 'FieldValueInvalid',
    fieldPath: '.metadata.name',
  },
];

export interface Member {
  readonly apiVersion: string;
  readonly kind: 'Member';
  readonly metadata: ObjectMeta;
  readonly spec: MemberSpec;
  readonly status?: MemberStatus;
}
