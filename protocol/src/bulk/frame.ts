/**
 * The frame of bulk connections and of chunk records on disk (D5, D6), byte by byte, without any I/O: see
 * docs/formats/frame.md. A chunk's data frames are stored as they were received, so a read sends what lies on the disk.
 *
 * The checksum covers everything but the stream id: a hop or a disk can put its own id there and need not touch the rest.
 * Nothing of a frame is believed before its checksum was compared, except its length, which is bounded first.
 */
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';

export const FRAME_HEADER_BYTES = 24;
/** Payload of every frame but DATA. */
export const CONTROL_PAYLOAD_BYTES_MAX = 64 * 1024;
/** Flag: the payload is one zstd frame of `rawLength` bytes. */
export const FLAG_ZSTD = 1;
/** Data frames of the largest chunk. */
export const CHUNK_FRAMES_MAX = BLOCK_BYTES / FRAME_BYTES;

export const FRAME_TYPES = {
  HELLO: 1,
  WELCOME: 2,
  PUT_BEGIN: 3,
  DATA: 4,
  PUT_END: 5,
  PUT_OUTCOME: 6,
  GET_BEGIN: 7,
  GET_END: 8,
  SYNC_BEGIN: 9,
  SYNC_DONE: 10,
  CANCEL: 11,
  FAILURE: 12,
  PING: 13,
  PONG: 14,
} as const;

export type FrameTypeName = keyof typeof FRAME_TYPES;
export type FrameType = (typeof FRAME_TYPES)[FrameTypeName];

const TYPE_NAMES: ReadonlyMap<number, FrameTypeName> = new Map(
  Object.entries(FRAME_TYPES).map(([name, value]) => [value, name as FrameTypeName]),
);

export interface FrameHeader {
  readonly stream: number;
  /** Of bytes 8..24 and the payload. */
  readonly crc: number;
  readonly type: FrameType;
  readonly zstd: boolean;
  /** Bytes of the payload as it is sent and stored. */
  readonly storedLength: number;
  /** Bytes of the payload when it is not compressed. */
  readonly rawLength: number;
  /** Where the raw bytes begin in their chunk; 0 for all but DATA. */
  readonly rawOffset: number;
}

/** A whole frame whose checksum was compared. */
export interface Frame extends FrameHeader {
  /** As it arrived, in one or several pieces: views, not copies. */
  readonly payload: readonly Uint8Array[];
  /** Gives the payload's memory back to the decoder that made it. The payload must not be used after; a frame that is not released is simply garbage. */
  release(): void;
}

export function frameTypeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `type ${type}`;
}

/** The payload in one piece; copies only if it arrived in several. */
export function payloadOf(frame: Frame): Buffer {
  const [first] = frame.payload;
  if (first === undefined) return Buffer.alloc(0);
  if (frame.payload.length === 1) return Buffer.from(first.buffer, first.byteOffset, first.byteLength);
  return Buffer.concat(frame.payload, frame.storedLength);
}

/** Checks all but the checksum. `at` is where the 24 bytes begin. */
export function readFrameHeader(bytes: Buffer, at = 0): FrameHeader {
  const type = bytes.readUInt8(at + 8);
  const flags = bytes.readUInt8(at + 9);
  const reserved = bytes.readUInt16LE(at + 10);
  const storedLength = bytes.readUInt32LE(at + 12);
  const rawLength = bytes.readUInt32LE(at + 16);
  const rawOffset = bytes.readUInt32LE(at + 20);
  const name = TYPE_NAMES.get(type);
  if (name === undefined) throw invalid(`its type ${type} is unknown`);
  if (reserved !== 0) throw invalid(`${name} has ${reserved} in its reserved bytes`);
  if (name === 'DATA') checkDataLengths(flags, storedLength, rawLength, rawOffset);
  else checkControlLengths(name, flags, storedLength, rawLength, rawOffset);
  return {
    stream: bytes.readUInt32LE(at),
    crc: bytes.readUInt32LE(at + 4),
    type: type as FrameType,
    zstd: flags === FLAG_ZSTD,
    storedLength,
    rawLength,
    rawOffset,
  };
}

/** Compares the checksum of a frame that lies whole in `bytes` from `at`; the header was read before. */
export function verifyFrame(bytes: Buffer, at: number, header: FrameHeader): void {
  const crc = crc32(bytes.subarray(at + 8, at + FRAME_HEADER_BYTES + header.storedLength));
  if (crc !== header.crc) throw badChecksum(header, crc);
}

/** Reads and verifies the frame at `at`; refuses one that is not whole. */
export function readFrame(bytes: Buffer, at = 0): FrameHeader {
  if (bytes.length - at < FRAME_HEADER_BYTES)
    throw invalid(`there are ${Math.max(0, bytes.length - at)} bytes of a header of ${FRAME_HEADER_BYTES}`);
  const header = readFrameHeader(bytes, at);
  const present = bytes.length - at - FRAME_HEADER_BYTES;
  if (present < header.storedLength)
    throw invalid(`${frameTypeName(header.type)} has ${present} bytes of a payload of ${header.storedLength}`);
  verifyFrame(bytes, at, header);
  return header;
}

export interface DataFacts {
  readonly zstd: boolean;
  readonly rawLength: number;
  readonly rawOffset: number;
}

/** Completes a DATA frame whose payload already lies at byte 24 of `frame`; the stream id becomes 0. Returns its checksum. */
export function sealDataFrame(frame: Buffer, facts: DataFacts): number {
  const storedLength = frame.length - FRAME_HEADER_BYTES;
  const flags = facts.zstd ? FLAG_ZSTD : 0;
  checkDataLengths(flags, storedLength, facts.rawLength, facts.rawOffset);
  return writeHeader(frame, FRAME_TYPES.DATA, flags, facts.rawLength, facts.rawOffset);
}

/** A frame that is not DATA, in one piece. */
export function encodeControlFrame(type: Exclude<FrameTypeName, 'DATA'>, stream: number, payload: Uint8Array): Buffer {
  if (payload.length > CONTROL_PAYLOAD_BYTES_MAX)
    throw invalid(`${type} would have a payload of ${payload.length} bytes, more than ${CONTROL_PAYLOAD_BYTES_MAX}`);
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  frame.set(payload, FRAME_HEADER_BYTES);
  writeHeader(frame, FRAME_TYPES[type], 0, payload.length, 0);
  frame.writeUInt32LE(stream, 0);
  return frame;
}

/** Copies a received frame to `into`, in one piece with stream id 0, and gives its memory back. Returns where it ends. */
export function copyFrame(frame: Frame, into: Buffer, at: number): number {
  into.writeUInt32LE(0, at);
  into.writeUInt32LE(frame.crc, at + 4);
  into.writeUInt8(frame.type, at + 8);
  into.writeUInt8(frame.zstd ? FLAG_ZSTD : 0, at + 9);
  into.writeUInt16LE(0, at + 10);
  into.writeUInt32LE(frame.storedLength, at + 12);
  into.writeUInt32LE(frame.rawLength, at + 16);
  into.writeUInt32LE(frame.rawOffset, at + 20);
  let end = at + FRAME_HEADER_BYTES;
  for (const piece of frame.payload) {
    into.set(piece, end);
    end += piece.length;
  }
  frame.release();
  return end;
}

/** The headers of the whole frames in `frames`, in order. Throws `frame_invalid`; checksums are not compared. */
export function* frameHeaders(frames: Buffer): Generator<FrameHeader, void, undefined> {
  for (let at = 0; at < frames.length; ) {
    if (frames.length - at < FRAME_HEADER_BYTES) throw invalid(`there are ${frames.length - at} bytes of a header`);
    const header = readFrameHeader(frames, at);
    at += FRAME_HEADER_BYTES + header.storedLength;
    if (at > frames.length) throw invalid(`${frameTypeName(header.type)} ends ${at - frames.length} bytes too late`);
    yield header;
  }
}

/** Writes `stream` into each of the whole frames in `frames`. */
export function stampStream(frames: Buffer, stream: number): void {
  for (let at = 0; at < frames.length; at += FRAME_HEADER_BYTES + frames.readUInt32LE(at + 12))
    frames.writeUInt32LE(stream, at);
}

function writeHeader(frame: Buffer, type: FrameType, flags: number, rawLength: number, rawOffset: number): number {
  frame.writeUInt32LE(0, 0);
  frame.writeUInt8(type, 8);
  frame.writeUInt8(flags, 9);
  frame.writeUInt16LE(0, 10);
  frame.writeUInt32LE(frame.length - FRAME_HEADER_BYTES, 12);
  frame.writeUInt32LE(rawLength, 16);
  frame.writeUInt32LE(rawOffset, 20);
  const crc = crc32(frame.subarray(8));
  frame.writeUInt32LE(crc, 4);
  return crc;
}

function checkDataLengths(flags: number, storedLength: number, rawLength: number, rawOffset: number): void {
  if (flags !== 0 && flags !== FLAG_ZSTD) throw invalid(`DATA has the unknown flags ${flags}`);
  if (rawLength < 1 || rawLength > FRAME_BYTES)
    throw invalid(`DATA says ${rawLength} raw bytes; 1 to ${FRAME_BYTES} are possible`);
  if (flags === 0 && storedLength !== rawLength)
    throw invalid(`DATA is not compressed and has ${storedLength} stored but ${rawLength} raw bytes`);
  if (flags === FLAG_ZSTD && (storedLength < 1 || storedLength >= rawLength))
    throw invalid(`DATA is compressed from ${rawLength} to ${storedLength} bytes, which saves nothing`);
  if (rawOffset % FRAME_BYTES !== 0 || rawOffset + rawLength > BLOCK_BYTES)
    throw invalid(`DATA lies at raw offset ${rawOffset} with ${rawLength} bytes: not a frame of a chunk`);
}

function checkControlLengths(
  name: string,
  flags: number,
  storedLength: number,
  rawLength: number,
  rawOffset: number,
): void {
  if (flags !== 0) throw invalid(`${name} has the unknown flags ${flags}`);
  if (storedLength > CONTROL_PAYLOAD_BYTES_MAX)
    throw invalid(`${name} has a payload of ${storedLength} bytes, more than ${CONTROL_PAYLOAD_BYTES_MAX}`);
  if (rawLength !== storedLength || rawOffset !== 0)
    throw invalid(`${name} has ${storedLength} stored bytes but says ${rawLength} raw at offset ${rawOffset}`);
}

export function badChecksum(header: FrameHeader, computed: number): CollectiveError {
  const hex = (crc: number): string => crc.toString(16).padStart(8, '0');
  const where = header.type === FRAME_TYPES.DATA ? ` at raw offset ${header.rawOffset}` : '';
  return invalid(
    `${frameTypeName(header.type)}${where} carries checksum ${hex(header.crc)}, its bytes give ${hex(computed)}`,
  );
}

function invalid(what: string): CollectiveError {
  return new CollectiveError('frame_invalid', `Read a bulk frame: ${what}`);
}
