/**
 * The records of a segment, byte by byte, without I/O: see docs/formats/chunk-segment.md. A record describes itself
 * (D4), so that the index can be rebuilt and, at worst, a member be rebuilt from its disks.
 *
 * A record either holds a chunk or is a tombstone, which says that the chunk was forgotten: of all records of one chunk the one
 * with the highest sequence counts, wherever they lie.
 *
 * A record also says up to which sequence the store was stable when it was written: after a crash this tells a tail that
 * was never stable, and may be gone, from damage.
 *
 * And it says where it lies: its offset, and the salt that was drawn at random for its segment. Bytes of a record anywhere else,
 * in the content of a chunk or left by an older segment, are no record. A record that is moved gets a new header; its
 * frames and their checksums stay as they are.
 */
import { assert } from '@collective/base/assert';
import type { Timestamp } from '@collective/base/clock';
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, chunkIdToBytes, type InodeNumber } from '@collective/base/ids';
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';
import { type ChunkDigest, DIGEST_BYTES } from '@collective/protocol/bulk/encode-chunk';
import { CHUNK_FRAMES_MAX, FRAME_HEADER_BYTES } from '@collective/protocol/bulk/frame';
import type { StoredChunk } from './chunk-store.ts';

/** 'CCR1' */
const RECORD_MAGIC = 0x31524343;
const RECORD_VERSION = 1;
export const RECORD_KINDS = { chunk: 1, tombstone: 2 } as const;
export type RecordKind = keyof typeof RECORD_KINDS;
const FIXED_BYTES = 128;
const CRC_AT = 12;
/** Both keep their places in every version: they are looked at before it. */
const OFFSET_AT = 52;
const SALT_AT = 120;
const DIGEST_AT = 56;
/** Inode, sequence and stable sequence: 64 bits, of which a number holds 53. */
const NUMBERS_AT = [32, 88, 96];
const SAFE_HIGH_WORD = 2 ** 21;
export const RECORD_ALIGN_BYTES = 8;
/** A tombstone is a header without frames. */
export const TOMBSTONE_BYTES = FIXED_BYTES;
export const RECORD_HEADER_BYTES_MIN = FIXED_BYTES;
export const RECORD_HEADER_BYTES_MAX = align(FIXED_BYTES + 4 * CHUNK_FRAMES_MAX);
export const RECORD_BYTES_MAX = RECORD_HEADER_BYTES_MAX + BLOCK_BYTES + CHUNK_FRAMES_MAX * FRAME_HEADER_BYTES;
export const UUID_BYTES = 16;
export const SALT_BYTES = 8;

/** Where a record lies. */
export interface RecordPlace {
  /** Of its segment. */
  readonly salt: Buffer;
  readonly offset: number;
}

/** What every record says. */
interface RecordStamp extends RecordPlace {
  readonly chunk: ChunkId;
  readonly time: Timestamp;
  readonly incarnation: number;
  readonly sequence: number;
  /** The store's stable sequence when the record was written. */
  readonly stableSequence: number;
  /** Uuid of the disk, 16 bytes. */
  readonly diskId: Buffer;
}

export interface ChunkHeader extends StoredChunk, RecordStamp {
  readonly kind: 'chunk';
  /** Stored payload bytes of each frame. */
  readonly frameLengths: readonly number[];
}

export interface TombstoneHeader extends RecordStamp {
  readonly kind: 'tombstone';
}

export type RecordHeader = ChunkHeader | TombstoneHeader;

/** Of a record of which only the lengths are known; a tombstone has none. */
export function recordBytesOf(lengths: { readonly rawLength: number; readonly storedLength: number }): number {
  return recordBytes(Math.ceil(lengths.rawLength / FRAME_BYTES), lengths.storedLength);
}

/** Header and frames. */
export function recordBytes(frameCount: number, storedLength: number): number {
  return align(recordHeaderBytes(frameCount) + storedLength);
}

export function recordHeaderBytes(frameCount: number): number {
  return align(FIXED_BYTES + 4 * frameCount);
}

export function align(length: number): number {
  return Math.ceil(length / RECORD_ALIGN_BYTES) * RECORD_ALIGN_BYTES;
}

/** Zeros from the end of the frames to the end of the record. */
export function recordPadding(frameCount: number, storedLength: number): number {
  return recordBytes(frameCount, storedLength) - recordHeaderBytes(frameCount) - storedLength;
}

export function encodeRecordHeader(record: RecordHeader): Buffer {
  const frameLengths = record.kind === 'chunk' ? record.frameLengths : [];
  const length = recordHeaderBytes(frameLengths.length);
  const bytes = Buffer.alloc(length);
  assert(
    record.diskId.length === UUID_BYTES && record.salt.length === SALT_BYTES,
    'disk id and salt have their lengths',
  );
  assert(record.offset % RECORD_ALIGN_BYTES === 0, 'records are aligned');
  bytes.writeUInt32LE(RECORD_MAGIC, 0);
  bytes.writeUInt8(RECORD_KINDS[record.kind], 4);
  bytes.writeUInt8(RECORD_VERSION, 5);
  bytes.writeUInt16LE(frameLengths.length, 6);
  bytes.writeUInt32LE(length, 8);
  chunkIdToBytes(record.chunk).copy(bytes, 16);
  bytes.writeUInt32LE(record.offset / RECORD_ALIGN_BYTES, OFFSET_AT);
  bytes.writeBigInt64LE(BigInt(record.time.seconds), 64);
  bytes.writeUInt32LE(record.time.nanos, 72);
  bytes.writeUInt32LE(record.incarnation, 84);
  bytes.writeBigUInt64LE(BigInt(record.sequence), 88);
  bytes.writeBigUInt64LE(BigInt(record.stableSequence), 96);
  record.diskId.copy(bytes, 104);
  record.salt.copy(bytes, SALT_AT);
  if (record.kind === 'chunk') writeChunkFields(bytes, record);
  bytes.writeUInt32LE(headerCrc(bytes), CRC_AT);
  return bytes;
}

function writeChunkFields(bytes: Buffer, record: ChunkHeader): void {
  assert(record.digest.length === DIGEST_BYTES, 'a digest has its length');
  bytes.writeBigUInt64LE(BigInt(record.inode), 32);
  bytes.writeUInt32LE(record.block, 40);
  bytes.writeUInt32LE(record.rawLength, 44);
  bytes.writeUInt32LE(record.storedLength, 48);
  record.digest.copy(bytes, DIGEST_AT);
  bytes.writeUInt32LE(record.epoch.generation, 76);
  bytes.writeUInt32LE(record.epoch.start, 80);
  record.frameLengths.forEach((frameLength, i) => {
    bytes.writeUInt32LE(frameLength, FIXED_BYTES + 4 * i);
  });
}

/** Reads the header at the start of `bytes`. Throws `store_damaged`, or `version_too_new` for a record of a newer program. */
export function decodeRecordHeader(bytes: Buffer): RecordHeader {
  if (bytes.length < RECORD_HEADER_BYTES_MIN) throw damaged(`there are ${bytes.length} bytes of a header`);
  if (bytes.readUInt32LE(0) !== RECORD_MAGIC) throw damaged('no record begins here');
  const frameCount = bytes.readUInt16LE(6);
  const length = bytes.readUInt32LE(8);
  if (length < RECORD_HEADER_BYTES_MIN || length > RECORD_HEADER_BYTES_MAX || length % RECORD_ALIGN_BYTES !== 0)
    throw damaged(`its header says that it has ${length} bytes`);
  if (bytes.length < length) throw damaged(`there are ${bytes.length} bytes of a header of ${length}`);
  const header = bytes.subarray(0, length);
  const crc = headerCrc(header);
  if (crc !== header.readUInt32LE(CRC_AT))
    throw damaged(`its header carries checksum ${header.readUInt32LE(CRC_AT)}, its bytes give ${crc}`);
  const kind = kindOf(header);
  if (
    frameCount > CHUNK_FRAMES_MAX ||
    (frameCount === 0) !== (kind === 'tombstone') ||
    length !== recordHeaderBytes(frameCount)
  )
    throw damaged(`its header of ${length} bytes says that it has ${frameCount} frames`);
  const stamp = {
    chunk: chunkIdFromBytes(header.subarray(16, 32)),
    offset: header.readUInt32LE(OFFSET_AT) * RECORD_ALIGN_BYTES,
    time: readTime(header),
    incarnation: header.readUInt32LE(84),
    sequence: number64(header, 88),
    stableSequence: number64(header, 96),
    diskId: Buffer.from(header.subarray(104, 120)),
    salt: Buffer.from(header.subarray(SALT_AT, SALT_AT + SALT_BYTES)),
  };
  if (kind === 'tombstone') return { kind, ...stamp };
  return checked({
    kind,
    ...stamp,
    inode: number64(header, 32) as InodeNumber,
    block: header.readUInt32LE(40),
    rawLength: header.readUInt32LE(44),
    storedLength: header.readUInt32LE(48),
    digest: Buffer.from(header.subarray(DIGEST_AT, DIGEST_AT + DIGEST_BYTES)),
    epoch: { generation: header.readUInt32LE(76), start: header.readUInt32LE(80) },
    frameLengths: Array.from({ length: frameCount }, (_unused, i) => header.readUInt32LE(FIXED_BYTES + 4 * i)),
  });
}

function kindOf(header: Buffer): RecordKind {
  const [kind, version] = [header.readUInt8(4), header.readUInt8(5)];
  if (version <= RECORD_VERSION && kind === RECORD_KINDS.chunk) return 'chunk';
  if (version <= RECORD_VERSION && kind === RECORD_KINDS.tombstone) return 'tombstone';
  throw new CollectiveError(
    'version_too_new',
    `Read a chunk record: it has version ${version} and kind ${kind}, this program knows version ${RECORD_VERSION} and kinds to ${RECORD_KINDS.tombstone}`,
  );
}

/**
 * True if a whole header lies at the start of `bytes` that says this and nothing else: `decodeRecordHeader` would take it. Makes no
 * objects: where a node reads all that it holds, most of the time would go into them.
 */
export function isHeaderOf(
  bytes: Buffer,
  { chunk, offset, rawLength, storedLength }: Pick<ChunkHeader, 'chunk' | 'offset' | 'rawLength' | 'storedLength'>,
): boolean {
  const frameCount = Math.ceil(rawLength / FRAME_BYTES);
  const length = recordHeaderBytes(frameCount);
  if (
    bytes.length < length ||
    bytes.readUInt32LE(0) !== RECORD_MAGIC ||
    bytes[4] !== RECORD_KINDS.chunk ||
    bytes[5] !== RECORD_VERSION ||
    bytes.readUInt16LE(6) !== frameCount ||
    bytes.readUInt32LE(8) !== length ||
    bytes.readUInt32LE(44) !== rawLength ||
    bytes.readUInt32LE(48) !== storedLength ||
    bytes.readUInt32LE(OFFSET_AT) * RECORD_ALIGN_BYTES !== offset ||
    NUMBERS_AT.some((at) => bytes.readUInt32LE(at + 4) >= SAFE_HIGH_WORD)
  )
    return false;
  return headerCrc(bytes.subarray(0, length)) === bytes.readUInt32LE(CRC_AT) && bytes.toString('hex', 16, 32) === chunk;
}

/** Of a header that was compared: the stored payload bytes of one of its frames. */
export function frameLengthAt(header: Buffer, frame: number): number {
  return header.readUInt32LE(FIXED_BYTES + 4 * frame);
}

/** Of a header that was compared: the digest says so of the frames. */
export function isDigestOf(header: Buffer, digest: ChunkDigest, rawLength: number): boolean {
  return digest.isAt(header, DIGEST_AT, rawLength);
}

/** True if the bytes at `at`, at least RECORD_HEADER_BYTES_MIN, may begin a record that was written to this place. */
export function looksLikeRecord(bytes: Buffer, at: number, { salt, offset }: RecordPlace): boolean {
  return (
    bytes.readUInt32LE(at) === RECORD_MAGIC &&
    bytes.readUInt32LE(at + OFFSET_AT) === offset / RECORD_ALIGN_BYTES &&
    bytes.compare(salt, 0, SALT_BYTES, at + SALT_AT, at + SALT_AT + SALT_BYTES) === 0
  );
}

/** The stored length of a chunk none of whose frames is compressed: then its frames lie where arithmetic says. */
export function plainStoredLength(rawLength: number): number {
  return rawLength + Math.ceil(rawLength / FRAME_BYTES) * FRAME_HEADER_BYTES;
}

function checked(record: ChunkHeader): ChunkHeader {
  const { frameLengths, rawLength, storedLength } = record;
  if (rawLength < 1 || rawLength > BLOCK_BYTES || frameLengths.length !== Math.ceil(rawLength / FRAME_BYTES))
    throw damaged(`it says ${rawLength} raw bytes in ${frameLengths.length} frames`);
  const sum = frameLengths.reduce((total, frameLength) => total + FRAME_HEADER_BYTES + frameLength, 0);
  if (sum !== storedLength || frameLengths.some((frameLength) => frameLength < 1 || frameLength > FRAME_BYTES))
    throw damaged(`its frames make ${sum} bytes, it says ${storedLength}`);
  return record;
}

function headerCrc(header: Buffer): number {
  return crc32(header.subarray(CRC_AT + 4), crc32(header.subarray(0, CRC_AT)));
}

function number64(bytes: Buffer, at: number): number {
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged(`it holds the number ${value}`);
  return Number(value);
}

function readTime(header: Buffer): Timestamp {
  return { seconds: Number(header.readBigInt64LE(64)), nanos: header.readUInt32LE(72) };
}

function damaged(what: string): CollectiveError {
  return new CollectiveError('store_damaged', `Read a chunk record: ${what}`);
}
