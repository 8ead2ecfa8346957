/**
 * Where each chunk lies, in memory: one typed array with open addressing, 32 bytes a slot, 46 to 91 bytes a chunk (a
 * JavaScript Map with objects would take some 300). Rebuilt from sidecars and segments at every start.
 */
import { assert } from '@collective/base/assert';
import { type ChunkId, chunkIdFromBytes } from '@collective/base/ids';
import { InventoryDigest } from '@collective/protocol/bulk/inventory-digest';
import { type ChunkWords, RECORD_ALIGN_BYTES, wordsOfChunk } from './record.ts';

export interface ChunkPlace {
  readonly segment: number;
  /** Of the record in its segment, in bytes. */
  readonly offset: number;
  readonly rawLength: number;
  readonly storedLength: number;
}

const WORDS_PER_SLOT = 8;
const SEGMENT = 4;
const OFFSET = 5;
const RAW_LENGTH = 6;
const STORED_LENGTH = 7;
const SLOTS_MIN = 1024;
const FULL_AT = 0.7;

export class ChunkIndex {
  readonly #inventory = new InventoryDigest();
  #slots = SLOTS_MIN;
  #table = new Uint32Array(SLOTS_MIN * WORDS_PER_SLOT);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get inventoryDigest(): number {
    return this.#inventory.value;
  }

  has(chunk: ChunkId): boolean {
    return this.#occupied(this.#find(wordsOfChunk(chunk)));
  }

  get(chunk: ChunkId): ChunkPlace | undefined {
    const at = this.#find(wordsOfChunk(chunk));
    if (!this.#occupied(at)) return undefined;
    return {
      segment: this.#word(at + SEGMENT),
      offset: this.#word(at + OFFSET) * RECORD_ALIGN_BYTES,
      rawLength: this.#word(at + RAW_LENGTH),
      storedLength: this.#word(at + STORED_LENGTH),
    };
  }

  /** A chunk that is known already keeps its place; then the result is false. */
  add(chunk: ChunkId, place: ChunkPlace): boolean {
    assert(place.storedLength > 0 && place.offset % RECORD_ALIGN_BYTES === 0, 'a chunk has bytes at an aligned offset');
    if (this.#count + 1 > this.#slots * FULL_AT) this.#grow();
    const words = wordsOfChunk(chunk);
    const at = this.#find(words);
    if (this.#occupied(at)) return false;
    this.#table.set(words, at);
    this.#table[at + SEGMENT] = place.segment;
    this.#table[at + OFFSET] = place.offset / RECORD_ALIGN_BYTES;
    this.#table[at + RAW_LENGTH] = place.rawLength;
    this.#table[at + STORED_LENGTH] = place.storedLength;
    this.#count++;
    this.#inventory.addWords(...words);
    return true;
  }

  /** Ids above `after` in order, at most `limit`. Looks at all: for inventories, not for the data path. */
  list(after: ChunkId | undefined, limit: number): ChunkId[] {
    const floor = after === undefined ? undefined : wordsOfChunk(after);
    const found: ChunkWords[] = [];
    for (let at = 0; at < this.#table.length; at += WORDS_PER_SLOT) {
      if (!this.#occupied(at)) continue;
      const words = this.#wordsAt(at);
      if (floor === undefined || compareWords(words, floor) > 0) found.push(words);
      if (found.length > 4 * limit + 1024) keepSmallest(found, limit);
    }
    keepSmallest(found, limit);
    return found.map(chunkOfWords);
  }

  /** Where the id is, or the free slot where it would go. */
  #find(words: ChunkWords): number {
    let slot = hashWords(words) & (this.#slots - 1);
    for (;;) {
      const at = slot * WORDS_PER_SLOT;
      if (!this.#occupied(at)) return at;
      if (
        this.#table[at + 3] === words[3] &&
        this.#table[at + 2] === words[2] &&
        this.#table[at + 1] === words[1] &&
        this.#table[at] === words[0]
      )
        return at;
      slot = (slot + 1) & (this.#slots - 1);
    }
  }

  #grow(): void {
    const old = this.#table;
    this.#slots *= 2;
    this.#table = new Uint32Array(this.#slots * WORDS_PER_SLOT);
    for (let from = 0; from < old.length; from += WORDS_PER_SLOT) {
      if (old[from + STORED_LENGTH] === 0) continue;
      const slot = old.subarray(from, from + WORDS_PER_SLOT);
      this.#table.set(slot, this.#find([slot[0] ?? 0, slot[1] ?? 0, slot[2] ?? 0, slot[3] ?? 0]));
    }
  }

  /** Stored length 0 marks a free slot: no chunk is empty. */
  #occupied(at: number): boolean {
    return this.#table[at + STORED_LENGTH] !== 0;
  }

  #word(at: number): number {
    return this.#table[at] ?? 0;
  }

  #wordsAt(at: number): ChunkWords {
    return [this.#word(at), this.#word(at + 1), this.#word(at + 2), this.#word(at + 3)];
  }
}

function hashWords(words: ChunkWords): number {
  let h = words[0];
  for (const word of [words[1], words[2], words[3]]) {
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) ^ word;
    h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  }
  return (h ^ (h >>> 15)) >>> 0;
}

function compareWords(a: ChunkWords, b: ChunkWords): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3];
}

function keepSmallest(words: ChunkWords[], limit: number): void {
  words.sort(compareWords);
  words.length = Math.min(words.length, limit);
}

function chunkOfWords(words: ChunkWords): ChunkId {
  const bytes = Buffer.alloc(16);
  words.forEach((word, i) => {
    bytes.writeUInt32BE(word, 4 * i);
  });
  return chunkIdFromBytes(bytes);
}
