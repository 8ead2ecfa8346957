/**
 * A new segment made of records that lie elsewhere: at a start, and in compaction. It has no name that a start knows before
 * everything in it is stable and listed in a sidecar; from then on it may take the place of what it was copied from (D4).
 *
 * A copied record gets a header for its new place and keeps its sequence; its frames are copied as they lie, with the checksums
 * that they have.
 */
import { type Disk, type DiskFile, replaceWhole } from '@collective/base/disk';
import type { DiskIdentity } from './disk-identity.ts';
import { EntryList, type SidecarEntry } from './entry-list.ts';
import { encodeRecordHeader, type RecordHeader } from './record.ts';
import {
  encodeSegmentHeader,
  encodeSidecar,
  SEGMENT_FOLDER,
  SEGMENT_HEADER_BYTES,
  segmentPath,
  sidecarPath,
  unfinishedPath,
} from './segment.ts';
import { entryOf } from './segment-entries.ts';

export interface CopiedRecord {
  readonly header: RecordHeader;
  /** All behind the header, to the next multiple of 8. */
  readonly rest: Buffer;
}

export interface SegmentCopyOptions {
  readonly disk: Disk;
  readonly identity: DiskIdentity;
  readonly segment: number;
  readonly salt: Buffer;
  /** Lowest of the records to come. */
  readonly firstSequence: number;
}

export class SegmentCopy {
  readonly segment: number;
  readonly entries = new EntryList();
  readonly #options: SegmentCopyOptions;
  readonly #file: DiskFile;
  #tail = SEGMENT_HEADER_BYTES;

  static async begin(options: SegmentCopyOptions): Promise<SegmentCopy> {
    const { disk, identity, segment, salt, firstSequence } = options;
    const { diskId, incarnation } = identity;
    const file = await disk.open(unfinishedPath(segmentPath(segment)), 'create');
    const copy = new SegmentCopy(options, file);
    try {
      await file.write(0, [encodeSegmentHeader({ segment, diskId, firstSequence, incarnation, salt })]);
    } catch (error) {
      await copy.discard();
      throw error;
    }
    return copy;
  }

  private constructor(options: SegmentCopyOptions, file: DiskFile) {
    this.#options = options;
    this.#file = file;
    this.segment = options.segment;
  }

  get bytes(): number {
    return this.#tail;
  }

  async add(records: readonly CopiedRecord[]): Promise<void> {
    const { salt } = this.#options;
    const buffers: Buffer[] = [];
    const entries: SidecarEntry[] = [];
    let offset = this.#tail;
    for (const { header, rest } of records) {
      const moved = encodeRecordHeader({ ...header, salt, offset });
      buffers.push(moved, rest);
      entries.push(entryOf(header, offset));
      offset += moved.length + rest.length;
    }
    await this.#file.write(this.#tail, buffers);
    for (const entry of entries) this.entries.push(entry);
    this.#tail = offset;
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  /** Everything in it is stable, under its name. */
  async finish(): Promise<void> {
    const { disk, identity, segment } = this.#options;
    await this.#file.sync();
    await this.#file.close();
    const sidecar = { segment, diskId: identity.diskId, segmentBytes: this.#tail, entries: this.entries };
    await replaceWhole(disk, sidecarPath(segment), encodeSidecar(sidecar));
    await disk.rename(unfinishedPath(segmentPath(segment)), segmentPath(segment));
    await disk.syncDirectory(SEGMENT_FOLDER);
  }

  /** What could not be finished is taken away; what is left of it all the same, a start removes. */
  async discard(): Promise<void> {
    const { disk, segment } = this.#options;
    await Promise.allSettled([this.#file.close()]);
    const leftovers = [
      unfinishedPath(segmentPath(segment)),
      unfinishedPath(sidecarPath(segment)),
      sidecarPath(segment),
    ];
    await Promise.allSettled(leftovers.map((path) => disk.remove(path)));
  }
}
