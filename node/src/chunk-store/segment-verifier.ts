/**
 * Reads the chunks of a whole segment from the disk, in their order and in large pieces, and compares every checksum (D8). What
 * looks damaged is read once more by itself: it may have been moved or forgotten meanwhile, and only what counts is told.
 *
 * The disk itself is asked, where the file system can do that: what the kernel remembers of a segment says nothing about what became of it.
 * Elsewhere the kernel may answer, and the piece says so.
 */
import { CollectiveError } from '@collective/base/errors';
import type { SidecarEntry } from './entry-list.ts';
import { recordBytesOf } from './record.ts';
import type { RecordLedger, SegmentUse } from './record-ledger.ts';
import type { RecordReader } from './record-reader.ts';
import { readSealed, type SegmentFolder } from './segment-entries.ts';
import type { SegmentReaders } from './segment-readers.ts';
import { type SweptRecord, sweepRecords } from './segment-sweep.ts';
import type { SegmentWriter } from './segment-writer.ts';
import { isWholeRecord, verifyRecord } from './verify-record.ts';

export interface VerifiedPiece {
  readonly bytes: number;
  /** Chunks that were found damaged. */
  readonly damaged: number;
  /** The disk itself has answered. */
  readonly isDirect: boolean;
}

export interface SegmentVerifierParts {
  readonly folder: SegmentFolder;
  readonly ledger: RecordLedger;
  readonly writer: SegmentWriter;
  /** Both past the kernel's memory. */
  readonly readers: SegmentReaders;
  readonly reader: RecordReader;
}

export class SegmentVerifier {
  readonly #parts: SegmentVerifierParts;

  constructor(parts: SegmentVerifierParts) {
    this.#parts = parts;
  }

  /** In the order of their numbers. */
  segments(): SegmentUse[] {
    return this.#parts.ledger.segments();
  }

  /**
   * Verifies the chunks that count in the segment now, in pieces of about so many bytes; nothing for a segment that is gone.
   * Throws `disk_failed` when the segment cannot be read for a reason that says nothing about its bytes.
   *
   * One that is written to is sealed first. Only what counts is verified, and a start that finds the records of an unsealed segment by
   * their headers would refuse over the bad header of one that counts no more (D4).
   */
  async *verify(segment: number, pieceBytes: number): AsyncGenerator<VerifiedPiece, void, undefined> {
    const { ledger, readers, writer } = this.#parts;
    if (writer.isOpen(segment)) await writer.sealActive();
    const chunks = liveChunks(ledger, segment, await this.#entriesOf(segment));
    let isDirect = true;
    const read = (offset: number, into: Buffer): Promise<number> =>
      readers.use(segment, (file) => {
        isDirect &&= file.isDirect;
        return file.readInto(offset, into);
      });
    for await (const records of sweepRecords(read, chunks, { pieceBytes, sideBySide: true })) {
      let [bytes, damaged] = [0, 0];
      for (const record of records) {
        bytes += recordBytesOf(record.entry);
        if (!isWhole(record) && (await this.#isDamaged(segment, record.entry))) damaged++;
      }
      yield { bytes, damaged, isDirect };
    }
  }

  async #entriesOf(segment: number): Promise<Iterable<SidecarEntry>> {
    const { folder, ledger, writer } = this.#parts;
    const open = writer.entriesOf(segment);
    if (open !== undefined) return open;
    try {
      return (await readSealed(folder, segment)).entries;
    } catch (error) {
      if (ledger.segmentUse(segment) === undefined) return [];
      // Neither the sidecar nor the segment says what it holds; what the store knows of it is all that can be asked for.
      folder.log.error({ segment, err: error }, 'records of a segment unknown');
      return ledger.chunksIn(segment);
    }
  }

  async #isDamaged(segment: number, entry: SidecarEntry): Promise<boolean> {
    const { ledger, reader } = this.#parts;
    if (!ledger.isLive(segment, entry)) return false;
    try {
      await reader.verify(entry.chunk);
      return false;
    } catch (error) {
      if (!(error instanceof CollectiveError)) throw error;
      if (error.code === 'chunk_missing') return false;
      if (error.code === 'chunk_corrupt') return true;
      throw error;
    }
  }
}

function* liveChunks(
  ledger: RecordLedger,
  segment: number,
  entries: Iterable<SidecarEntry>,
): Generator<SidecarEntry, void, undefined> {
  for (const entry of entries) if (entry.kind === 'chunk' && ledger.isLive(segment, entry)) yield entry;
}

function isWhole({ entry, bytes, error }: SweptRecord): boolean {
  if (error !== undefined) return false;
  if (isWholeRecord(bytes, entry)) return true;
  try {
    verifyRecord(bytes, entry);
    return true;
  } catch (thrown) {
    if (thrown instanceof CollectiveError) return false;
    throw thrown;
  }
}
