/**
 * What the engine has in memory of the ordered key-value view (M3): the overlay of changes that the store does not show
 * yet, and a bounded cache of what was read. The overlay is the newer truth: a batch leaves it only when the store has
 * applied it *and* no read that began before is still outstanding, else that read could bring back what the batch replaced.
 *
 * The cache has two generations: a hit moves an entry to the young one; when that is full the old one is dropped.
 */
import { assert } from '@collective/base/assert';
import type { LogPosition, SessionId } from '@collective/base/ids';
import BTreeModule from 'sorted-btree';
import type { Codec } from '../tables/table.ts';

// The package is CommonJS: its default export arrives one level down under Node's ESM rules.
const BTree = BTreeModule.default ?? BTreeModule;

const NOWHERE = 0 as LogPosition;

/** A value as bytes from the store, decoded at its first use, or as it was put. Absent rows are remembered too. */
export class Entry {
  #bytes: Uint8Array | undefined;
  #value: unknown;
  #codec: Codec<unknown> | undefined;
  readonly present: boolean;
  /** Batch that wrote it; 0 when it came from the store. */
  readonly position: LogPosition;
  /** Session that wrote it; 0 for the coordinator itself. */
  readonly writer: SessionId;

  /** The latest batch of other sessions that its writer had built on (M4). */
  readonly foreignThrough: LogPosition;

  private constructor(present: boolean, position: LogPosition, writer: SessionId, foreignThrough: LogPosition) {
    this.present = present;
    this.position = position;
    this.writer = writer;
    this.foreignThrough = foreignThrough;
  }

  static stored(bytes: Uint8Array | undefined): Entry {
    const entry = new Entry(bytes !== undefined, NOWHERE, 0 as SessionId, NOWHERE);
    entry.#bytes = bytes;
    return entry;
  }

  static written<V>(
    codec: Codec<V> | undefined,
    value: V | undefined,
    by: { position: LogPosition; writer: SessionId; foreignThrough: LogPosition },
  ): Entry {
    const entry = new Entry(value !== undefined, by.position, by.writer, by.foreignThrough);
    entry.#codec = codec as Codec<unknown> | undefined;
    entry.#value = value;
    return entry;
  }

  value<V>(codec: Codec<V>): V | undefined {
    if (!this.present) return undefined;
    if (this.#value === undefined) {
      assert(this.#bytes !== undefined, 'an entry that is present has bytes or a value');
      this.#value = codec.decode(this.#bytes);
      this.#bytes = undefined;
    }
    return this.#value as V;
  }

  encoded(): Uint8Array | undefined {
    if (!this.present) return undefined;
    assert(this.#codec !== undefined, 'only written entries are encoded');
    return this.#codec.encode(this.#value);
  }
}

interface AppliedBatch {
  readonly position: LogPosition;
  readonly keys: readonly string[];
  /** Serial of the apply that brought it into the store; undefined while that has not ended. */
  appliedAt: number | undefined;
}

export class View {
  readonly #cacheEntriesMax: number;
  readonly #overlayEntriesMax: number;
  #young = new Map<string, Entry>();
  #old = new Map<string, Entry>();
  readonly #overlay = new Map<string, Entry>();
  /** The overlay's keys in order, for scans. */
  readonly #ordered = new BTree<string, Entry>(undefined, (a, b) => (a < b ? -1 : a > b ? 1 : 0));
  /** Sealed batches whose entries are in the overlay, oldest first. */
  readonly #batches: AppliedBatch[] = [];
  #applySerial = 0;
  /** Outstanding reads, counted by the apply serial at which each began. */
  readonly #readers = new Map<number, number>();

  #waiting: (() => void)[] = [];

  constructor(bounds: { cacheEntriesMax: number; overlayEntriesMax: number }) {
    this.#cacheEntriesMax = bounds.cacheEntriesMax;
    this.#overlayEntriesMax = bounds.overlayEntriesMax;
  }

  /** The store is so far behind that new operations must wait. */
  get full(): boolean {
    return this.#overlay.size > this.#overlayEntriesMax;
  }

  /** Resolves when the overlay has shrunk, or at `wake`. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  get overlayEntries(): number {
    return this.#overlay.size;
  }

  get cachedEntries(): number {
    return this.#young.size + this.#old.size;
  }

  /** The entry of a key if it is known in memory. */
  peek(key: string): Entry | undefined {
    const fresh = this.#overlay.get(key) ?? this.#young.get(key);
    if (fresh !== undefined) return fresh;
    const aged = this.#old.get(key);
    if (aged !== undefined) this.#remember(key, aged);
    return aged;
  }

  overlaid(key: string): Entry | undefined {
    return this.#overlay.get(key);
  }

  /** Overlay entries from `from` on, in order. */
  overlayFrom(from: string): Iterator<[string, Entry]> {
    return this.#ordered.entries(from);
  }

  write(key: string, entry: Entry): void {
    this.#overlay.set(key, entry);
    this.#ordered.set(key, entry);
    this.#young.delete(key);
    this.#old.delete(key);
  }

  /** A value that a read brought. What memory knows already is at least as new and stays. */
  learn(key: string, bytes: Uint8Array | undefined): Entry {
    const known = this.#overlay.get(key) ?? this.#young.get(key) ?? this.#old.get(key);
    if (known !== undefined) return known;
    const entry = Entry.stored(bytes);
    this.#remember(key, entry);
    return entry;
  }

  /** A read begins; hand the result to `endRead` when the operation that needs it has ended. */
  beginRead(): number {
    this.#readers.set(this.#applySerial, (this.#readers.get(this.#applySerial) ?? 0) + 1);
    return this.#applySerial;
  }

  endRead(serial: number): void {
    const left = (this.#readers.get(serial) ?? 0) - 1;
    assert(left >= 0, 'a read ends once');
    if (left === 0) this.#readers.delete(serial);
    else this.#readers.set(serial, left);
    this.#release();
  }

  /** A batch with these keys was sealed. */
  sealed(position: LogPosition, keys: readonly string[]): void {
    this.#batches.push({ position, keys, appliedAt: undefined });
  }

  /** The store shows all batches up to `position`. */
  applied(position: LogPosition): void {
    this.#applySerial += 1;
    for (const batch of this.#batches) {
      if (batch.position > position) break;
      batch.appliedAt ??= this.#applySerial;
    }
    this.#release();
  }

  #release(): void {
    let oldestReader = Number.POSITIVE_INFINITY;
    for (const serial of this.#readers.keys()) oldestReader = Math.min(oldestReader, serial);
    while (true) {
      const batch = this.#batches[0];
      if (batch?.appliedAt === undefined || batch.appliedAt > oldestReader) break;
      this.#batches.shift();
      for (const key of batch.keys) {
        const entry = this.#overlay.get(key);
        if (entry === undefined || entry.position !== batch.position) continue;
        this.#overlay.delete(key);
        this.#ordered.delete(key);
        this.#remember(key, entry);
      }
    }
    if (!this.full) this.wake();
  }

  #remember(key: string, entry: Entry): void {
    if (this.#young.size * 2 >= this.#cacheEntriesMax) {
      this.#old = this.#young;
      this.#young = new Map();
    } else {
      this.#old.delete(key);
    }
    this.#young.set(key, entry);
  }
}
