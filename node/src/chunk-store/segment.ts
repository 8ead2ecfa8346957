/**
 * Names and headers of the store's files, without I/O: a segment begins with 64 bytes that say whose it is; a sealed segment has
 * a sidecar beside it that lists its records, so that a start need not read it. A sidecar exists only for a segment that
 * was synced before: it is at the same time the mark "everything in here is stable".
 */
import { assert } from '@collective/base/assert';
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import { ENTRY_BYTES, EntryList } from './entry-list.ts';
import { SALT_BYTES, UUID_BYTES } from './record.ts';

export const SEGMENT_FOLDER = 'segments';
export const SEGMENT_HEADER_BYTES = 64;
/** 'CSG1' */
const SEGMENT_MAGIC = 0x31475343;
const SEGMENT_VERSION = 1;
/** 'CIX1' */
const SIDECAR_MAGIC = 0x31584943;
const SIDECAR_VERSION = 1;
const SIDECAR_HEADER_BYTES = 64;
const SALT_AT = 48;
const CRC_AT = 60;

export function segmentPath(segment: number): string {
  return `${SEGMENT_FOLDER}/${segment.toString().padStart(8, '0')}.seg`;
}

export function sidecarPath(segment: number): string {
  return `${SEGMENT_FOLDER}/${segment.toString().padStart(8, '0')}.idx`;
}

/** While a copy is made it has this name; a start removes what is left of one. */
export function unfinishedPath(path: string): string {
  return `${path}.new`;
}

export function parseSegmentName(name: string): { segment: number; kind: 'seg' | 'idx' } | undefined {
  const match = /^(\d{8,15})\.(seg|idx)$/.exec(name);
  if (match === null) return undefined;
  return { segment: Number(match[1]), kind: match[2] === 'seg' ? 'seg' : 'idx' };
}

export interface SegmentHeader {
  readonly segment: number;
  readonly diskId: Buffer;
  readonly firstSequence: number;
  readonly incarnation: number;
  /** Drawn at random; every record of the segment carries it. */
  readonly salt: Buffer;
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  assert(header.salt.length === SALT_BYTES, 'a salt has its length');
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  bytes.writeUInt32LE(SEGMENT_MAGIC, 0);
  bytes.writeUInt32LE(SEGMENT_VERSION, 4);
  bytes.writeBigUInt64LE(BigInt(header.segment), 8);
  header.diskId.copy(bytes, 16, 0, UUID_BYTES);
  bytes.writeBigUInt64LE(BigInt(header.firstSequence), 32);
  bytes.writeUInt32LE(header.incarnation, 40);
  header.salt.copy(bytes, SALT_AT);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CRC_AT)), CRC_AT);
  return bytes;
}

/** Undefined when the bytes are not a whole header: then nothing was written behind it yet, or it is damaged. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || bytes.readUInt32LE(0) !== SEGMENT_MAGIC) return undefined;
  if (crc32(bytes.subarray(0, CRC_AT)) !== bytes.readUInt32LE(CRC_AT)) return undefined;
  refuseNewer('segment', bytes.readUInt32LE(4), SEGMENT_VERSION);
  return {
    segment: Number(bytes.readBigUInt64LE(8)),
    diskId: Buffer.from(bytes.subarray(16, 32)),
    firstSequence: Number(bytes.readBigUInt64LE(32)),
    incarnation: bytes.readUInt32LE(40),
    salt: Buffer.from(bytes.subarray(SALT_AT, SALT_AT + SALT_BYTES)),
  };
}

export interface Sidecar {
  readonly segment: number;
  readonly diskId: Buffer;
  readonly segmentBytes: number;
  readonly entries: EntryList;
}

export function encodeSidecar(sidecar: Sidecar): Buffer {
  const packed = sidecar.entries.packed();
  const bytes = Buffer.alloc(SIDECAR_HEADER_BYTES + packed.length);
  bytes.writeUInt32LE(SIDECAR_MAGIC, 0);
  bytes.writeUInt32LE(SIDECAR_VERSION, 4);
  bytes.writeBigUInt64LE(BigInt(sidecar.segment), 8);
  sidecar.diskId.copy(bytes, 16, 0, UUID_BYTES);
  bytes.writeUInt32LE(sidecar.entries.length, 32);
  bytes.writeBigUInt64LE(BigInt(sidecar.segmentBytes), 40);
  packed.copy(bytes, SIDECAR_HEADER_BYTES);
  bytes.writeUInt32LE(sidecarCrc(bytes), CRC_AT);
  return bytes;
}

/** Undefined when the bytes are damaged: the segment is scanned instead. The entries are read out of `bytes` when they are asked for. */
export function decodeSidecar(bytes: Buffer): Sidecar | undefined {
  if (bytes.length < SIDECAR_HEADER_BYTES || bytes.readUInt32LE(0) !== SIDECAR_MAGIC) return undefined;
  if (sidecarCrc(bytes) !== bytes.readUInt32LE(CRC_AT)) return undefined;
  refuseNewer('sidecar', bytes.readUInt32LE(4), SIDECAR_VERSION);
  if (bytes.length !== SIDECAR_HEADER_BYTES + bytes.readUInt32LE(32) * ENTRY_BYTES) return undefined;
  return {
    segment: Number(bytes.readBigUInt64LE(8)),
    diskId: Buffer.from(bytes.subarray(16, 32)),
    segmentBytes: Number(bytes.readBigUInt64LE(40)),
    entries: new EntryList(bytes.subarray(SIDECAR_HEADER_BYTES)),
  };
}

function sidecarCrc(bytes: Buffer): number {
  return crc32(bytes.subarray(SIDECAR_HEADER_BYTES), crc32(bytes.subarray(0, CRC_AT)));
}

function refuseNewer(what: string, version: number, known: number): void {
  if (version > known)
    throw new CollectiveError(
      'version_too_new',
      `Read a ${what} of version ${version}: this program knows versions up to ${known}`,
    );
}
