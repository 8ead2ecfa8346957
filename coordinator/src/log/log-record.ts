/**
 * Byte layout of the log (docs/formats/log.md), sans-IO. Everything is little-endian. A segment begins with a header and
 * continues with records, each padded to 8 bytes:
 *
 *   header   0 magic "COLLLOG1"  8 u32 version  12 u32 crc of bytes 0..12 and 16..32  16 u64 first position  24 salt
 *   record   0 u32 crc of bytes 4..40+length  4 u32 length  8 salt  16 u64 position  24 u64 stable mark
 *            32 u32 generation  36 u32 start  40 payload
 *
 * The stable mark is the highest position that was known to be stable when the record was written: at a start, what lies
 * above the last such mark may exist in the page cache only (M2).
 *
 * The salt is drawn at random for each segment, and a record without it is none. So whatever bytes a user stores in an
 * attribute, and whatever an older file left on the disk, behind a torn record they are not taken for a record.
 */
import { assert } from '@collective/base/assert';
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import type { Epoch, LogPosition } from '@collective/base/ids';

export const LOG_FORMAT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 32;
export const RECORD_HEADER_BYTES = 40;
export const SALT_BYTES = 8;
/** A batch is far smaller; a length above this is damage, not data. */
export const RECORD_PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;

const SALT_AT = 8;
const MAGIC = Buffer.from('COLLLOG1', 'latin1');

export interface SegmentHeader {
  readonly first: LogPosition;
  readonly salt: Buffer;
}

export function encodeSegmentHeader({ first, salt }: SegmentHeader): Buffer {
  assert(salt.length === SALT_BYTES, 'a salt has its length');
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt32LE(LOG_FORMAT_VERSION, 8);
  header.writeBigUInt64LE(BigInt(first), 16);
  salt.copy(header, 24);
  header.writeUInt32LE(headerCrc(header), 12);
  return header;
}

/** Undefined when the header is torn. Throws `version_too_new`. */
export function decodeSegmentHeader(bytes: Uint8Array, name: string): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES) return undefined;
  const header = Buffer.from(bytes.buffer, bytes.byteOffset, SEGMENT_HEADER_BYTES);
  if (!header.subarray(0, 8).equals(MAGIC)) return undefined;
  // Before the checksum: magic and version keep their places in every format, the rest may change.
  const version = header.readUInt32LE(8);
  if (version > LOG_FORMAT_VERSION)
    throw new CollectiveError(
      'version_too_new',
      `Open log segment ${name}: it has format ${version}, this program knows up to ${LOG_FORMAT_VERSION}`,
    );
  if (header.readUInt32LE(12) !== headerCrc(header)) return undefined;
  return { first: Number(header.readBigUInt64LE(16)) as LogPosition, salt: Buffer.from(header.subarray(24)) };
}

function headerCrc(header: Buffer): number {
  return crc32(header.subarray(16, SEGMENT_HEADER_BYTES), crc32(header.subarray(0, 12)));
}

export interface RecordFields {
  readonly position: LogPosition;
  readonly stableMark: LogPosition;
  readonly epoch: Epoch;
}

export function recordBytes(payloadLength: number): number {
  return (RECORD_HEADER_BYTES + payloadLength + 7) & ~7;
}

/** Header and padding around a payload, ready for one gathered write. */
export function encodeRecord(salt: Buffer, fields: RecordFields, payload: Uint8Array): Uint8Array[] {
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  header.writeUInt32LE(payload.length, 4);
  salt.copy(header, SALT_AT, 0, SALT_BYTES);
  writeU64(header, fields.position, 16);
  writeU64(header, fields.stableMark, 24);
  header.writeUInt32LE(fields.epoch.generation, 32);
  header.writeUInt32LE(fields.epoch.start, 36);
  header.writeUInt32LE(crc32(payload, crc32(header.subarray(4))), 0);
  const padding = recordBytes(payload.length) - RECORD_HEADER_BYTES - payload.length;
  return padding === 0 ? [header, payload] : [header, payload, PADDING.subarray(0, padding)];
}

const PADDING = Buffer.alloc(8);

export interface DecodedRecord extends RecordFields {
  readonly payload: Buffer;
  /** Offset of the next record. */
  readonly end: number;
}

/** The record at `offset` of a segment with this salt, or undefined if there is none that is whole and right. */
export function decodeRecord(segment: Buffer, offset: number, salt: Buffer): DecodedRecord | undefined {
  if (offset + RECORD_HEADER_BYTES > segment.length || !hasSalt(segment, offset, salt)) return undefined;
  const length = segment.readUInt32LE(offset + 4);
  if (length > RECORD_PAYLOAD_BYTES_MAX || offset + RECORD_HEADER_BYTES + length > segment.length) return undefined;
  const position = readU64(segment, offset + 16);
  if (position === 0) return undefined;
  const payloadAt = offset + RECORD_HEADER_BYTES;
  if (crc32(segment.subarray(offset + 4, payloadAt + length)) !== segment.readUInt32LE(offset)) return undefined;
  return {
    position: position as LogPosition,
    stableMark: readU64(segment, offset + 24) as LogPosition,
    epoch: { generation: segment.readUInt32LE(offset + 32), start: segment.readUInt32LE(offset + 36) },
    payload: segment.subarray(payloadAt, payloadAt + length),
    end: offset + recordBytes(length),
  };
}

/**
 * Whether a record behind `offset` says that the position after `last` was stable: then a bad record there is damage. Without
 * such a witness it is the work of a power loss, which may keep later unsynced sectors and drop earlier ones.
 *
 * Records begin at multiples of 8. A checksum is computed only where the salt stands, which nobody outside knows: so neither a
 * large torn tail nor bytes made for it cost more than a read.
 */
export function wasStableAfter(segment: Buffer, offset: number, salt: Buffer, last: LogPosition): boolean {
  for (let at = Math.ceil((offset + 8) / 8) * 8; at + RECORD_HEADER_BYTES <= segment.length; at += 8) {
    const record = decodeRecord(segment, at, salt);
    if (record !== undefined && record.position > last && record.stableMark > last) return true;
  }
  return false;
}

function hasSalt(segment: Buffer, offset: number, salt: Buffer): boolean {
  const at = offset + SALT_AT;
  return segment.readUInt32LE(at) === salt.readUInt32LE(0) && segment.readUInt32LE(at + 4) === salt.readUInt32LE(4);
}

function writeU64(into: Buffer, value: number, at: number): void {
  into.writeUInt32LE(value >>> 0, at);
  into.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function readU64(from: Buffer, at: number): number {
  return from.readUInt32LE(at) + from.readUInt32LE(at + 4) * 2 ** 32;
}
