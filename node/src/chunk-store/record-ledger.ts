/**
 * Which record of each chunk counts, and what each segment still holds of use. Of all records of a chunk that lie on the disk the
 * one with the highest sequence counts: a chunk's record, then the chunk is here, or a tombstone, then it was forgotten.
 * The others are dead. A copy has the sequence of its original; the one in the higher segment counts.
 *
 * A start builds the ledger of what it finds, in the order of the segments; afterwards every change on the disk is entered here,
 * each in one turn. Both must give the same (there is a test that compares them), else a crash would change what is here.
 */
import { assert } from '@collective/base/assert';
import type { ChunkId } from '@collective/base/ids';
import { ChunkIndex, type ChunkPlace } from './chunk-index.ts';
import { EntryList, type SidecarEntry } from './entry-list.ts';
import { Graves, type TombstonePlace } from './graves.ts';
import { recordBytesOf, TOMBSTONE_BYTES } from './record.ts';

/** Looked at between two steps. */
const STEP_RECORDS = 4_096;

export interface SegmentUse {
  readonly segment: number;
  /** Size of its file. */
  readonly bytes: number;
  /** In records that count, and tombstones that are needed. */
  readonly liveBytes: number;
}

export class RecordLedger {
  readonly index = new ChunkIndex();
  readonly #graves = new Graves();
  readonly #segments = new Map<number, { bytes: number; liveBytes: number }>();
  #usedBytes = 0;
  #liveBytes = 0;

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Chunks of which dead records lie on the disk. */
  get graveCount(): number {
    return this.#graves.count;
  }

  /** In the order of their numbers. */
  segments(): SegmentUse[] {
    return [...this.#segments]
      .map(([segment, { bytes, liveBytes }]) => ({ segment, bytes, liveBytes }))
      .sort((a, b) => a.segment - b.segment);
  }

  segmentUse(segment: number): SegmentUse | undefined {
    const use = this.#segments.get(segment);
    return use === undefined ? undefined : { segment, ...use };
  }

  /** The chunks that lie in the segment, in its order. Looks at all that are here: for what its sidecar does not tell. */
  chunksIn(segment: number): EntryList {
    const entries = new EntryList();
    for (const { chunk, place } of this.index.all())
      if (place.segment === segment) entries.push({ kind: 'chunk', chunk, sequence: 0, ...place });
    return entries.inOrder();
  }

  // While the store is opened.

  /** A record that a start found. */
  found(segment: number, entry: SidecarEntry): void {
    const { kind, chunk, offset, sequence } = entry;
    const counts = this.outranks(entry) || sequence === this.index.sequenceOf(chunk);
    if (kind === 'tombstone') {
      if (sequence < this.#graves.sequenceOf(chunk)) return;
      this.#entomb(chunk, { segment, offset }, sequence);
      if (counts) this.#buryLive(chunk);
    } else if (counts) {
      this.#buryLive(chunk);
      this.#enter(chunk, { ...entry, segment }, sequence);
    } else {
      this.#graves.bury(chunk);
    }
  }

  /** True if the record counts more than all that were found of its chunk. */
  outranks({ chunk, sequence }: Pick<SidecarEntry, 'chunk' | 'sequence'>): boolean {
    return sequence > Math.max(this.index.sequenceOf(chunk), this.#graves.sequenceOf(chunk));
  }

  /** Everything was found. */
  settle(): void {
    for (const { segment } of this.#graves.settle()) this.#use(segment, -TOMBSTONE_BYTES);
    this.index.settle();
  }

  // Afterwards.

  segmentHasSize(segment: number, bytes: number): void {
    const use = this.#segments.get(segment);
    this.#usedBytes += bytes - (use?.bytes ?? 0);
    if (use === undefined) this.#segments.set(segment, { bytes, liveBytes: 0 });
    else use.bytes = bytes;
  }

  /** A chunk was written; a record of it that was here before is dead. */
  put(chunk: ChunkId, place: ChunkPlace): void {
    this.#buryLive(chunk);
    this.#enter(chunk, place);
  }

  /** A tombstone was written: the chunk is not here any more. */
  forgotten(chunk: ChunkId, place: TombstonePlace): void {
    this.#buryLive(chunk);
    if (this.#graves.records(chunk) > 0) this.#entomb(chunk, place);
  }

  /** True if the record at this place counts or is a tombstone that is needed. */
  isLive(segment: number, { kind, chunk, offset }: SidecarEntry): boolean {
    const place = kind === 'chunk' ? this.index.get(chunk) : this.#graves.tombstone(chunk);
    return place !== undefined && place.segment === segment && place.offset === offset;
  }

  deadRecords(chunk: ChunkId): number {
    return this.#graves.records(chunk);
  }

  /** The record was copied from the one place to the other, where it counts from now on if it still does. */
  copied(segment: number, entry: SidecarEntry, to: TombstonePlace): void {
    const { kind, chunk } = entry;
    const live = this.isLive(segment, entry);
    if (kind === 'tombstone') {
      if (live) this.#entomb(chunk, to);
      return;
    }
    // There are two of it now, and one is dead: the original, or the copy if the chunk was forgotten meanwhile.
    if (live) this.put(chunk, { ...entry, segment: to.segment, offset: to.offset });
    else this.#graves.bury(chunk);
  }

  /**
   * The segment has left the disk, and that is stable. Steps through its records, so that others can have a turn: until the end some
   * of what was dead there is still counted, which keeps tombstones longer and nothing else.
   */
  *removed(segment: number, entries: EntryList): Generator<void, void, undefined> {
    let looked = 0;
    for (const entry of entries) {
      if (++looked % STEP_RECORDS === 0) yield;
      if (entry.kind === 'tombstone') {
        // All that it covered went with it or before; what of its chunk is dead elsewhere is younger.
        if (this.isLive(segment, entry)) this.#dropTombstone(entry.chunk);
        continue;
      }
      assert(!this.isLive(segment, entry), `chunk ${entry.chunk} does not count where it is removed`);
      const tombstone = this.#graves.tombstone(entry.chunk);
      if (this.#graves.unbury(entry.chunk) && tombstone !== undefined) this.#use(tombstone.segment, -TOMBSTONE_BYTES);
    }
    const use = this.#segments.get(segment);
    assert(use?.liveBytes === 0, `nothing that counts is removed with segment ${segment}`);
    this.#usedBytes -= use.bytes;
    this.#segments.delete(segment);
  }

  #enter(chunk: ChunkId, place: ChunkPlace, sequence?: number): void {
    this.index.set(chunk, place, sequence);
    this.#use(place.segment, recordBytesOf(place));
  }

  #buryLive(chunk: ChunkId): void {
    const place = this.index.get(chunk);
    if (place === undefined) return;
    this.index.remove(chunk);
    this.#use(place.segment, -recordBytesOf(place));
    this.#graves.bury(chunk);
  }

  #entomb(chunk: ChunkId, place: TombstonePlace, sequence?: number): void {
    this.#dropTombstone(chunk);
    this.#graves.setTombstone(chunk, place, sequence);
    this.#use(place.segment, TOMBSTONE_BYTES);
  }

  #dropTombstone(chunk: ChunkId): void {
    const place = this.#graves.dropTombstone(chunk);
    if (place !== undefined) this.#use(place.segment, -TOMBSTONE_BYTES);
  }

  #use(segment: number, bytes: number): void {
    this.#liveBytes += bytes;
    const use = this.#segments.get(segment);
    assert(use !== undefined && use.liveBytes + bytes >= 0, `segment ${segment} holds what is taken from it`);
    use.liveBytes += bytes;
  }
}
