/**
 * All tables of the coordinator: prefix, key layout, value type; nothing else. The layout is part of the on-disk
 * format: prefixes and key shapes never change meaning, new ones are added (see docs/formats/metadata.md).
 */
import {
  type ChunkId,
  INODE_NUMBER_MAX,
  type InodeNumber,
  type NodeName,
  type RealmId,
  type SessionId,
} from '@collective/base/ids';
import {
  AnswerRow,
  BlockRow,
  ChunkRow,
  ClosedDiskRow,
  CookieRow,
  DentryRow,
  DoomedRow,
  EpochRow,
  EventRow,
  GarbageRow,
  InodeRow,
  JobLinksRow,
  JobRow,
  JobVisitRow,
  LockRow,
  LossesRow,
  MaintenanceRow,
  MemberRow,
  NodeRow,
  OrphanChunkRow,
  OrphanRow,
  RangeRow,
  RealmRow,
  RepairRow,
  RequestRow,
  SessionRow,
  SubjectRow,
  TokenRow,
  TrashNameRow,
  TrashRow,
  UnfirmRow,
  UsageRow,
  XattrRow,
} from './gen/tables.ts';
import { bigEndian, byteString, bytesOf, defineTable } from './table.ts';

const ino = (inode: InodeNumber): string => bigEndian(inode, 6);
const utf8 = (text: string): string => byteString(Buffer.from(text, 'utf8'));
const chunkKey = (chunk: ChunkId): string => byteString(Buffer.from(chunk, 'hex'));

/** Names are byte strings (latin-1 image of the UTF-8 bytes), as keys are. */
export type NameKey = string;

/** Names the blocks of a file; drawn from the inode numbers. */
export type DataNumber = number;

// The namespace
export const INODES = defineTable('inode', 'I', InodeRow, (inode: InodeNumber) => ino(inode));
export const DENTRIES = defineTable(
  'dentry',
  'D',
  DentryRow,
  (parent: InodeNumber, name: NameKey) => ino(parent) + name,
);
/** Index of a directory by creation sequence: its offsets (M8). */
export const COOKIES = defineTable(
  'cookie',
  'K',
  CookieRow,
  (parent: InodeNumber, cookie: number) => ino(parent) + bigEndian(cookie, 8),
);
export const XATTRS = defineTable(
  'xattr',
  'X',
  XattrRow,
  (inode: InodeNumber, name: string) => ino(inode) + utf8(name),
);
export const ORPHANS = defineTable('orphan', 'O', OrphanRow, (inode: InodeNumber) => ino(inode));
/** What was removed, in the order of removal (M8). */
export const TRASH = defineTable(
  'trash',
  't',
  TrashRow,
  (realm: RealmId, number: number) => bigEndian(realm, 6) + bigEndian(number, 6),
);
/** The same by where it was: of one name the newest comes first. */
export const TRASH_NAMES = defineTable(
  'trash-name',
  'h',
  TrashNameRow,
  (parent: InodeNumber, name: NameKey, number: number) =>
    `${ino(parent)}${name}\0${bigEndian(INODE_NUMBER_MAX - number, 6)}`,
);
export const LOCKS = defineTable('lock', 'L', LockRow, (inode: InodeNumber) => ino(inode));

// Data
export const BLOCKS = defineTable(
  'block',
  'B',
  BlockRow,
  (data: DataNumber, block: number) => bigEndian(data, 6) + bigEndian(block, 4),
);
export const DOOMED = defineTable('doomed', 'F', DoomedRow, (data: DataNumber) => bigEndian(data, 6));
export const CHUNKS = defineTable('chunk', 'C', ChunkRow, (chunk: ChunkId) => chunkKey(chunk));
export const GARBAGE = defineTable('garbage', 'G', GarbageRow, (chunk: ChunkId) => chunkKey(chunk));
/** Chunks that a node has and no row says so, by node and disk. */
export const ORPHAN_CHUNKS = defineTable(
  'orphan-chunk',
  'o',
  OrphanChunkRow,
  (node: NodeName, disk: string, chunk: ChunkId) => diskPrefix(node, disk) + chunkKey(chunk),
);
/** Chunks that have not the replicas that they should (D8). */
export const UNDER_REPLICATED = defineTable('under-replicated', 'U', RepairRow, (chunk: ChunkId) => chunkKey(chunk));
/** The same by how many sound replicas they have: the most endangered is repaired first. Under TO_MOVE, last, those that have enough, but not where they should. */
export const REPAIR_ORDER = defineTable(
  'repair-order',
  'Y',
  RepairRow,
  (sound: number, chunk: ChunkId) => String.fromCharCode(Math.min(sound, 255)) + chunkKey(chunk),
);
export const TO_MOVE = 255;
/** Replicas not yet reported stable (D3), by node and disk: another disk's incarnations and sequences say nothing. The value names the chunk. */
export const UNSTABLE = defineTable(
  'unstable',
  'W',
  XattrRow,
  (node: NodeName, disk: string, incarnation: number, sequence: number, chunk: ChunkId) =>
    `${diskPrefix(node, disk)}${bigEndian(incarnation, 4)}${bigEndian(sequence, 8)}${chunkKey(chunk)}`,
);

/** Chunks not yet stable on enough nodes, by the file that names them: what must be waited for before it takes another's place (D3). */
export const UNFIRM = defineTable(
  'unfirm',
  'H',
  UnfirmRow,
  (inode: InodeNumber, chunk: ChunkId) => ino(inode) + chunkKey(chunk),
);

/** What the keys of one disk begin with, after the table's own prefix. */
export function diskPrefix(node: NodeName, disk: string): string {
  return `${utf8(node)}\0${utf8(disk)}\0`;
}

// Who
export const REALMS = defineTable('realm', 'R', RealmRow, (realm: RealmId) => bigEndian(realm, 6));
export const USAGE = defineTable('usage', 'Q', UsageRow, (realm: RealmId) => bigEndian(realm, 6));
export const JOBS = defineTable('job', 'J', JobRow, (job: number) => bigEndian(job, 6));
export const JOB_VISITS = defineTable(
  'job-visit',
  'j',
  JobVisitRow,
  (job: number, inode: InodeNumber) => bigEndian(job, 6) + ino(inode),
);
export const JOB_LINKS = defineTable(
  'job-links',
  'k',
  JobLinksRow,
  (job: number, inode: InodeNumber) => bigEndian(job, 6) + ino(inode),
);
export const SUBJECTS = defineTable('subject', 'P', SubjectRow, (uri: string) => utf8(uri));
export const TOKENS = defineTable('token', 'T', TokenRow, (sha256Hex: string) => sha256Hex);
/** By the SHA-256 of subject and public key. */
export const REQUESTS = defineTable('request', 'q', RequestRow, (sha256Hex: string) => sha256Hex);
export const SESSIONS = defineTable('session', 'S', SessionRow, (session: SessionId) => bigEndian(session, 6));
export const ANSWERS = defineTable(
  'answer',
  'A',
  AnswerRow,
  (session: SessionId, number: number, step: number) =>
    bigEndian(session, 6) + bigEndian(number, 8) + bigEndian(step, 4),
);
export const NODES = defineTable('node', 'N', NodeRow, (name: NodeName) => utf8(name));
export const CLOSED_DISKS = defineTable('closed-disk', 'd', ClosedDiskRow, (uuid: string) => utf8(uuid));

// The coordinator itself
export const EPOCHS = defineTable(
  'epoch',
  'E',
  EpochRow,
  (generation: number, start: number) => bigEndian(generation, 4) + bigEndian(start, 4),
);
/** Reserved number ranges by kind: 'inode', 'session', 'fence', 'promise', 'event' (M2a). */
export const RANGES = defineTable('range', 'Z', RangeRow, (kind: string) => utf8(kind));
export const MEMBER = defineTable('member', 'M', MemberRow, () => '');
export const MAINTENANCE = defineTable('maintenance', 'm', MaintenanceRow, () => '');
export const LOSSES = defineTable('losses', 'l', LossesRow, () => '');
export const EVENTS = defineTable('event', 'V', EventRow, (number: number) => bigEndian(number, 8));

/** The name of a dentry from its key. */
export function dentryName(key: string): NameKey {
  return key.slice(1 + 6);
}

export function nameKey(name: Uint8Array): NameKey {
  return byteString(name);
}

export function nameBytes(name: NameKey): Buffer {
  return bytesOf(name);
}
