/**
 * Bytes that do not compress, made from a seed as fast as AES runs, in pieces, with their SHA-256: a file of any size
 * can be written and compared without ever being whole in memory.
 */
import { createCipheriv, createHash } from 'node:crypto';

const PIECE_BYTES = 1024 * 1024;
const ZEROS = Buffer.alloc(PIECE_BYTES);

export function* seededBytes(seed: number, sizeBytes: number): Generator<Buffer, void, undefined> {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  for (let left = sizeBytes; left > 0; left -= PIECE_BYTES)
    yield cipher.update(left >= PIECE_BYTES ? ZEROS : ZEROS.subarray(0, left));
}

export function seededFile(seed: number, sizeBytes: number): Buffer {
  return Buffer.concat([...seededBytes(seed, sizeBytes)], sizeBytes);
}

/** The bytes of a source, and at its end their SHA-256. */
export async function sha256Of(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of source) hash.update(piece);
  return hash.digest('hex');
}
