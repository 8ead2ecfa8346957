/**
 * Identifiers as types. Each is born in its parse function only, so that a string from outside cannot pass for one.
 * Inode numbers have 48 bits (M8) and fit a JavaScript number exactly.
 */
import { CollectiveError } from './errors/index.ts';

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

export type InodeNumber = Brand<number, 'InodeNumber'>;
export type RealmId = Brand<number, 'RealmId'>;
export type SessionId = Brand<number, 'SessionId'>;
/** Position of a batch in the log; 0 is "before the first". */
export type LogPosition = Brand<number, 'LogPosition'>;
/** 32 lower-case hex digits: generation (8), start counter (8), number (16). Orders as the numbers do. */
export type ChunkId = Brand<string, 'ChunkId'>;
/** A DNS label of at most 24 characters (T1). */
export type MemberName = Brand<string, 'MemberName'>;
/** A DNS label of at most 63 characters that names a storage node within its member. */
export type NodeName = Brand<string, 'NodeName'>;
/** `<member>.<collective>`: the host part of every SPIFFE id of a member. */
export type TrustDomain = Brand<string, 'TrustDomain'>;

export const ROOT_INODE = 1 as InodeNumber;
export const ROOT_REALM = 1 as RealmId;
export const INODE_NUMBER_MAX = 2 ** 48 - 1;

/** A coordinator's epoch (M2a): Unix seconds of creation or restore, then how often it started since. */
export interface Epoch {
  readonly generation: number;
  readonly start: number;
}

export function compareEpochs(a: Epoch, b: Epoch): number {
  return a.generation === b.generation ? a.start - b.start : a.generation - b.generation;
}

export function epochHex(epoch: Epoch): string {
  return epoch.generation.toString(16).padStart(8, '0') + epoch.start.toString(16).padStart(8, '0');
}

export function chunkIdOf(epoch: Epoch, number: number): ChunkId {
  return (epochHex(epoch) + number.toString(16).padStart(16, '0')) as ChunkId;
}

export function chunkIdFromBytes(bytes: Uint8Array): ChunkId {
  if (bytes.length !== 16)
    throw new CollectiveError('invalid_argument', `Read a chunk id of ${bytes.length} bytes; it has 16`);
  return Buffer.from(bytes.buffer, bytes.byteOffset, 16).toString('hex') as ChunkId;
}

export function chunkIdToBytes(id: ChunkId): Buffer {
  return Buffer.from(id, 'hex');
}

export function chunkIdEpoch(id: ChunkId): Epoch {
  return { generation: Number.parseInt(id.slice(0, 8), 16), start: Number.parseInt(id.slice(8, 16), 16) };
}

export function parseChunkId(text: string): ChunkId {
  if (!/^[0-9a-f]{32}$/.test(text))
    throw new CollectiveError('invalid_argument', `Read '${text}' as a chunk id: it has 32 hex digits`);
  return text as ChunkId;
}

const DNS_LABEL = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

export function parseMemberName(text: string): MemberName {
  if (text.length > 24 || !DNS_LABEL.test(text))
    throw new CollectiveError(
      'invalid_argument',
      `Use '${text}' as a member name: it must be a DNS label (a-z, 0-9, '-', no '-' at the ends) of at most 24 characters`,
    );
  return text as MemberName;
}

export function parseNodeName(text: string): NodeName {
  if (text.length > 63 || !DNS_LABEL.test(text))
    throw new CollectiveError(
      'invalid_argument',
      `Use '${text}' as a node name: it must be a DNS label (a-z, 0-9, '-', no '-' at the ends) of at most 63 characters`,
    );
  return text as NodeName;
}

/** `<member>.<collective>`; the collective may itself hold dots (a domain of at most 63 characters). */
export function trustDomainOf(member: MemberName, collective: string): TrustDomain {
  if (collective.length > 63 || !collective.split('.').every((label) => DNS_LABEL.test(label)))
    throw new CollectiveError(
      'invalid_argument',
      `Use '${collective}' as a collective: it must be DNS labels joined by dots, at most 63 characters`,
    );
  return `${member}.${collective}` as TrustDomain;
}
