/**
 * A node says with one number which chunks it holds; the coordinator computes the same over what it believes (D10). The order
 * of chunks does not matter, and adding or removing one costs one addition. It finds differences, it proves nothing
 * against somebody who wants to deceive.
 */
import { type ChunkId, chunkIdToBytes } from '@collective/base/ids';

/** Sums stay below 2^52, exact in a JavaScript number. */
const MODULUS = 2 ** 52;

export class InventoryDigest {
  #sum = 0;

  get value(): number {
    return this.#sum;
  }

  add(chunk: ChunkId): void {
    this.addWords(...wordsOf(chunk));
  }

  remove(chunk: ChunkId): void {
    this.#sum = (this.#sum + MODULUS - weight(...wordsOf(chunk))) % MODULUS;
  }

  /** The id as four big-endian words. */
  addWords(a: number, b: number, c: number, d: number): void {
    this.#sum = (this.#sum + weight(a, b, c, d)) % MODULUS;
  }
}

function wordsOf(chunk: ChunkId): [number, number, number, number] {
  const bytes = chunkIdToBytes(chunk);
  return [bytes.readUInt32BE(0), bytes.readUInt32BE(4), bytes.readUInt32BE(8), bytes.readUInt32BE(12)];
}

/** Two rounds of MurmurHash3's finish over the words: neighbouring ids get unrelated weights. */
function weight(a: number, b: number, c: number, d: number): number {
  const low = mix(d ^ mix(c ^ mix(b ^ mix(a))));
  const high = mix(a ^ mix(d ^ mix(c ^ mix(b ^ 0x9e3779b9))));
  return (high >>> 12) * 2 ** 32 + (low >>> 0);
}

function mix(word: number): number {
  let h = word + 0x9e3779b9;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
