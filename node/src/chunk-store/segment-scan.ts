/**
 * Finds the records of a segment by reading it: to rebuild a sidecar, and after a crash. Where no record begins, it looks for
 * the next one and reports the bytes between; whether a crash explains them is for `recovery.ts` to judge.
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
} from './record.ts';
import { SEGMENT_HEADER_BYTES } from './segment.ts';

const WINDOW_BYTES = 1024 * 1024;

export type ScanStep =
  | { readonly kind: 'record'; readonly header: RecordHeader; readonly offset: number; readonly bytes: number }
  /** Bytes in which no whole record lies; `to` is where the next begins, or the end. */
  | { readonly kind: 'gap'; readonly from: number; readonly to: number };

/** Steps in order, from behind the segment's header to its end. Throws `version_too_new` for a whole record of a newer program. */
export async function* scanSegment(file: DiskFile, size: number): AsyncGenerator<ScanStep, void, undefined> {
  const window = new Window(file, size);
  let offset = SEGMENT_HEADER_BYTES;
  while (offset < size) {
    const header = await recordAt(window, offset, size);
    if (header !== undefined) {
      const bytes = recordBytes(header.frameLengths.length, header.storedLength);
      yield { kind: 'record', header, offset, bytes };
      offset += bytes;
      continue;
    }
    const next = await findRecord(window, offset + RECORD_ALIGN_BYTES, size);
    yield { kind: 'gap', from: offset, to: next };
    offset = next;
  }
}

/** The record at `offset` if it lies whole in the segment; its frames are not looked at. */
async function recordAt(window: Window, offset: number, size: number): Promise<RecordHeader | undefined> {
  const bytes = await window.read(offset, RECORD_HEADER_BYTES_MAX);
  if (bytes.length < RECORD_HEADER_BYTES_MIN || !looksLikeRecord(bytes, 0)) return undefined;
  try {
    const header = decodeRecordHeader(bytes);
    return offset + recordBytes(header.frameLengths.length, header.storedLength) <= size ? header : undefined;
  } catch (error) {
    if (error instanceof CollectiveError && error.code === 'store_damaged') return undefined;
    throw error;
  }
}

async function findRecord(window: Window, from: number, size: number): Promise<number> {
  for (let offset = from; offset + RECORD_HEADER_BYTES_MIN <= size; ) {
    const bytes = await window.read(offset, WINDOW_BYTES);
    for (let at = 0; at + 4 <= bytes.length; at += RECORD_ALIGN_BYTES) {
      if (looksLikeRecord(bytes, at) && (await recordAt(window, offset + at, size)) !== undefined) return offset + at;
    }
    offset += Math.max(RECORD_ALIGN_BYTES, bytes.length - (bytes.length % RECORD_ALIGN_BYTES));
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
