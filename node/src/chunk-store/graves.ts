/**
 * The chunks of which dead records lie on the disk: how many, and where the tombstone is that keeps them dead. A tombstone is
 * needed as long as one of them exists and not a moment less (D4): a start goes by what it finds, and would take a record
 * whose tombstone is gone for a chunk. 46 to 91 bytes a chunk, until compaction has removed the dead records.
 */
import type { ChunkId } from '@collective/base/ids';
import { ChunkTable } from './chunk-table.ts';
import { RECORD_ALIGN_BYTES } from './record.ts';

export interface TombstonePlace {
  readonly segment: number;
  readonly offset: number;
}

/** Dead records plus 1, because it must never be 0. */
const RECORDS = 0;
/** 0: there is no tombstone. The records are dead because a newer one of the same chunk counts. */
const SEGMENT = 1;
const OFFSET = 2;
const PAYLOAD_WORDS = 3;

export class Graves {
  readonly #table = new ChunkTable(PAYLOAD_WORDS);

  get count(): number {
    return this.#table.count;
  }

  /** Dead records of the chunk. */
  records(chunk: ChunkId): number {
    const at = this.#table.find(chunk);
    return at === undefined ? 0 : this.#table.get(at, RECORDS) - 1;
  }

  tombstone(chunk: ChunkId): TombstonePlace | undefined {
    const at = this.#table.find(chunk);
    if (at === undefined || this.#table.get(at, SEGMENT) === 0) return undefined;
    return { segment: this.#table.get(at, SEGMENT), offset: this.#table.get(at, OFFSET) * RECORD_ALIGN_BYTES };
  }

  /** Sequence of the tombstone, until the graves are settled; 0 if there is none. */
  sequenceOf(chunk: ChunkId): number {
    const at = this.#table.find(chunk);
    return at === undefined ? 0 : this.#table.rank(at);
  }

  /** One more dead record of the chunk is on the disk. */
  bury(chunk: ChunkId): void {
    const at = this.#slotOf(chunk);
    this.#table.set(at, RECORDS, this.#table.get(at, RECORDS) + 1);
  }

  /** One dead record has left the disk. True if it was the last: the grave is gone, and its tombstone covers nothing. */
  unbury(chunk: ChunkId): boolean {
    const at = this.#table.find(chunk);
    if (at === undefined) return false;
    const records = this.#table.get(at, RECORDS) - 1;
    if (records > 1) {
      this.#table.set(at, RECORDS, records);
      return false;
    }
    this.#table.remove(at);
    return true;
  }

  setTombstone(chunk: ChunkId, place: TombstonePlace, sequence = 0): void {
    const at = this.#slotOf(chunk);
    this.#table.set(at, SEGMENT, place.segment);
    this.#table.set(at, OFFSET, place.offset / RECORD_ALIGN_BYTES);
    this.#table.setRank(at, sequence);
  }

  dropTombstone(chunk: ChunkId): TombstonePlace | undefined {
    const place = this.tombstone(chunk);
    const at = this.#table.find(chunk);
    if (at !== undefined) this.#table.set(at, SEGMENT, 0);
    return place;
  }

  /** Gives up the ranks, and takes the graves without records away: their tombstones are answered. */
  settle(): TombstonePlace[] {
    const empty: ChunkId[] = [];
    for (const at of this.#table.slots()) if (this.#table.get(at, RECORDS) === 1) empty.push(this.#table.chunkAt(at));
    const tombstones: TombstonePlace[] = [];
    for (const chunk of empty) {
      const place = this.tombstone(chunk);
      if (place !== undefined) tombstones.push(place);
      const at = this.#table.find(chunk);
      if (at !== undefined) this.#table.remove(at);
    }
    this.#table.settle();
    return tombstones;
  }

  #slotOf(chunk: ChunkId): number {
    const found = this.#table.find(chunk);
    if (found !== undefined) return found;
    const at = this.#table.insert(chunk);
    this.#table.set(at, RECORDS, 1);
    return at;
  }
}
