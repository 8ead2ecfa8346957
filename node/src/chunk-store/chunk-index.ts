/**
 * Where each chunk lies, in memory: 46 to 91 bytes a chunk, 57 to 114 while the store is opened. Rebuilt from sidecars and
 * segments at every start.
 */
import { assert } from '@collective/base/assert';
import type { ChunkId } from '@collective/base/ids';
import { InventoryDigest } from '@collective/protocol/bulk/inventory-digest';
import { ChunkTable } from './chunk-table.ts';
import { RECORD_ALIGN_BYTES } from './record.ts';

export interface ChunkPlace {
  readonly segment: number;
  /** Of the record in its segment, in bytes. */
  readonly offset: number;
  readonly rawLength: number;
  readonly storedLength: number;
}

/** First, because it is never 0: no chunk is empty. */
const STORED_LENGTH = 0;
const RAW_LENGTH = 1;
const SEGMENT = 2;
const OFFSET = 3;
const PAYLOAD_WORDS = 4;

export class ChunkIndex {
  readonly #inventory = new InventoryDigest();
  readonly #table = new ChunkTable(PAYLOAD_WORDS);

  get count(): number {
    return this.#table.count;
  }

  get inventoryDigest(): number {
    return this.#inventory.value;
  }

  has(chunk: ChunkId): boolean {
    return this.#table.find(chunk) !== undefined;
  }

  get(chunk: ChunkId): ChunkPlace | undefined {
    const at = this.#table.find(chunk);
    return at === undefined ? undefined : this.#placeAt(at);
  }

  /** Sequence of the record at the chunk's place, until the index is settled; 0 for a chunk that is not here. */
  sequenceOf(chunk: ChunkId): number {
    const at = this.#table.find(chunk);
    return at === undefined ? 0 : this.#table.rank(at);
  }

  /** The chunk lies here now, wherever it was before. */
  set(chunk: ChunkId, place: ChunkPlace, sequence = 0): void {
    assert(place.storedLength > 0 && place.offset % RECORD_ALIGN_BYTES === 0, 'a chunk has bytes at an aligned offset');
    const table = this.#table;
    let at = table.find(chunk);
    if (at === undefined) {
      at = table.insert(chunk);
      this.#inventory.add(chunk);
    }
    table.set(at, STORED_LENGTH, place.storedLength);
    table.set(at, RAW_LENGTH, place.rawLength);
    table.set(at, SEGMENT, place.segment);
    table.set(at, OFFSET, place.offset / RECORD_ALIGN_BYTES);
    table.setRank(at, sequence);
  }

  remove(chunk: ChunkId): void {
    const at = this.#table.find(chunk);
    if (at === undefined) return;
    this.#table.remove(at);
    this.#inventory.remove(chunk);
  }

  settle(): void {
    this.#table.settle();
  }

  /** Ids above `after` in order, at most `limit`. Looks at all: for inventories, not for the data path. */
  list(after: ChunkId | undefined, limit: number): ChunkId[] {
    return this.#table.list(after, limit);
  }

  /** In no order. Nothing may be set or removed between. */
  *all(): Generator<{ readonly chunk: ChunkId; readonly place: ChunkPlace }, void, undefined> {
    for (const at of this.#table.slots()) yield { chunk: this.#table.chunkAt(at), place: this.#placeAt(at) };
  }

  #placeAt(at: number): ChunkPlace {
    return {
      segment: this.#table.get(at, SEGMENT),
      offset: this.#table.get(at, OFFSET) * RECORD_ALIGN_BYTES,
      rawLength: this.#table.get(at, RAW_LENGTH),
      storedLength: this.#table.get(at, STORED_LENGTH),
    };
  }
}
