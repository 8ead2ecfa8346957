/**
 * Randomness as a port: `SystemRandom` for the product (cryptographic), `SeededRandom` for simulation, where one seed
 * must give one run.
 */
import { randomBytes } from 'node:crypto';

export interface Random {
  bytes(length: number): Buffer;
  /** Uniform in [0, 2^32). */
  uint32(): number;
}

export class SystemRandom implements Random {
  bytes(length: number): Buffer {
    return randomBytes(length);
  }

  uint32(): number {
    return randomBytes(4).readUInt32LE();
  }
}

/** sfc32 (PractRand's small fast counter generator): good enough for choices, never for secrets. */
export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c = 0x9e3779b9;
  #counter = 1;

  constructor(seed: number) {
    this.#a = seed >>> 0;
    this.#b = Math.floor(seed / 2 ** 32) >>> 0;
    for (let i = 0; i < 12; i++) this.uint32();
  }

  uint32(): number {
    const t = (this.#a + this.#b + this.#counter) >>> 0;
    this.#counter = (this.#counter + 1) >>> 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) >>> 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + t) >>> 0;
    return t;
  }

  bytes(length: number): Buffer {
    const out = Buffer.allocUnsafe(length);
    for (let i = 0; i < length; i += 4) {
      const word = this.uint32();
      for (let j = 0; j < 4 && i + j < length; j++) out[i + j] = (word >>> (8 * j)) & 0xff;
    }
    return out;
  }
}

/** Uniform integer in [0, limit), `limit` at most 2^32. The bias of the modulo is below 2^-10 for limits up to 2^22. */
export function randomBelow(random: Random, limit: number): number {
  return Math.floor((random.uint32() / 2 ** 32) * limit);
}

/** Uniform in [0, 1). */
export function randomUnit(random: Random): number {
  return random.uint32() / 2 ** 32;
}

export function pickOne<T>(random: Random, from: readonly T[]): T {
  const picked = from[randomBelow(random, from.length)];
  if (picked === undefined) throw new RangeError('Pick one of an empty list');
  return picked;
}

/** A version 4 UUID (RFC 9562) in its usual spelling. */
export function randomUuid(random: Random): string {
  const b = random.bytes(16);
  b[6] = ((b[6] ?? 0) & 0x0f) | 0x40;
  b[8] = ((b[8] ?? 0) & 0x3f) | 0x80;
  const hex = b.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
