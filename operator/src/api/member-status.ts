/**
 * What the operator says of a member: coordinator, nodes, room, certificates, and where a rotation of its authority stands (T6).
 * No bound is tighter than that of what is copied here: one field that is too long would have the whole status refused.
 */
import { conditionsSchema, observedGenerationSchema } from './condition.ts';
import { reportedQuantity, sentence, timestamp } from './scalars.ts';
import { atomicList, boolean, integer, listMap, object, oneOf, optional, string, type ValueOf } from './schema.ts';

const NODES_MAX = 2048;
/** All annotations of an object together. */
const ANNOTATION_MAX = 262_144;
/** A reason of a condition. */
const REASON_MAX = 1024;
/** A host name or an address in brackets, and a port. */
const ENDPOINT_MAX = 264;
const USERS_MAX = 512;
export const BACKUPS_TOLD_MAX = 50;

const name = (description: string) => string(description, { maxLength: 253 });
const endpoint = (description: string) => string(description, { maxLength: ENDPOINT_MAX });
const imageSeen = string('Image that it runs.', { maxLength: 512 });
const volumeUid = (description: string) => string(description, { maxLength: 64 });
const hash = (description: string) => string(description, { maxLength: 128 });
const count = (description: string) => integer(description, { minimum: 0 });
const nodePort = integer(
  'With the exposure NodePort: the port of its Service, which is asked for again when the Service was deleted.',
  { minimum: 1, maximum: 65_535 },
);

const coordinatorStateSchema = object('The coordinator.', {
  state: oneOf('What it does.', ['Pending', 'Starting', 'Ready', 'Unreachable', 'VolumeLost', 'Restoring']),
  volumeUid: optional(
    volumeUid('Uid of the volume claim that holds the metadata: another one is a loss, never a blank beginning (K3).'),
  ),
  began: optional(boolean('Set when the coordinator served once: from then on it does not start blank.')),
  settingsWait: optional(
    boolean(
      'Set until what the Member and its Collective say of its beginning is written: replication, compression, quotas.',
    ),
  ),
  image: optional(imageSeen),
  nodePort: optional(nodePort),
  restored: optional(
    object('From which backup the metadata on the volume were restored.', {
      order: string('What the annotation collective.storage/restore-from said.', { maxLength: ANNOTATION_MAX }),
      volumeUid: volumeUid('Uid of the volume claim into which it went.'),
      file: optional(name('The backup.')),
      at: optional(timestamp('When.')),
    }),
  ),
  garbageWaits: optional(
    boolean('Set after a restore, until somebody has looked at the member: nothing is removed from nodes meanwhile.'),
  ),
});
export type CoordinatorState = ValueOf<typeof coordinatorStateSchema>;

const nodeStateSchema = object('One node.', {
  name: name('Name of the node.'),
  pool: name('Its pool.'),
  state: oneOf('What it does.', ['Pending', 'Starting', 'Ready', 'Away', 'Full', 'Draining', 'Drained', 'Removing']),
  volumeUid: optional(volumeUid('Uid of its volume claim: another one is a lost disk.')),
  capacity: optional(reportedQuantity('What it can hold.')),
  used: optional(reportedQuantity('What it holds.')),
  leftChunks: optional(count('How many chunks are left on a node that is being emptied.')),
  image: optional(imageSeen),
  nodePort: optional(nodePort),
});
export type NodeStateSeen = ValueOf<typeof nodeStateSchema>;

const caGenerationSchema = object('One generation of the authority.', {
  generation: integer('Its number.', { minimum: 1 }),
  fingerprint: hash('SHA-256 of the certificate in hex: another one in the Secret begins the next generation.'),
  notAfter: timestamp('When it ends.'),
  created: timestamp('When it began.'),
  specHash: optional(hash('SHA-256 of what of spec.ca it was made from.')),
});
export type CaGeneration = ValueOf<typeof caGenerationSchema>;

const caStateSchema = object('The authority; a rotation is taken up again from here (T6).', {
  generation: count('Newest generation that exists.'),
  phase: oneOf('What is done now: nothing, or the step of a rotation.', [
    'Stable',
    'Creating',
    'Distributing',
    'Reissuing',
    'Retiring',
  ]),
  since: optional(timestamp('When the phase began.')),
  oldRootsUntil: optional(
    timestamp(
      'In the phase Retiring: until when earlier authorities are trusted for peers that are away. A connected peer that still needs one keeps it for an overlap more at most.',
    ),
  ),
  handledTrigger: optional(
    string('Value of the annotation collective.storage/rotate-ca that was handled last.', {
      maxLength: ANNOTATION_MAX,
    }),
  ),
  generations: optional(
    listMap('Newest first: which authorities are trusted.', caGenerationSchema, { key: 'generation', maxItems: 16 }),
  ),
});
export type CaState = ValueOf<typeof caStateSchema>;

const certificateSeenSchema = object('One certificate.', {
  name: name('Its name, which is also that of its Secret.'),
  notAfter: timestamp('When it ends.'),
  generation: count('Generation of the authority that signed it.'),
});
export type CertificateSeen = ValueOf<typeof certificateSeenSchema>;

export const memberStatusSchema = object('How the member is, as the operator saw it last.', {
  observedGeneration: optional(observedGenerationSchema),
  trustDomain: optional(name('Its trust domain: <name>.<domain of the Collective>.')),
  version: optional(string('Version of the coordinator.', { maxLength: 128 })),
  coordinator: optional(coordinatorStateSchema),
  nodes: optional(
    listMap('All nodes, those too that are being taken away.', nodeStateSchema, { key: 'name', maxItems: NODES_MAX }),
  ),
  nodesReady: optional(string('Nodes as ready/desired.', { maxLength: 32 })),
  capacity: optional(reportedQuantity('Of all nodes.')),
  used: optional(reportedQuantity('On all nodes.')),
  replication: optional(
    object('Whether every block has its replicas.', {
      underReplicated: count('Chunks with fewer replicas than wanted.'),
      unreadable: count('Chunks without any sound replica left; among the former.'),
      toMove: count('Chunks that lie where they should not stay.'),
      lost: optional(
        count(
          'Blocks that lost what was written to them last, and show what was before, until somebody has settled them.',
        ),
      ),
      counting: boolean('Whether all chunks are being counted anew, so that more may be short.'),
    }),
  ),
  ca: optional(caStateSchema),
  certificates: optional(
    listMap('Certificates of servers and users.', certificateSeenSchema, {
      key: 'name',
      maxItems: NODES_MAX + USERS_MAX,
    }),
  ),
  certificatesSummary: optional(string('"ok", or the reason why not.', { maxLength: REASON_MAX })),
  trustBundleHash: optional(hash('SHA-256 over the authorities that are trusted.')),
  endpoints: optional(
    object('Addresses that people dial.', {
      internal: optional(endpoint('From inside the cluster.')),
      external: optional(endpoint('From outside.')),
    }),
  ),
  users: optional(
    listMap(
      'Users that were made, so that who leaves spec.users is taken back.',
      object('One user.', {
        name: name('Its name.'),
        secretName: name('Its Secret.'),
        uid: optional(count('Its uid, if it is squashed.')),
      }),
      { key: 'name', maxItems: USERS_MAX },
    ),
  ),
  backup: optional(
    object('The scheduled backup.', {
      lastSuccess: optional(timestamp('When one succeeded last.')),
      lastFailure: optional(timestamp('When one failed last.')),
      message: optional(sentence('Why it failed.')),
      kept: optional(
        atomicList(
          'Newest first: the backups on the volume as the last one left them, fifty at most.',
          name('Its name.'),
          {
            maxItems: BACKUPS_TOLD_MAX,
          },
        ),
      ),
    }),
  ),
  conditions: optional(conditionsSchema),
});
export type MemberStatus = ValueOf<typeof memberStatusSchema>;
