/**
 * What a sidecar says of the records of its segment, packed as it lies on the disk: 40 bytes a record. A full segment can hold two
 * million of the smallest ones, which as objects would take a gigabyte.
 */
import { assert } from '@collective/base/assert';
import { type ChunkId, chunkIdFromBytes, chunkIdToBytes } from '@collective/base/ids';
import { RECORD_ALIGN_BYTES, RECORD_KINDS, type RecordKind } from './record.ts';

export interface SidecarEntry {
  readonly kind: RecordKind;
  readonly chunk: ChunkId;
  readonly offset: number;
  /** 0 of a tombstone, as the stored length. */
  readonly rawLength: number;
  readonly storedLength: number;
  readonly sequence: number;
}

export const ENTRY_BYTES = 40;
const ENTRIES_MIN = 16;
const WORD = 2 ** 32;

export class EntryList implements Iterable<SidecarEntry> {
  #bytes: Buffer;
  #length: number;

  static of(entries: Iterable<SidecarEntry>): EntryList {
    const list = new EntryList();
    for (const entry of entries) list.push(entry);
    return list;
  }

  /** `packed` belongs to the list from now on. */
  constructor(packed: Buffer = Buffer.alloc(0)) {
    assert(packed.length % ENTRY_BYTES === 0, 'whole entries');
    this.#bytes = packed;
    this.#length = packed.length / ENTRY_BYTES;
  }

  get length(): number {
    return this.#length;
  }

  push(entry: SidecarEntry): void {
    const at = this.#length * ENTRY_BYTES;
    if (at === this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(ENTRIES_MIN * ENTRY_BYTES, 2 * this.#bytes.length));
      this.#bytes.copy(larger);
      this.#bytes = larger;
    }
    assert(entry.offset % RECORD_ALIGN_BYTES === 0, 'records are aligned');
    const bytes = this.#bytes;
    chunkIdToBytes(entry.chunk).copy(bytes, at);
    bytes.writeUInt32LE(entry.offset / RECORD_ALIGN_BYTES, at + 16);
    bytes.writeUInt32LE(entry.rawLength, at + 20);
    bytes.writeUInt32LE(entry.storedLength, at + 24);
    bytes.writeUInt32LE(RECORD_KINDS[entry.kind], at + 28);
    bytes.writeUInt32LE(entry.sequence % WORD, at + 32);
    bytes.writeUInt32LE(Math.floor(entry.sequence / WORD), at + 36);
    this.#length++;
  }

  at(index: number): SidecarEntry {
    assert(index >= 0 && index < this.#length, `entry ${index} of ${this.#length}`);
    const bytes = this.#bytes;
    const at = index * ENTRY_BYTES;
    return {
      kind: bytes.readUInt32LE(at + 28) === RECORD_KINDS.tombstone ? 'tombstone' : 'chunk',
      chunk: chunkIdFromBytes(bytes.subarray(at, at + 16)),
      offset: bytes.readUInt32LE(at + 16) * RECORD_ALIGN_BYTES,
      rawLength: bytes.readUInt32LE(at + 20),
      storedLength: bytes.readUInt32LE(at + 24),
      sequence: bytes.readUInt32LE(at + 32) + bytes.readUInt32LE(at + 36) * WORD,
    };
  }

  *[Symbol.iterator](): Generator<SidecarEntry, void, undefined> {
    for (let i = 0; i < this.#length; i++) yield this.at(i);
  }

  /** As they lie in a sidecar. */
  packed(): Buffer {
    return this.#bytes.subarray(0, this.#length * ENTRY_BYTES);
  }

  /** The same in the order of their offsets. */
  inOrder(): EntryList {
    const offsetAt = (index: number): number => this.#bytes.readUInt32LE(index * ENTRY_BYTES + 16);
    const order = new Uint32Array(this.#length).map((_unused, i) => i).sort((a, b) => offsetAt(a) - offsetAt(b));
    const ordered = Buffer.alloc(this.#length * ENTRY_BYTES);
    for (const [to, from] of order.entries())
      this.#bytes.copy(ordered, to * ENTRY_BYTES, from * ENTRY_BYTES, (from + 1) * ENTRY_BYTES);
    return new EntryList(ordered);
  }

  copy(): EntryList {
    return new EntryList(Buffer.from(this.packed()));
  }
}
