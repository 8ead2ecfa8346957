/**
 * Compares every checksum of a chunk's record that was read whole: header, frames, and the digest over them (D2, D5). A flipped bit
 * anywhere but in the frames' stream ids, which mean nothing on disk, and in the zeros behind the last frame is found.
 */
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import { ChunkDigest } from '@collective/protocol/bulk/encode-chunk';
import { FRAME_HEADER_BYTES, FRAME_TYPES, readFrame } from '@collective/protocol/bulk/frame';
import {
  type ChunkHeader,
  decodeRecordHeader,
  frameLengthAt,
  isDigestOf,
  isHeaderOf,
  recordHeaderBytes,
} from './record.ts';

/** What is known of a record before it is read. */
export interface ExpectedRecord {
  readonly chunk: ChunkId;
  readonly offset: number;
  readonly rawLength: number;
  readonly storedLength: number;
}

/**
 * True only where `verifyRecord` would find nothing wrong: all that it compares is compared, and nothing is made of it. Who gets
 * false asks `verifyRecord` what is wrong.
 */
export function isWholeRecord(record: Buffer, expected: ExpectedRecord): boolean {
  if (!isHeaderOf(record, expected)) return false;
  const { rawLength, storedLength } = expected;
  const frameCount = Math.ceil(rawLength / FRAME_BYTES);
  const digest = new ChunkDigest();
  const start = recordHeaderBytes(frameCount);
  let at = start;
  try {
    for (let frame = 0; frame < frameCount; frame++) {
      const { storedLength: frameLength, crc } = verifyFrameAt(record, at, frame);
      if (frameLength !== frameLengthAt(record, frame)) return false;
      digest.add(crc);
      at += FRAME_HEADER_BYTES + frameLength;
    }
  } catch (error) {
    if (error instanceof CollectiveError) return false;
    throw error;
  }
  return at - start === storedLength && isDigestOf(record, digest, rawLength);
}

/** Throws `store_damaged` or `frame_invalid`. */
export function verifyRecord(record: Buffer, expected: ExpectedRecord): ChunkHeader {
  const header = verifyHeader(record, expected);
  const digest = new ChunkDigest();
  const start = recordHeaderBytes(header.frameLengths.length);
  const frames = record.subarray(start, start + header.storedLength);
  let at = 0;
  for (const [i, length] of header.frameLengths.entries()) {
    const frame = verifyFrameAt(frames, at, i);
    if (frame.storedLength !== length)
      throw damaged(expected, `frame ${i} has ${frame.storedLength} bytes, its header says ${length}`);
    digest.add(frame.crc);
    at += FRAME_HEADER_BYTES + length;
  }
  if (!digest.finish(header.rawLength).equals(header.digest))
    throw damaged(expected, 'its frames do not give its digest');
  return header;
}

/** The record's header, if it is that of the expected one. */
export function verifyHeader(bytes: Buffer, expected: ExpectedRecord): ChunkHeader {
  const header = decodeRecordHeader(bytes);
  if (
    header.kind !== 'chunk' ||
    header.chunk !== expected.chunk ||
    header.offset !== expected.offset ||
    header.rawLength !== expected.rawLength ||
    header.storedLength !== expected.storedLength
  )
    throw damaged(expected, 'another record lies in its place');
  return header;
}

/** The frame that begins at `at` and must be number `frame` of its chunk. Answers its header. */
export function verifyFrameAt(bytes: Buffer, at: number, frame: number): ReturnType<typeof readFrame> {
  const header = readFrame(bytes, at);
  if (header.type !== FRAME_TYPES.DATA || header.rawOffset !== frame * FRAME_BYTES)
    throw new CollectiveError('frame_invalid', `Read a stored frame: it belongs at ${header.rawOffset}`);
  return header;
}

function damaged({ chunk, offset }: ExpectedRecord, what: string): CollectiveError {
  return new CollectiveError('store_damaged', `Read the record of chunk ${chunk} at ${offset}: ${what}`);
}
