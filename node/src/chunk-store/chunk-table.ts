/**
 * A hash table from chunk ids to a few 32-bit numbers, in one typed array with open addressing: a JavaScript Map with objects
 * would take three to six times the memory. It grows and shrinks with what it holds.
 *
 * A slot is known by where it begins in the array, until the next insertion or removal. The first payload number of a slot that
 * is in use is never 0.
 *
 * While a store is opened each slot also has a rank, the sequence of a record; `settle` gives that memory back.
 */
import { assert } from '@collective/base/assert';
import { type ChunkId, chunkIdFromBytes, chunkIdToBytes } from '@collective/base/ids';

type ChunkWords = readonly [number, number, number, number];

const ID_WORDS = 4;
const SLOTS_MIN = 1024;
const FULL_AT = 0.7;
/** After it is halved there is as much room as before the next growth. */
const EMPTY_AT = 0.15;

export class ChunkTable {
  readonly #width: number;
  #slots = SLOTS_MIN;
  #words: Uint32Array;
  #ranks: Float64Array | undefined = new Float64Array(SLOTS_MIN);
  #count = 0;

  constructor(payloadWords: number) {
    this.#width = ID_WORDS + payloadWords;
    this.#words = new Uint32Array(SLOTS_MIN * this.#width);
  }

  get count(): number {
    return this.#count;
  }

  find(chunk: ChunkId): number | undefined {
    const at = this.#probe(wordsOfChunk(chunk));
    return this.#inUse(at) ? at : undefined;
  }

  /** A slot for a chunk that has none yet; the caller sets the payload in the same turn. */
  insert(chunk: ChunkId): number {
    if (this.#count + 1 > this.#slots * FULL_AT) this.#resize(this.#slots * 2);
    const words = wordsOfChunk(chunk);
    const at = this.#probe(words);
    assert(!this.#inUse(at), 'a chunk has one slot');
    this.#words.set(words, at);
    this.#count++;
    return at;
  }

  /** Moves up what lies behind, so that every search still ends at the first free slot. */
  remove(at: number): void {
    const mask = this.#slots - 1;
    let hole = at / this.#width;
    for (let slot = (hole + 1) & mask; this.#inUse(slot * this.#width); slot = (slot + 1) & mask) {
      const home = hashWords(this.#idAt(slot * this.#width)) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#copySlot(slot, hole);
      hole = slot;
    }
    this.#words.fill(0, hole * this.#width, (hole + 1) * this.#width);
    this.#count--;
    if (this.#slots > SLOTS_MIN && this.#count < this.#slots * EMPTY_AT) this.#resize(this.#slots / 2);
  }

  get(at: number, word: number): number {
    return this.#words[at + ID_WORDS + word] ?? 0;
  }

  set(at: number, word: number, value: number): void {
    this.#words[at + ID_WORDS + word] = value;
  }

  chunkAt(at: number): ChunkId {
    return chunkOfWords(this.#idAt(at));
  }

  rank(at: number): number {
    return this.#ranks?.[at / this.#width] ?? 0;
  }

  setRank(at: number, rank: number): void {
    if (this.#ranks !== undefined) this.#ranks[at / this.#width] = rank;
  }

  settle(): void {
    this.#ranks = undefined;
  }

  /** The slots in use, in no order. Nothing may be inserted or removed between. */
  *slots(): Generator<number, void, undefined> {
    for (let at = 0; at < this.#words.length; at += this.#width) if (this.#inUse(at)) yield at;
  }

  /** Ids above `after` in order, at most `limit`. Looks at all: for inventories, not for the data path. */
  list(after: ChunkId | undefined, limit: number): ChunkId[] {
    const floor = after === undefined ? undefined : wordsOfChunk(after);
    const found: ChunkWords[] = [];
    // Of a whole page that is found already: what is above comes on a later one.
    let ceiling: ChunkWords | undefined;
    for (let at = 0; at < this.#words.length; at += this.#width) {
      if (!this.#inUse(at)) continue;
      if (floor !== undefined && this.#compareAt(at, floor) <= 0) continue;
      if (ceiling !== undefined && this.#compareAt(at, ceiling) >= 0) continue;
      found.push(this.#idAt(at));
      if (found.length <= 4 * limit + 1024) continue;
      keepSmallest(found, limit);
      ceiling = found.at(-1);
    }
    keepSmallest(found, limit);
    return found.map(chunkOfWords);
  }

  /** Where the id is, or the free slot where it would go. */
  #probe(words: ChunkWords): number {
    let slot = hashWords(words) & (this.#slots - 1);
    for (;;) {
      const at = slot * this.#width;
      if (!this.#inUse(at)) return at;
      if (
        this.#words[at + 3] === words[3] &&
        this.#words[at + 2] === words[2] &&
        this.#words[at + 1] === words[1] &&
        this.#words[at] === words[0]
      )
        return at;
      slot = (slot + 1) & (this.#slots - 1);
    }
  }

  #resize(slots: number): void {
    const [words, ranks] = [this.#words, this.#ranks];
    this.#slots = slots;
    this.#words = new Uint32Array(slots * this.#width);
    if (ranks !== undefined) this.#ranks = new Float64Array(slots);
    for (let from = 0; from < words.length; from += this.#width) {
      if (words[from + ID_WORDS] === 0) continue;
      const slot = words.subarray(from, from + this.#width);
      const at = this.#probe([slot[0] ?? 0, slot[1] ?? 0, slot[2] ?? 0, slot[3] ?? 0]);
      this.#words.set(slot, at);
      this.setRank(at, ranks?.[from / this.#width] ?? 0);
    }
  }

  #copySlot(from: number, to: number): void {
    const width = this.#width;
    this.#words.copyWithin(to * width, from * width, (from + 1) * width);
    this.#ranks?.copyWithin(to, from, from + 1);
  }

  #inUse(at: number): boolean {
    return this.#words[at + ID_WORDS] !== 0;
  }

  #compareAt(at: number, b: ChunkWords): number {
    const words = this.#words;
    for (let i = 0; i < ID_WORDS; i++) {
      const difference = (words[at + i] ?? 0) - (b[i] ?? 0);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  #idAt(at: number): ChunkWords {
    const words = this.#words;
    return [words[at] ?? 0, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0];
  }
}

function wordsOfChunk(chunk: ChunkId): ChunkWords {
  const bytes = chunkIdToBytes(chunk);
  return [bytes.readUInt32BE(0), bytes.readUInt32BE(4), bytes.readUInt32BE(8), bytes.readUInt32BE(12)];
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
