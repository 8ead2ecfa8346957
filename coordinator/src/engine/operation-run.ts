/**
 * One run of one operation over the view (M3). It keeps the operation's own writes apart until the operation returned, so
 * that one which throws leaves nothing; it notes what was read, for M4; and it stops the operation when a key is not in
 * memory, by throwing a `Miss` that names all that is needed.
 */
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, LogPosition, SessionId } from '@collective/base/ids';
import type { KeyRange, StoredRow } from '../store/store.ts';
import type { Codec, Table } from '../tables/table.ts';
import type { Row, Transaction } from './transaction.ts';
import type { Entry, View } from './view.ts';

/** Keys that one operation may touch; above it, it must be cut into bounded steps. */
export const OPERATION_KEYS_MAX = 20_000;

/** Thrown inside an operation to make it stop, prefetch and run again. */
export class Miss {
  readonly keys: readonly string[];
  readonly range: KeyRange | undefined;

  constructor(keys: readonly string[], range?: KeyRange) {
    this.keys = keys;
    this.range = range;
  }
}

/** What an operation drew and fetched; kept over all its runs, so that each sees the same (M3) and a replay too (M4). */
export interface Draws {
  readonly now: Timestamp;
  readonly inodes: InodeNumber[];
}

/** Rows that a prefetch brought for a scan; `whole` when the store had no more in the range. */
interface Page {
  readonly rows: readonly StoredRow[];
  readonly whole: boolean;
}

export class Pins {
  readonly entries = new Map<string, Entry>();
  readonly pages = new Map<string, Page>();
}

export interface PendingWrite {
  readonly codec: Codec<unknown> | undefined;
  readonly value: unknown;
}

export interface UsageChange {
  bytes: number;
  inodes: number;
  directories: number;
}

export class OperationRun implements Transaction {
  readonly now: Timestamp;
  /** Log position of the batch that the writes go to, if there are any. */
  readonly position: LogPosition;
  readonly writes = new Map<string, PendingWrite>();
  /** Changes of the usage of realms: sums, not reads, so that two sessions do not wait for each other. */
  readonly usage = new Map<number, UsageChange>();
  /** The latest batch among what was read or overwritten. */
  readsThrough = 0 as LogPosition;
  /** The latest batch of another session among them. */
  foreignThrough = 0 as LogPosition;
  readonly #view: View;
  readonly #pins: Pins;
  readonly #session: SessionId;
  readonly #draws: Draws;
  readonly #drawInode: () => InodeNumber;
  readonly #usageBefore: (realm: number) => UsageChange;
  #drawn = 0;
  #keys = 0;

  constructor(options: {
    view: View;
    pins: Pins;
    session: SessionId;
    draws: Draws;
    drawInode: () => InodeNumber;
    position: LogPosition;
    usageBefore: (realm: number) => UsageChange;
  }) {
    this.#view = options.view;
    this.#pins = options.pins;
    this.#session = options.session;
    this.#draws = options.draws;
    this.#drawInode = options.drawInode;
    this.now = options.draws.now;
    this.position = options.position;
    this.#usageBefore = options.usageBefore;
  }

  get<P extends readonly unknown[], V>(table: Table<P, V>, ...parts: P): V | undefined {
    const key = table.key(...parts);
    const own = this.writes.get(key);
    if (own !== undefined) return own.value as V | undefined;
    return this.#entry(key).value(table);
  }

  put<P extends readonly unknown[], V>(table: Table<P, V>, value: NoInfer<V>, ...parts: P): void {
    this.#write(table.key(...parts), { codec: table as Codec<unknown>, value });
  }

  remove<P extends readonly unknown[], V>(table: Table<P, V>, ...parts: P): void {
    this.#write(table.key(...parts), { codec: undefined, value: undefined });
  }

  scan<P extends readonly unknown[], V>(table: Table<P, V>, from: string, to: string, limit: number): Row<V>[] {
    const merged = new Map<string, V | undefined>();
    let cursor = from;
    // Pages of the store, each merged with what is newer in memory, until enough rows are there.
    for (;;) {
      const page = this.#page({ from: cursor, to, limit });
      const last = page.rows.at(-1)?.key;
      const pageEnd = page.whole || last === undefined ? to : `${last}\0`;
      for (const row of page.rows) {
        if (merged.size > OPERATION_KEYS_MAX) throw tooManyKeys();
        merged.set(row.key, table.decode(row.value));
      }
      for (const [key, entry] of this.#view.overlayRange(cursor, pageEnd)) {
        this.#note(entry);
        merged.set(key, entry.value(table));
      }
      for (const [key, { value }] of this.writes)
        if (key >= cursor && key < pageEnd) merged.set(key, value as V | undefined);
      const rows = [...merged].filter((pair): pair is [string, V & {}] => pair[1] !== undefined);
      if (rows.length >= limit || page.whole || last === undefined) {
        rows.sort((a, b) => (a[0] < b[0] ? -1 : 1));
        return rows.slice(0, limit).map(([key, value]) => ({ key, value }));
      }
      cursor = pageEnd;
    }
  }

  /** Takes all writes back; what was read still counts: an operation that refuses answers on its ground too (M4). */
  discard(): void {
    this.writes.clear();
    this.usage.clear();
  }

  newInode(): InodeNumber {
    let inode = this.#draws.inodes[this.#drawn];
    if (inode === undefined) {
      inode = this.#drawInode();
      this.#draws.inodes.push(inode);
    }
    this.#drawn += 1;
    return inode;
  }

  /** Makes sure that all keys are in memory, with one prefetch for those that are not. */
  need(keys: readonly string[]): void {
    const missing = keys.filter((key) => !this.writes.has(key) && this.#known(key) === undefined);
    if (missing.length > 0) throw new Miss(missing);
  }

  /** Usage of a realm as of this moment, this operation's own changes included. Not a read in the sense of M4: sums commute. */
  usageOf(realm: number): UsageChange {
    const before = this.#usageBefore(realm);
    const own = this.usage.get(realm);
    return {
      bytes: before.bytes + (own?.bytes ?? 0),
      inodes: before.inodes + (own?.inodes ?? 0),
      directories: before.directories + (own?.directories ?? 0),
    };
  }

  addUsage(realm: number, change: Partial<UsageChange>): void {
    const sum = this.usage.get(realm) ?? { bytes: 0, inodes: 0, directories: 0 };
    sum.bytes += change.bytes ?? 0;
    sum.inodes += change.inodes ?? 0;
    sum.directories += change.directories ?? 0;
    this.usage.set(realm, sum);
  }

  #entry(key: string): Entry {
    const entry = this.#known(key);
    if (entry === undefined) throw new Miss([key]);
    if (++this.#keys > OPERATION_KEYS_MAX) throw tooManyKeys();
    this.#note(entry);
    return entry;
  }

  /** Overlay first: a pinned value may be older than a batch that was written since it was fetched. */
  #known(key: string): Entry | undefined {
    return this.#view.overlaid(key) ?? this.#pins.entries.get(key) ?? this.#view.peek(key);
  }

  #write(key: string, write: PendingWrite): void {
    if (++this.#keys > OPERATION_KEYS_MAX) throw tooManyKeys();
    // M4: also what is overwritten without being read counts.
    const before = this.#view.overlaid(key);
    if (before !== undefined) this.#note(before);
    this.writes.set(key, write);
  }

  #note(entry: Entry): void {
    if (entry.position > this.readsThrough) this.readsThrough = entry.position;
    if (entry.writer !== this.#session && entry.position > this.foreignThrough) this.foreignThrough = entry.position;
  }

  #page(range: KeyRange): Page {
    const page = this.#pins.pages.get(pageKey(range));
    if (page === undefined) throw new Miss([], range);
    return page;
  }
}

export function pageKey({ from, to, limit }: KeyRange): string {
  return `${from.length}:${from}${to}:${limit}`;
}

function tooManyKeys(): CollectiveError {
  return new CollectiveError(
    'overloaded',
    `Run an operation that touches more than ${OPERATION_KEYS_MAX} keys: it must be cut into steps`,
  );
}
