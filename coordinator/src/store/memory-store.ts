/**
 * In-memory twin of the SQLite view. `disk` is what outlives a process: hand it to the next MemoryStore to "restart".
 */
import { CollectiveError } from '@collective/base/errors';
import type { LogPosition } from '@collective/base/ids';
import { type Random, randomBelow } from '@collective/base/random';
import BTreeModule from 'sorted-btree';
import { decodeBatch } from './batch-codec.ts';
import type { KeyRange, Store, StoredRow, StoreSnapshot } from './store.ts';

// The package is CommonJS: its default export arrives one level down under Node's ESM rules.
const BTree = BTreeModule.default ?? BTreeModule;

interface Applied {
  readonly batch: Uint8Array;
  readonly position: LogPosition;
}

/** State that survives the process; a power loss takes back part of what was applied since the last checkpoint. */
export class MemoryStoreDisk {
  #checkpointed: { rows: Map<string, Uint8Array>; position: LogPosition } = {
    rows: new Map(),
    position: 0 as LogPosition,
  };
  #since: Applied[] = [];

  record(applied: Applied): void {
    this.#since.push(applied);
  }

  checkpoint(): LogPosition {
    const position = this.#since.at(-1)?.position ?? this.#checkpointed.position;
    for (const { batch } of this.#since) applyTo(this.#checkpointed.rows, batch);
    this.#checkpointed.position = position;
    this.#since = [];
    return position;
  }

  powerLoss(random: Random): void {
    this.#since.length = randomBelow(random, this.#since.length + 1);
  }

  load(): { rows: Map<string, Uint8Array>; position: LogPosition } {
    const rows = new Map(this.#checkpointed.rows);
    for (const { batch } of this.#since) applyTo(rows, batch);
    return { rows, position: this.#since.at(-1)?.position ?? this.#checkpointed.position };
  }
}

export class MemoryStore implements Store {
  readonly applied: LogPosition;
  readonly #disk: MemoryStoreDisk;
  readonly #rows: InstanceType<typeof BTree<string, Uint8Array>>;
  readonly #pause: () => Promise<void>;
  #position: LogPosition;
  #applies: Promise<void> = Promise.resolve();

  /** `pause` stands for the way to another thread and back; the simulator lets time pass there. */
  constructor(disk: MemoryStoreDisk, pause: () => Promise<void> = () => Promise.resolve()) {
    this.#disk = disk;
    this.#pause = pause;
    const { rows, position } = disk.load();
    this.applied = position;
    this.#position = position;
    this.#rows = new BTree<string, Uint8Array>([...rows], compareKeys);
  }

  async get(keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const values = keys.map((key) => this.#rows.get(key));
    await this.#pause();
    return values;
  }

  async scan(ranges: readonly KeyRange[]): Promise<StoredRow[][]> {
    const pages = ranges.map(({ from, to, limit }) => {
      const page: StoredRow[] = [];
      for (const [key, value] of this.#rows.entries(from)) {
        if (key >= to || page.length >= limit) break;
        page.push({ key, value });
      }
      return page;
    });
    await this.#pause();
    return pages;
  }

  apply(batch: Uint8Array, position: LogPosition): Promise<void> {
    // One after the other, however long each takes: a gap would silently lose what lies in it.
    this.#applies = this.#applies.then(() => this.#applyOne(batch, position));
    return this.#applies;
  }

  async #applyOne(batch: Uint8Array, position: LogPosition): Promise<void> {
    await this.#pause();
    if (position !== this.#position + 1)
      throw new CollectiveError('internal', `Apply a batch: position ${position} does not follow ${this.#position}`);
    this.#position = position;
    for (const { key, value } of decodeBatch(batch)) {
      if (value === undefined) this.#rows.delete(key);
      else this.#rows.set(key, value);
    }
    this.#disk.record({ batch, position });
  }

  get reusableBytes(): number {
    return 0;
  }

  async checkpoint(): Promise<LogPosition | undefined> {
    await this.#pause();
    return this.#disk.checkpoint();
  }

  async snapshot(): Promise<StoreSnapshot> {
    await this.#pause();
    const rows = [...this.#rows.entries()].map(([key, value]) => ({ key, value }));
    return {
      applied: this.#position,
      read: async (after, bytesMax) => {
        await this.#pause();
        const page: StoredRow[] = [];
        let bytes = 0;
        for (const row of rows) {
          if (after !== undefined && row.key <= after) continue;
          page.push(row);
          bytes += row.key.length + row.value.length;
          if (bytes >= bytesMax) break;
        }
        return page;
      },
      close: () => this.#pause(),
    };
  }

  async close(): Promise<void> {
    await this.#pause();
  }
}

function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function applyTo(rows: Map<string, Uint8Array>, batch: Uint8Array): void {
  for (const { key, value } of decodeBatch(batch)) {
    if (value === undefined) rows.delete(key);
    else rows.set(key, value);
  }
}
