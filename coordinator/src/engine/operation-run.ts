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
import { NO_USAGE, sum, type UsageChange } from './usage-sums.ts';
import type { Entry, View } from './view.ts';

/** Keys that one operation may touch; above it, it must be cut into bounded steps. */
export const OPERATION_KEYS_MAX = 20_000;
/** Rows of one read of the store for a scan, unless more are wanted. */
const SCAN_PAGE_ROWS_MAX = 4_096;

/** Thrown inside an operation to make it stop, prefetch and run again. */
export class Miss {
  readonly keys: readonly string[];
  readonly ranges: readonly KeyRange[];

  constructor(keys: readonly string[], ranges: readonly KeyRange[] = []) {
    this.keys = keys;
    this.ranges = ranges;
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
    const rows: Row<V>[] = [];
    let cursor = from;
    let pageLimit = limit;
    while (rows.length < limit) {
      const page = this.#page({ from: cursor, to, limit: pageLimit });
      const last = page.rows.at(-1)?.key;
      const pageEnd = page.whole || last === undefined ? to : `${last}\0`;
      for (const { key, stored } of this.#merged(page, cursor, pageEnd)) {
        const value = this.#newest(table, key, stored);
        if (value === undefined) continue;
        if (rows.length >= OPERATION_KEYS_MAX) throw tooManyKeys();
        if (rows.push({ key, value }) === limit) break;
      }
      if (pageEnd === to) break;
      cursor = pageEnd;
      // Rows that are removed in memory only may fill whole pages: larger ones, so that the runs stay few.
      pageLimit = Math.max(limit, Math.min(SCAN_PAGE_ROWS_MAX, pageLimit * 4));
    }
    return rows;
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

  /** The same for scans that follow with exactly these bounds: one read of the store for all of them. */
  needScans(ranges: readonly KeyRange[]): void {
    const missing = ranges.filter((range) => !this.#pins.pages.has(pageKey(range)));
    if (missing.length > 0) throw new Miss([], missing);
  }

  /** Usage of a realm as of this moment, this operation's own changes included. Not a read in the sense of M4: sums commute. */
  usageOf(realm: number): UsageChange {
    const own = this.usage.get(realm);
    return own === undefined ? this.#usageBefore(realm) : sum(this.#usageBefore(realm), own);
  }

  addUsage(realm: number, change: Partial<UsageChange>): void {
    const before = this.usage.get(realm) ?? NO_USAGE;
    this.usage.set(realm, sum(before, { ...NO_USAGE, ...change }));
  }

  /** Takes all writes back; what was read still counts: an operation that refuses answers on its ground too (M4). */
  discard(): void {
    this.writes.clear();
    this.usage.clear();
  }

  /** Keys of the page and of what is newer in memory, in order, each once. */
  *#merged({ rows }: Page, from: string, to: string): Iterable<{ key: string; stored: StoredRow | undefined }> {
    const own = [...this.writes.keys()].filter((key) => key >= from && key < to).sort();
    const overlay = this.#view.overlayFrom(from);
    let newer = overlay.next();
    for (let row = 0, write = 0; ; ) {
      const stored = rows[row];
      const overlaid = newer.done === true || newer.value[0] >= to ? undefined : newer.value[0];
      const key = least(least(stored?.key, own[write]), overlaid);
      if (key === undefined) return;
      if (stored?.key === key) row++;
      if (own[write] === key) write++;
      if (overlaid === key) newer = overlay.next();
      yield { key, stored: stored?.key === key ? stored : undefined };
    }
  }

  #newest<P extends readonly unknown[], V>(
    table: Table<P, V>,
    key: string,
    stored: StoredRow | undefined,
  ): V | undefined {
    const own = this.writes.get(key);
    if (own !== undefined) return own.value as V | undefined;
    const entry = this.#view.overlaid(key);
    if (entry === undefined) return stored === undefined ? undefined : table.decode(stored.value);
    this.#note(entry);
    return entry.value(table);
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
    // Its own write may have been built on another session's: then so is what it reads now.
    const foreign = entry.writer === this.#session ? entry.foreignThrough : entry.position;
    if (foreign > this.foreignThrough) this.foreignThrough = foreign;
  }

  #page(range: KeyRange): Page {
    const page = this.#pins.pages.get(pageKey(range));
    if (page === undefined) throw new Miss([], [range]);
    return page;
  }
}

export function pageKey({ from, to, limit }: KeyRange): string {
  return `${from.length}:${from}${to}:${limit}`;
}

function least(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a < b ? a : b;
}

function tooManyKeys(): CollectiveError {
  return new CollectiveError(
    'overloaded',
    `Run an operation that touches more than ${OPERATION_KEYS_MAX} keys: it must be cut into steps`,
  );
}
