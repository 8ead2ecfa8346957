/**
 * The bytes of a backup (docs/formats/backup.md), sans-IO: parts one behind the other, each with a checksum, the first telling
 * whose backup it is and the last how much must have come. A file that is cut, changed or continued is never taken for a whole one.
 */
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import type { Epoch, LogPosition } from '@collective/base/ids';
import type { StoredRow } from '../store/store.ts';

export const BACKUP_FORMAT = 1;
const MAGIC = 0x31_50_42_43; // 'CBP1', little-endian
const HEADER_BYTES = 16;
export const PART_BYTES_MAX = 4 * 1024 * 1024;
const KINDS = { FACTS: 1, ROWS: 2, FILE: 3, END: 9 } as const;

export interface BackupFacts {
  readonly member: string;
  readonly collective: string;
  /** Of the program that made it. */
  readonly version: string;
  /** ISO 8601 */
  readonly created: string;
  /** Of the coordinator that made it. */
  readonly epoch: Epoch;
  /** Log position up to which everything is in it. */
  readonly position: LogPosition;
}

export type BackupPart =
  | { readonly kind: 'facts'; readonly facts: BackupFacts }
  | { readonly kind: 'rows'; readonly rows: readonly StoredRow[] }
  /** A file of the member's authority. */
  | { readonly kind: 'file'; readonly name: string; readonly content: Buffer }
  | { readonly kind: 'end' };

/** Makes the parts in order and counts what must be in the last. */
export class BackupEncoder {
  #rows = 0;
  #parts = 0;
  #crc = 0;

  facts(facts: BackupFacts): Buffer {
    return this.#part(KINDS.FACTS, Buffer.from(JSON.stringify({ format: BACKUP_FORMAT, ...facts })));
  }

  rows(rows: readonly StoredRow[]): Buffer {
    const pieces: Buffer[] = [];
    for (const { key, value } of rows) {
      const lengths = Buffer.alloc(8);
      lengths.writeUInt32LE(key.length, 0);
      lengths.writeUInt32LE(value.length, 4);
      pieces.push(lengths, Buffer.from(key, 'latin1'), Buffer.from(value.buffer, value.byteOffset, value.length));
    }
    this.#rows += rows.length;
    return this.#part(KINDS.ROWS, Buffer.concat(pieces));
  }

  file(name: string, content: Buffer): Buffer {
    const label = Buffer.from(name);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(label.length);
    return this.#part(KINDS.FILE, Buffer.concat([length, label, content]));
  }

  end(): Buffer {
    const payload = Buffer.alloc(16);
    payload.writeBigUInt64LE(BigInt(this.#rows), 0);
    payload.writeUInt32LE(this.#parts, 8);
    payload.writeUInt32LE(this.#crc, 12);
    return this.#part(KINDS.END, payload);
  }

  #part(kind: number, payload: Buffer): Buffer {
    const part = Buffer.alloc(HEADER_BYTES + payload.length);
    part.writeUInt32LE(MAGIC, 0);
    part.writeUInt32LE(kind, 4);
    part.writeUInt32LE(payload.length, 8);
    part.set(payload, HEADER_BYTES);
    const crc = crc32(payload, crc32(part.subarray(4, 12)));
    part.writeUInt32LE(crc, 12);
    this.#crc = crc32(part.subarray(12, 16), this.#crc);
    this.#parts += 1;
    return part;
  }
}

/** Fed with bytes as they come; gives whole, verified parts. Throws `backup_damaged`, `version_too_new`. */
export class BackupDecoder {
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #rows = 0;
  #parts = 0;
  #crc = 0;
  #ended = false;

  *push(bytes: Buffer): Generator<BackupPart, void, undefined> {
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    for (let part = this.#next(); part !== undefined; part = this.#next()) yield part;
    if (this.#ended && this.#pendingBytes > 0) throw damaged(`${this.#pendingBytes} bytes follow its end`);
  }

  /** No more bytes come. */
  finish(): void {
    if (!this.#ended) throw damaged('it ends too early: it was cut, or its making was not finished');
  }

  #next(): BackupPart | undefined {
    if (this.#ended || this.#pendingBytes < HEADER_BYTES) return undefined;
    const header = this.#peek(HEADER_BYTES);
    if (header.readUInt32LE(0) !== MAGIC)
      throw damaged(
        this.#parts === 0 ? 'it is not a backup of a member' : `part ${this.#parts + 1} does not begin as one`,
      );
    const length = header.readUInt32LE(8);
    if (length > 2 * PART_BYTES_MAX) throw damaged(`part ${this.#parts + 1} says it has ${length} bytes`);
    if (this.#pendingBytes < HEADER_BYTES + length) return undefined;
    const part = this.#take(HEADER_BYTES + length);
    const payload = part.subarray(HEADER_BYTES);
    if (crc32(payload, crc32(part.subarray(4, 12))) !== part.readUInt32LE(12))
      throw damaged(`the checksum of part ${this.#parts + 1} is wrong`);
    return this.#read(part.readUInt32LE(4), payload, part);
  }

  #read(kind: number, payload: Buffer, part: Buffer): BackupPart {
    const first = this.#parts === 0;
    if (first !== (kind === KINDS.FACTS)) throw damaged('its parts are not in order');
    const crcBefore = this.#crc;
    this.#crc = crc32(part.subarray(12, 16), this.#crc);
    this.#parts += 1;
    switch (kind) {
      case KINDS.FACTS:
        return { kind: 'facts', facts: readFacts(payload) };
      case KINDS.ROWS: {
        const rows = readRows(payload);
        this.#rows += rows.length;
        return { kind: 'rows', rows };
      }
      case KINDS.FILE: {
        const length = payload.length < 4 ? Number.POSITIVE_INFINITY : payload.readUInt32LE(0);
        if (4 + length > payload.length) throw damaged('a file in it has no name');
        return {
          kind: 'file',
          name: payload.subarray(4, 4 + length).toString(),
          content: payload.subarray(4 + length),
        };
      }
      case KINDS.END:
        this.#checkEnd(payload, crcBefore);
        return { kind: 'end' };
      default:
        throw new CollectiveError('version_too_new', `Read a backup: its part of kind ${kind} is of a newer program`);
    }
  }

  #checkEnd(payload: Buffer, crc: number): void {
    if (payload.length !== 16) throw damaged(`its end has ${payload.length} bytes`);
    const [rows, parts] = [Number(payload.readBigUInt64LE(0)), payload.readUInt32LE(8)];
    if (rows !== this.#rows || parts !== this.#parts - 1 || payload.readUInt32LE(12) !== crc)
      throw damaged(`${rows} rows in ${parts} parts were written, ${this.#rows} in ${this.#parts - 1} are there`);
    this.#ended = true;
  }

  #peek(length: number): Buffer {
    const [first] = this.#pending;
    if (first !== undefined && first.length >= length) return first.subarray(0, length);
    this.#pending = [Buffer.concat(this.#pending)];
    return this.#pending[0]?.subarray(0, length) ?? Buffer.alloc(0);
  }

  #take(length: number): Buffer {
    const taken = this.#peek(length);
    const [first, ...rest] = this.#pending;
    const left = first?.subarray(length) ?? Buffer.alloc(0);
    this.#pending = left.length > 0 ? [left, ...rest] : rest;
    this.#pendingBytes -= length;
    return taken;
  }
}

function readFacts(payload: Buffer): BackupFacts {
  let value: Partial<BackupFacts> & { format?: unknown };
  try {
    value = JSON.parse(payload.toString()) as typeof value;
  } catch (cause) {
    throw new CollectiveError('backup_damaged', 'Read a backup: its facts are no JSON', { cause });
  }
  if (typeof value.format !== 'number') throw damaged('it names no format');
  if (value.format > BACKUP_FORMAT)
    throw new CollectiveError(
      'version_too_new',
      `Read a backup of format ${value.format}: this program knows formats up to ${BACKUP_FORMAT}`,
    );
  const { member, collective, version, created, epoch, position } = value;
  if (
    typeof member !== 'string' ||
    typeof collective !== 'string' ||
    typeof version !== 'string' ||
    typeof created !== 'string' ||
    typeof epoch?.generation !== 'number' ||
    typeof epoch.start !== 'number' ||
    typeof position !== 'number'
  )
    throw damaged('its facts are not complete');
  return { member, collective, version, created, epoch, position };
}

function readRows(payload: Buffer): StoredRow[] {
  const rows: StoredRow[] = [];
  for (let at = 0; at < payload.length; ) {
    if (payload.length - at < 8) throw damaged('a row in it is cut');
    const keyEnd = at + 8 + payload.readUInt32LE(at);
    const end = keyEnd + payload.readUInt32LE(at + 4);
    if (end > payload.length) throw damaged('a row in it is cut');
    rows.push({ key: payload.toString('latin1', at + 8, keyEnd), value: payload.subarray(keyEnd, end) });
    at = end;
  }
  return rows;
}

function damaged(what: string): CollectiveError {
  return new CollectiveError('backup_damaged', `Read a backup: ${what}`);
}
