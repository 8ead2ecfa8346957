/**
 * A table is a prefix of the ordered key space plus a way to read its values. Keys are strings of bytes (one character
 * a byte, latin-1), so that JavaScript's comparison, SQLite's memcmp and our own order are the same; numbers in keys are
 * big-endian.
 */
import { assert } from '@collective/base/assert';
import { CollectiveError } from '@collective/base/errors';

export interface Codec<V> {
  encode(value: V): Uint8Array;
  decode(bytes: Uint8Array): V;
}

export interface Table<Parts extends readonly unknown[], V> extends Codec<V> {
  readonly name: string;
  /** Full key of a row. */
  key(...parts: Parts): string;
  /** What all keys of this table begin with. */
  readonly prefix: string;
}

/** A generated protobuf type, as ts-proto makes it. */
interface Message<V> {
  encode(value: V): { finish(): Uint8Array };
  decode(bytes: Uint8Array): V;
}

export function defineTable<Parts extends readonly unknown[], V>(
  name: string,
  prefix: string,
  message: Message<V>,
  rest: (...parts: Parts) => string,
): Table<Parts, V> {
  return {
    name,
    prefix,
    key: (...parts) => prefix + rest(...parts),
    encode: (value) => message.encode(value).finish(),
    decode: (bytes) => {
      try {
        return message.decode(bytes);
      } catch (cause) {
        throw new CollectiveError('store_damaged', `Read a row of the table ${name} with ${bytes.length} bytes`, {
          cause,
        });
      }
    },
  };
}

/** Big-endian, `bytes` wide, as a byte string. Throws `range`: a number that is cut would name another row. */
export function bigEndian(value: number, bytes: 2 | 4 | 6 | 8): string {
  if (!Number.isSafeInteger(value) || value < 0 || value >= 256 ** bytes)
    throw new CollectiveError('range', `Use ${value} in a key: it is no whole number of ${bytes} bytes below 2^53`);
  const high = Math.floor(value / 2 ** 32);
  const low = value >>> 0;
  const low4 = String.fromCharCode(low >>> 24, (low >>> 16) & 255, (low >>> 8) & 255, low & 255);
  if (bytes === 4) return low4;
  if (bytes === 2) return low4.slice(2);
  if (bytes === 6) return String.fromCharCode((high >>> 8) & 255, high & 255) + low4;
  return String.fromCharCode(high >>> 24, (high >>> 16) & 255, (high >>> 8) & 255, high & 255) + low4;
}

export function readBigEndian(key: string, at: number, bytes: 2 | 4 | 6 | 8): number {
  let value = 0;
  for (let i = 0; i < bytes; i++) value = value * 256 + key.charCodeAt(at + i);
  return value;
}

/** The smallest key above all keys that begin with `prefix`, which begins with the letter of a table. */
export function prefixEnd(prefix: string): string {
  let end = prefix.length;
  while (end > 0 && prefix.charCodeAt(end - 1) === 255) end--;
  assert(end > 0, 'there is a key above a prefix');
  return prefix.slice(0, end - 1) + String.fromCharCode(prefix.charCodeAt(end - 1) + 1);
}

export function byteString(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

export function bytesOf(key: string): Buffer {
  return Buffer.from(key, 'latin1');
}
