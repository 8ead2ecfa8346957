/**
 * Byte layout of the log (docs/formats/log.md), sans-IO. Everything is little-endian. A segment begins with a header and
 * continues with records, each padded to 8 bytes:
 *
 *   header   0 magic "COLLLOG1"  8 u32 version  12 u32 crc of bytes 0..12 and 16..24  16 u64 first position
 *   record   0 u32 crc of bytes 4..32+length  4 u32 length  8 u64 position  16 u64 stable mark
 *            24 u32 generation  28 u32 start  32 payload
 *
 * The stable mark is the highest position that was known to be stable when the record was written: at a start, what lies
 * above the last such mark may exist in the page cache only (M2).
 */
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import type { Epoch, LogPosition } from '@collective/base/ids';

export const LOG_FORMAT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 24;
export const RECORD_HEADER_BYTES = 32;
/** A batch is far smaller; a length above this is damage, not data. */
export const RECORD_PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;

const MAGIC = Buffer.from('COLLLOG1', 'latin1');

export function encodeSegmentHeader(first: LogPosition): Buffer {
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt32LE(LOG_FORMAT_VERSION, 8);
  header.writeBigUInt64LE(BigInt(first), 16);
  header.writeUInt32LE(headerCrc(header), 12);
  return header;
}

/** The first position of a segment; undefined when the header is torn. Throws `version_too_new`. */
export function decodeSegmentHeader(bytes: Uint8Array, name: string): LogPosition | undefined {
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
  return Number(header.readBigUInt64LE(16)) as LogPosition;
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
export function encodeRecord(fields: RecordFields, payload: Uint8Array): Uint8Array[] {
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  header.writeUInt32LE(payload.length, 4);
  writeU64(header, fields.position, 8);
  writeU64(header, fields.stableMark, 16);
  header.writeUInt32LE(fields.epoch.generation, 24);
  header.writeUInt32LE(fields.epoch.start, 28);
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

/** The record at `offset`, or undefined if there is none that is whole and right. */
export function decodeRecord(segment: Buffer, offset: number): DecodedRecord | undefined {
  if (offset + RECORD_HEADER_BYTES > segment.length) return undefined;
  const length = segment.readUInt32LE(offset + 4);
  if (length > RECORD_PAYLOAD_BYTES_MAX || offset + RECORD_HEADER_BYTES + length > segment.length) return undefined;
  const position = readU64(segment, offset + 8);
  if (position === 0) return undefined;
  const payloadAt = offset + RECORD_HEADER_BYTES;
  if (crc32(segment.subarray(offset + 4, payloadAt + length)) !== segment.readUInt32LE(offset)) return undefined;
  return {
    position: position as LogPosition,
    stableMark: readU64(segment, offset + 16) as LogPosition,
    epoch: { generation: segment.readUInt32LE(offset + 24), start: segment.readUInt32LE(offset + 28) },
    payload: segment.subarray(payloadAt, payloadAt + length),
    end: offset + recordBytes(length),
  };
}

/** Whether a whole record begins anywhere in bytes whose segment header is not readable. */
export function anyRecordIn(segment: Buffer): boolean {
  return someRecordFrom(segment, 0, { above: 0, upTo: Number.MAX_SAFE_INTEGER }, () => true);
}

/**
 * Whether a record behind `offset` says that the position after `last` was stable: then a bad record there is damage. Without
 * such a witness it is the work of a power loss, which may keep later unsynced sectors and drop earlier ones.
 */
export function wasStableAfter(segment: Buffer, offset: number, last: LogPosition): boolean {
  const upTo = last + Math.ceil((segment.length - offset) / RECORD_HEADER_BYTES);
  return someRecordFrom(segment, offset + 8, { above: last, upTo }, (record) => record.stableMark > last);
}

/**
 * Records begin at multiples of 8. The checksum is only computed where the fields could be those of a record: a position
 * that the bytes leave room for, and a mark below it. Else a large torn tail would cost minutes.
 */
function someRecordFrom(
  segment: Buffer,
  offset: number,
  positions: { above: number; upTo: number },
  matches: (record: DecodedRecord) => boolean,
): boolean {
  for (let at = Math.ceil(offset / 8) * 8; at + RECORD_HEADER_BYTES <= segment.length; at += 8) {
    const position = readU64(segment, at + 8);
    if (position <= positions.above || position > positions.upTo || readU64(segment, at + 16) >= position) continue;
    const record = decodeRecord(segment, at);
    if (record !== undefined && matches(record)) return true;
  }
  return false;
}

function writeU64(into: Buffer, value: number, at: number): void {
  into.writeUInt32LE(value >>> 0, at);
  into.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function readU64(from: Buffer, at: number): number {
  return from.readUInt32LE(at) + from.readUInt32LE(at + 4) * 2 ** 32;
}
