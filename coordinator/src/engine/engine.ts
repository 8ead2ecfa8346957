/**
 * The only place where metadata changes (M2, M3, M4). An operation runs synchronously over the view; its writes are seen
 * by the next one at once and go into the open batch (`committer.ts`). An answer leaves only when the batches that it
 * depends on are firm.
 *
 * Cost of a create: some 8 map writes and one protobuf encode per distinct row; rows that many operations of a batch
 * change (the parent's inode) are encoded once. 32 creates in flight share one write and one fsync.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Epoch, InodeNumber, LogPosition, RealmId, SessionId } from '@collective/base/ids';
import type { Log } from '../log/log.ts';
import type { Store, StoreSnapshot } from '../store/store.ts';
import type { UsageRow } from '../tables/gen/tables.ts';
import type { Table } from '../tables/table.ts';
import { EPOCHS } from '../tables/tables.ts';
import { Committer, type Ground, type StoreRoom } from './committer.ts';
import { type NumberKind, NumberRanges } from './numbers.ts';
import { type Draws, Miss, OperationRun, Pins, pageKey } from './operation-run.ts';
import { type EarlierStarts, nextEpoch, readEarlierStarts, replay } from './replay.ts';
import type { RunOptions, Engine as TransactionEngine } from './transaction.ts';
import { UsageSums } from './usage-sums.ts';
import { View } from './view.ts';

export interface EngineOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  /** Called once when a commit failed or is ambiguous: the process must end, a restart resolves it (M4). */
  readonly onFatal: (error: Error) => void;
  readonly cacheEntriesMax?: number;
  readonly overlayEntriesMax?: number;
  /** M2a: generations that nodes report are below the one of a restored coordinator. */
  readonly generation?: number;
  readonly room?: StoreRoom;
}

/** Entries of memory, about 0.5 KiB each. */
const CACHE_ENTRIES_MAX = 300_000;
/** Changes that the store has not caught up with; above it new operations wait. */
const OVERLAY_ENTRIES_MAX = 400_000;
/** Runs of one operation: each but the last ended in a prefetch. */
const RUNS_MAX = 1_000;

export interface Execution {
  readonly session: SessionId;
  /** Time and numbers of an earlier run of the same request (M4), or fresh ones. */
  readonly draws?: Draws;
}

/** What an operation came to, before its ground is firm. */
export interface Outcome<T> extends Ground {
  readonly value: T;
  readonly draws: Draws;
}

export class Engine implements TransactionEngine {
  readonly epoch: Epoch;
  /** Log position that this start found. */
  readonly recovered: LogPosition;
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #view: View;
  readonly #numbers: NumberRanges;
  readonly #usage: UsageSums;
  readonly #committer: Committer;
  #operations = 0;
  #prefetches = 0;
  #closed = false;

  /** Replays the log into the store, takes a new epoch and makes it stable. Throws `store_damaged`, `clock_wrong`, `fenced`. */
  static async start(options: EngineOptions): Promise<Engine> {
    await replay(options.log, options.store);
    const earlier = await readEarlierStarts(options.store);
    const epoch = nextEpoch(earlier.last, options.clock, options.generation);
    const engine = new Engine(options, epoch, earlier);
    const { generation, start } = epoch;
    await engine.run((tx) =>
      tx.put(EPOCHS, { generation, start, started: tx.now, recovered: engine.recovered }, generation, start),
    );
    return engine;
  }

  private constructor(options: EngineOptions, epoch: Epoch, earlier: EarlierStarts) {
    const { clock, log, store, onFatal, room } = options;
    this.epoch = epoch;
    this.recovered = log.last;
    this.#clock = clock;
    this.#store = store;
    const cacheEntriesMax = options.cacheEntriesMax ?? CACHE_ENTRIES_MAX;
    this.#view = new View({ cacheEntriesMax, overlayEntriesMax: options.overlayEntriesMax ?? OVERLAY_ENTRIES_MAX });
    this.#numbers = new NumberRanges(earlier.reservedTo);
    this.#usage = new UsageSums(earlier.usage);
    const [view, numbers, usage] = [this.#view, this.#numbers, this.#usage];
    this.#committer = new Committer({ clock, log, store, view, numbers, usage, epoch, onFatal, room });
  }

  get stablePosition(): LogPosition {
    return this.#committer.stablePosition;
  }

  get writtenPosition(): LogPosition {
    return this.#committer.writtenPosition;
  }

  /** Position of the newest batch, which may still be open. */
  get lastPosition(): LogPosition {
    return this.#committer.lastPosition;
  }

  /** Entries in memory, for metrics. */
  get memory(): { overlay: number; cache: number } {
    return { overlay: this.#view.overlayEntries, cache: this.#view.cachedEntries };
  }

  get counters(): { operations: number; prefetches: number; batches: number; changes: number } {
    return { operations: this.#operations, prefetches: this.#prefetches, ...this.#committer.counters };
  }

  drawNumber(kind: NumberKind): number {
    const number = this.#numbers.draw(kind);
    // Sessions that only read draw promise numbers without ever filling a batch that would extend the range.
    if (this.#numbers.isLow(kind)) this.#committer.extendNumbers();
    return number;
  }

  /** Whether an earlier start may have given this inode number. */
  gavePreviously(inode: number): boolean {
    return this.#numbers.gavePreviously('inode', inode);
  }

  freshDraws(): Draws {
    return { now: this.#clock.now(), inodes: [] };
  }

  /** All rows as the view has them now: what is stable and applied. */
  snapshot(): Promise<StoreSnapshot> {
    return this.#store.snapshot();
  }

  usageOf(realm: RealmId): Readonly<UsageRow> {
    return this.#usage.of(realm);
  }

  /** Over all realms. */
  get totalUsage(): Readonly<UsageRow> {
    return this.#usage.total;
  }

  /** Runs an operation of the coordinator itself; resolves when its answer may leave (M4). */
  async run<T>(operation: (tx: OperationRun) => T, options: RunOptions = {}): Promise<T> {
    options.signal?.throwIfAborted();
    const outcome = await this.execute(operation, { session: 0 as SessionId });
    await this.firm(outcome, options.durability ?? 'stable');
    return outcome.value;
  }

  /** Reads ahead what operations are known to need, in one go, so that they then run without stopping. */
  async prefetch(keys: readonly string[]): Promise<void> {
    const missing = keys.filter((key) => this.#view.peek(key) === undefined);
    if (missing.length === 0) return;
    const serial = this.#view.beginRead();
    try {
      const values = await this.#store.get(missing);
      for (const [i, key] of missing.entries()) this.#view.learn(key, values[i]);
    } finally {
      this.#view.endRead(serial);
    }
    this.#prefetches += 1;
  }

  /**
   * Tells of rows that are put into a table, for jobs that wait for work. Called in the turn of the commit, before that is
   * firm: the listener may only note it.
   */
  watch<P extends readonly unknown[], V>(table: Table<P, V>, listener: (key: string, value: V) => void): void {
    this.#committer.watch(table, listener);
  }

  /** Whether nothing needs to be fetched for these keys. */
  knows(keys: readonly string[]): boolean {
    return keys.every((key) => this.#view.peek(key) !== undefined);
  }

  /**
   * Runs an operation without prefetching; undefined when it stopped for want of a key. What it throws has left nothing.
   * Synchronous, so that operations that find all in memory cost no turn of the event loop.
   */
  tryExecute<T>(operation: (tx: OperationRun) => T, execution: Execution): Outcome<T> | undefined {
    if (this.#view.full) return undefined;
    const outcome = this.#attempt(operation, execution.session, execution.draws ?? this.freshDraws(), new Pins());
    return outcome instanceof Miss ? undefined : outcome;
  }

  async execute<T>(operation: (tx: OperationRun) => T, execution: Execution): Promise<Outcome<T>> {
    // Before its first read: a read that is outstanding keeps the overlay from shrinking, so who waits must hold none.
    while (this.#view.full) {
      this.#throwIfEnded();
      await this.#view.changed();
    }
    const draws = execution.draws ?? this.freshDraws();
    const pins = new Pins();
    let serial: number | undefined;
    try {
      for (let runs = 0; runs < RUNS_MAX; runs++) {
        const outcome = this.#attempt(operation, execution.session, draws, pins);
        if (!(outcome instanceof Miss)) return outcome;
        serial ??= this.#view.beginRead();
        await this.#fetch(outcome, pins);
      }
    } finally {
      if (serial !== undefined) this.#view.endRead(serial);
    }
    throw new CollectiveError('internal', `Run an operation: it stopped ${RUNS_MAX} times for want of a key`);
  }

  /** Resolves when an answer may leave (M4); undefined when it may at once. */
  firm(ground: Ground, durability: 'written' | 'stable'): Promise<void> | undefined {
    return this.#committer.firm(ground, durability);
  }

  /** Resolves when the log is stable through `position`. */
  stableThrough(position: LogPosition): Promise<void> | undefined {
    return this.firm({ position, readsThrough: 0 as LogPosition, foreignThrough: 0 as LogPosition }, 'stable');
  }

  /** Makes all that was run stable, applies it and closes log and store. Operations that come later are refused. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#view.wake();
    await this.#committer.close();
  }

  #attempt<T>(operation: (tx: OperationRun) => T, session: SessionId, draws: Draws, pins: Pins): Outcome<T> | Miss {
    this.#throwIfEnded();
    const run = new OperationRun({
      view: this.#view,
      pins,
      session,
      draws,
      drawInode: () => this.drawNumber('inode') as InodeNumber,
      position: this.#committer.nextPosition,
      usageBefore: (realm) => this.#usage.of(realm),
    });
    let value: T;
    try {
      value = operation(run);
    } catch (thrown) {
      if (thrown instanceof Miss) return thrown;
      throw thrown;
    }
    this.#operations += 1;
    const writes = run.writes.size > 0 || run.usage.size > 0;
    const position = writes ? this.#committer.commit(run, session) : (0 as LogPosition);
    const { readsThrough } = run;
    const foreignThrough = run.foreignThrough > this.stablePosition ? run.foreignThrough : (0 as LogPosition);
    return { value, draws, position, readsThrough, foreignThrough };
  }

  async #fetch(miss: Miss, pins: Pins): Promise<void> {
    this.#prefetches += 1;
    if (miss.ranges.length > 0) {
      const pages = await this.#store.scan(miss.ranges);
      for (const [i, range] of miss.ranges.entries()) {
        const rows = pages[i] ?? [];
        pins.pages.set(pageKey(range), { rows, whole: rows.length < range.limit });
      }
    }
    if (miss.keys.length > 0) {
      const values = await this.#store.get(miss.keys);
      for (const [i, key] of miss.keys.entries()) pins.entries.set(key, this.#view.learn(key, values[i]));
    }
  }

  #throwIfEnded(): void {
    this.#committer.throwIfFailed();
    if (this.#closed) throw new CollectiveError('shutting_down', 'Run an operation: the coordinator is stopping');
  }
}
