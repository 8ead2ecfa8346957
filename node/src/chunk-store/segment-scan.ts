/**
 * Finds the records of a segment by reading it: to rebuild a sidecar, and after a crash. Where no record begins, it looks for
 * the next one and reports the bytes between; whether a crash explains them is for `recovery.ts` to judge.
 *
 * It looks through the content of chunks then, so a record must carry the segment's salt and its own offset. Both are compared
 * before a checksum is computed: content that was made to look like records costs no more than a read.
 */
import type { DiskFile } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import {
  decodeRecordHeader,
  looksLikeRecord,
  RECORD_ALIGN_BYTES,
  RECORD_HEADER_BYTES_MAX,
  RECORD_HEADER_BYTES_MIN,
  type RecordHeader,
  recordBytes,
  TOMBSTONE_BYTES,
} from './record.ts';
import { decodeSegmentHeader, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment.ts';

const WINDOW_BYTES = 1024 * 1024;

export type ScanStep =
  | { readonly kind: 'record'; readonly header: RecordHeader; readonly offset: number; readonly bytes: number }
  /** Bytes in which no whole record lies; `to` is where the next begins, or the end. */
  | { readonly kind: 'gap'; readonly from: number; readonly to: number };

/**
 * The header of a segment that is to be scanned. If it is damaged, the first record, which is always right behind it, tells the
 * same; undefined when both are damaged, or nothing was written yet.
 */
export async function readSegmentHeader(file: DiskFile, segment: number): Promise<SegmentHeader | undefined> {
  const bytes = await file.read(0, SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES_MAX);
  const header = decodeSegmentHeader(bytes);
  if (header !== undefined) return header;
  const first = decodeIfWhole(bytes.subarray(SEGMENT_HEADER_BYTES));
  if (first === undefined || first.offset !== SEGMENT_HEADER_BYTES) return undefined;
  const { diskId, sequence, incarnation, salt } = first;
  return { segment, diskId, firstSequence: sequence, incarnation, salt };
}

/** Steps in order, from behind the segment's header to its end. Throws `version_too_new` for a whole record of a newer program. */
export async function* scanSegment(
  file: DiskFile,
  size: number,
  salt: Buffer,
): AsyncGenerator<ScanStep, void, undefined> {
  const window = new Window(file, size);
  let offset = SEGMENT_HEADER_BYTES;
  while (offset < size) {
    const header = await recordAt(window, offset, size, salt);
    if (header !== undefined) {
      const bytes = bytesOf(header);
      yield { kind: 'record', header, offset, bytes };
      offset += bytes;
      continue;
    }
    const next = await findRecord(window, offset + RECORD_ALIGN_BYTES, size, salt);
    yield { kind: 'gap', from: offset, to: next };
    offset = next;
  }
}

/** The record at `offset` if it lies whole in the segment; its frames are not looked at. */
async function recordAt(window: Window, offset: number, size: number, salt: Buffer): Promise<RecordHeader | undefined> {
  const bytes = await window.read(offset, RECORD_HEADER_BYTES_MAX);
  if (bytes.length < RECORD_HEADER_BYTES_MIN || !looksLikeRecord(bytes, 0, { salt, offset })) return undefined;
  const header = decodeIfWhole(bytes);
  if (header === undefined) return undefined;
  return offset + bytesOf(header) <= size ? header : undefined;
}

function bytesOf(header: RecordHeader): number {
  return header.kind === 'chunk' ? recordBytes(header.frameLengths.length, header.storedLength) : TOMBSTONE_BYTES;
}

function decodeIfWhole(bytes: Buffer): RecordHeader | undefined {
  try {
    return decodeRecordHeader(bytes);
  } catch (error) {
    if (error instanceof CollectiveError && error.code === 'store_damaged') return undefined;
    throw error;
  }
}

async function findRecord(window: Window, from: number, size: number, salt: Buffer): Promise<number> {
  for (let offset = from; offset + RECORD_HEADER_BYTES_MIN <= size; ) {
    const bytes = await window.read(offset, WINDOW_BYTES);
    let at = 0;
    for (; at + RECORD_HEADER_BYTES_MIN <= bytes.length; at += RECORD_ALIGN_BYTES) {
      if (!looksLikeRecord(bytes, at, { salt, offset: offset + at })) continue;
      if ((await recordAt(window, offset + at, size, salt)) !== undefined) return offset + at;
    }
    offset += at;
  }
  return size;
}

/** Reads ahead, so that small records do not cost a read each. */
class Window {
  readonly #file: DiskFile;
  readonly #size: number;
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(file: DiskFile, size: number) {
    this.#file = file;
    this.#size = size;
  }

  /** Fewer bytes only at the end of the segment. Valid until the next call. */
  async read(offset: number, length: number): Promise<Buffer> {
    const wanted = Math.min(length, this.#size - offset);
    if (offset < this.#start || offset + wanted > this.#start + this.#bytes.length) {
      this.#bytes = await this.#file.read(offset, Math.min(Math.max(wanted, WINDOW_BYTES), this.#size - offset));
      this.#start = offset;
    }
    return this.#bytes.subarray(offset - this.#start, offset - this.#start + wanted);
  }
}
