/**
 * Bytes of a batch: the payload of a log record and, unchanged, what the store's worker applies. Sans-IO, little-endian:
 *
 *   0 u8 version (1)  1 u32 number of changes, then each:
 *   u8 kind (1 put, 2 remove)  u16 key length  u32 value length (0 for remove)  key  value
 */
import { CollectiveError } from '@collective/base/errors';

export interface Change {
  /** Byte string, one character a byte. */
  readonly key: string;
  /** Undefined: removed. */
  readonly value: Uint8Array | undefined;
}

const VERSION = 1;
const PUT = 1;
const REMOVE = 2;
const CHANGE_HEADER_BYTES = 7;

export function encodeBatch(changes: readonly Change[]): Buffer {
  let length = 5;
  for (const { key, value } of changes) length += CHANGE_HEADER_BYTES + key.length + (value?.length ?? 0);
  const out = Buffer.allocUnsafeSlow(length);
  out[0] = VERSION;
  out.writeUInt32LE(changes.length, 1);
  let at = 5;
  for (const { key, value } of changes) {
    out[at] = value === undefined ? REMOVE : PUT;
    out.writeUInt16LE(key.length, at + 1);
    out.writeUInt32LE(value?.length ?? 0, at + 3);
    at += CHANGE_HEADER_BYTES;
    at += out.write(key, at, 'latin1');
    if (value !== undefined) {
      out.set(value, at);
      at += value.length;
    }
  }
  return out;
}

export function decodeBatch(bytes: Uint8Array): Change[] {
  const from = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (from.length < 5) throw damaged('it is shorter than its header');
  if (from[0] !== VERSION)
    throw new CollectiveError(
      'version_too_new',
      `Read a batch of version ${from[0]}: this program knows version ${VERSION}`,
    );
  const count = from.readUInt32LE(1);
  const changes: Change[] = [];
  let at = 5;
  for (let i = 0; i < count; i++) {
    if (at + CHANGE_HEADER_BYTES > from.length) throw damaged(`change ${i} of ${count} is cut`);
    const kind = from[at];
    const keyLength = from.readUInt16LE(at + 1);
    const valueLength = from.readUInt32LE(at + 3);
    at += CHANGE_HEADER_BYTES;
    if (at + keyLength + valueLength > from.length) throw damaged(`change ${i} of ${count} is cut`);
    if (kind !== PUT && (kind !== REMOVE || valueLength !== 0))
      throw damaged(`change ${i} has the unknown kind ${kind}`);
    const key = from.toString('latin1', at, at + keyLength);
    at += keyLength;
    changes.push({ key, value: kind === PUT ? from.subarray(at, at + valueLength) : undefined });
    at += valueLength;
  }
  if (at !== from.length) throw damaged(`${from.length - at} bytes follow its end`);
  return changes;
}

function damaged(what: string): CollectiveError {
  return new CollectiveError('store_damaged', `Read a batch: ${what}`);
}
