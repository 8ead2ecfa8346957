/**
 * The only place where metadata changes (M2, M3, M4). An operation runs synchronously over the view; its writes are seen
 * by the next one at once and go into the open batch; the batch is sealed, appended to the log, and, once stable, applied
 * to the store. An answer leaves only when the batches that it depends on are firm.
 *
 * Cost of a create: some 8 map writes and one protobuf encode per distinct row; rows that many operations of a batch
 * change (the parent's inode) are encoded once. 32 creates in flight share one write and one fsync.
 */
import { assert } from '@collective/base/assert';
import { type Clock, type Timer, wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Epoch, InodeNumber, LogPosition, RealmId, SessionId } from '@collective/base/ids';
import type { Log } from '../log/log.ts';
import { type Change, encodeBatch } from '../store/batch-codec.ts';
import type { Store } from '../store/store.ts';
import type { UsageRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { EPOCHS, RANGES, USAGE } from '../tables/tables.ts';
import { Firmness } from './firmness.ts';
import { type NumberKind, NumberRanges } from './numbers.ts';
import { type Draws, Miss, OperationRun, Pins, pageKey, type UsageChange } from './operation-run.ts';
import type { RunOptions, Engine as TransactionEngine } from './transaction.ts';
import { Entry, View } from './view.ts';

export interface EngineOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  /** Called once when a commit failed or is ambiguous: the process must end, a restart resolves it (M4). */
  readonly onFatal: (error: Error) => void;
  readonly cacheEntriesMax?: number;
  /** M2a: generations that nodes report are below the one of a restored coordinator. */
  readonly generation?: number;
}

/** Entries of memory, about 0.5 KiB each. */
const CACHE_ENTRIES_MAX = 300_000;
/** Changes that the store has not caught up with; above it new operations wait. */
const OVERLAY_ENTRIES_MAX = 400_000;
/** Keys of one batch: bounds its bytes (an inode row is about 100). */
const BATCH_KEYS_MAX = 4_000;
const CHECKPOINT_EVERY_MS = 10_000;
/** Runs of one operation: each but the last ended in a prefetch. */
const RUNS_MAX = 1_000;

export interface Execution {
  readonly session: SessionId;
  /** Time and numbers of an earlier run of the same request (M4), or fresh ones. */
  readonly draws?: Draws;
}

/** What an operation came to, before its ground is firm. */
export interface Outcome<T> {
  readonly value: T;
  readonly draws: Draws;
  /** Of the batch with its writes; 0 if it wrote nothing. */
  readonly position: LogPosition;
  /** What the answer rests on. */
  readonly readsThrough: LogPosition;
  readonly foreignThrough: LogPosition;
}

interface OpenBatch {
  readonly position: LogPosition;
  readonly keys: Set<string>;
  readonly realms: Set<number>;
}

export class Engine implements TransactionEngine {
  readonly epoch: Epoch;
  /** Log position that this start found. */
  readonly recovered: LogPosition;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #store: Store;
  readonly #onFatal: (error: Error) => void;
  readonly #view: View;
  readonly #numbers: NumberRanges;
  readonly #usage: Map<number, UsageRow>;
  readonly #written: Firmness;
  readonly #stable: Firmness;
  #open: OpenBatch | undefined;
  #sealing = false;
  #unapplied: { position: LogPosition; payload: Uint8Array }[] = [];
  #applies: Promise<void> = Promise.resolve();
  #applied: LogPosition;
  #checkpointed: LogPosition;
  #checkpointTimer: Timer | undefined;
  #checkpointing: Promise<void> | undefined;
  #failure: Error | undefined;
  #roomWaiters: (() => void)[] = [];
  #closed = false;
  readonly counters = { operations: 0, prefetches: 0, batches: 0, changes: 0 };

  /** Replays the log into the store, takes a new epoch and makes it stable. Throws `store_damaged`, `clock_wrong`. */
  static async start(options: EngineOptions): Promise<Engine> {
    const { log, store, clock } = options;
    if (store.applied > log.last)
      throw new CollectiveError(
        'store_damaged',
        `Start the metadata engine: the database has applied position ${store.applied}, the log ends at ${log.last}. The log is the truth; restore it or a backup`,
      );
    for await (const { position, payload } of log.read(store.applied)) await store.apply(payload, position);

    const all = { to: (prefix: string) => prefixEnd(prefix), limit: 1_000_000 };
    const [epochs = [], ranges = [], usages = []] = await store.scan([
      { from: EPOCHS.prefix, to: all.to(EPOCHS.prefix), limit: all.limit },
      { from: RANGES.prefix, to: all.to(RANGES.prefix), limit: all.limit },
      { from: USAGE.prefix, to: all.to(USAGE.prefix), limit: all.limit },
    ]);
    const lastRow = epochs.at(-1);
    const last = lastRow === undefined ? undefined : EPOCHS.decode(lastRow.value);
    const nowMs = wallMs(clock);
    const lastStartMs = (last?.started?.seconds ?? 0) * 1000;
    if (lastStartMs > nowMs + CLOCK_TOLERANCE_MS)
      throw new CollectiveError(
        'clock_wrong',
        `Start the metadata engine: the clock says ${new Date(nowMs).toISOString()}, but it was started before at ${new Date(lastStartMs).toISOString()}`,
      );
    const generation = options.generation ?? last?.generation ?? Math.floor(nowMs / 1000);
    const epoch = { generation, start: (last?.start ?? 0) + 1 };
    const reservedTo = new Map(
      ranges.map(({ key, value }) => [
        Buffer.from(key.slice(1), 'latin1').toString('utf8'),
        RANGES.decode(value).reservedTo,
      ]),
    );
    const usage = new Map(usages.map(({ key, value }) => [readBigEndian(key, 1, 6), USAGE.decode(value)]));
    const engine = new Engine(options, epoch, new NumberRanges(reservedTo), usage);
    await engine.run((tx) =>
      tx.put(EPOCHS, { ...epoch, started: tx.now, recovered: engine.recovered }, epoch.generation, epoch.start),
    );
    engine.#scheduleCheckpoint();
    return engine;
  }

  private constructor(options: EngineOptions, epoch: Epoch, numbers: NumberRanges, usage: Map<number, UsageRow>) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#store = options.store;
    this.#onFatal = options.onFatal;
    this.#view = new View(options.cacheEntriesMax ?? CACHE_ENTRIES_MAX);
    this.#numbers = numbers;
    this.#usage = usage;
    this.epoch = epoch;
    this.recovered = options.log.last;
    this.#written = new Firmness(options.log.last);
    this.#stable = new Firmness(options.log.last);
    this.#applied = options.log.last;
    this.#checkpointed = options.store.applied;
    this.#log.begin(epoch, {
      written: (position) => {
        this.#written.reach(position);
        if (this.#stable.anybodyWaits) this.#log.hurry();
        if (this.#open !== undefined) this.#seal();
      },
      stable: (position) => this.#becameStable(position),
      failed: (error) => this.#fail(error),
    });
  }

  get stablePosition(): LogPosition {
    return this.#stable.reached;
  }

  get writtenPosition(): LogPosition {
    return this.#written.reached;
  }

  /** Position of the newest batch, which may still be open. */
  get lastPosition(): LogPosition {
    return this.#open?.position ?? this.#log.last;
  }

  /** Entries in memory, for metrics. */
  get memory(): { overlay: number; cache: number } {
    return { overlay: this.#view.overlayEntries, cache: this.#view.cachedEntries };
  }

  drawNumber(kind: NumberKind): number {
    const number = this.#numbers.draw(kind);
    // Sessions that only read draw promise numbers without ever filling a batch that would extend the range.
    if (this.#numbers.isLow(kind) && this.#failure === undefined && !this.#closed) this.#openBatch();
    return number;
  }

  /** Whether an earlier start may have given this inode number. */
  gavePreviously(inode: number): boolean {
    return this.#numbers.gavePreviously('inode', inode);
  }

  freshDraws(): Draws {
    return { now: this.#clock.now(), inodes: [] };
  }

  usageOf(realm: RealmId): Readonly<UsageRow> {
    return this.#usage.get(realm) ?? NO_USAGE;
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
    this.counters.prefetches += 1;
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
    if (this.#view.overlayEntries > OVERLAY_ENTRIES_MAX) return undefined;
    const outcome = this.#attempt(operation, execution.session, execution.draws ?? this.freshDraws(), new Pins());
    return outcome instanceof Miss ? undefined : outcome;
  }

  async execute<T>(operation: (tx: OperationRun) => T, execution: Execution): Promise<Outcome<T>> {
    const draws = execution.draws ?? this.freshDraws();
    const pins = new Pins();
    let serial: number | undefined;
    try {
      for (let runs = 0; runs < RUNS_MAX; runs++) {
        while (this.#view.overlayEntries > OVERLAY_ENTRIES_MAX) await this.#room();
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
  firm(
    outcome: Pick<Outcome<unknown>, 'position' | 'readsThrough' | 'foreignThrough'>,
    durability: 'written' | 'stable',
  ): Promise<void> | undefined {
    const written = Math.max(outcome.position, outcome.readsThrough) as LogPosition;
    const stable =
      durability === 'stable' ? (Math.max(written, outcome.foreignThrough) as LogPosition) : outcome.foreignThrough;
    if (stable > this.#stable.reached) {
      const both =
        Math.max(stable, written) === stable
          ? this.#stable.until(stable)
          : Promise.all([this.#stable.until(stable), this.#written.until(written)]).then(nothing);
      if (stable <= this.#written.reached) this.#log.hurry();
      return both;
    }
    return this.#written.until(written);
  }

  /** Resolves when the log is stable through `position`. */
  stableThrough(position: LogPosition): Promise<void> | undefined {
    return this.firm({ position, readsThrough: 0 as LogPosition, foreignThrough: 0 as LogPosition }, 'stable');
  }

  /** Makes all that was run stable, applies it and closes log and store. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#checkpointTimer?.cancel();
    await this.#checkpointing;
    if (this.#failure === undefined) {
      while (this.#open !== undefined) {
        const { position } = this.#open;
        await this.#stable.until(position);
      }
    }
    await this.#log.close();
    if (this.#failure === undefined) {
      await this.#applyAll();
      await this.#store.checkpoint();
    }
    await this.#store.close();
  }

  #attempt<T>(operation: (tx: OperationRun) => T, session: SessionId, draws: Draws, pins: Pins): Outcome<T> | Miss {
    if (this.#failure !== undefined) throw this.#failure;
    const run = new OperationRun({
      view: this.#view,
      pins,
      session,
      draws,
      drawInode: () => this.#numbers.draw('inode') as InodeNumber,
      position: this.#nextPosition(),
      usageBefore: (realm) => this.#usage.get(realm) ?? NO_USAGE,
    });
    let value: T;
    try {
      value = operation(run);
    } catch (thrown) {
      if (thrown instanceof Miss) return thrown;
      throw thrown;
    }
    this.counters.operations += 1;
    const position = run.writes.size > 0 || run.usage.size > 0 ? this.#commit(run, session) : (0 as LogPosition);
    return {
      value,
      draws,
      position,
      readsThrough: run.readsThrough,
      foreignThrough: run.foreignThrough > this.#stable.reached ? run.foreignThrough : (0 as LogPosition),
    };
  }

  #nextPosition(): LogPosition {
    return this.#open?.position ?? ((this.#log.last + 1) as LogPosition);
  }

  #commit(run: OperationRun, session: SessionId): LogPosition {
    const batch = this.#openBatch();
    for (const [key, { codec, value }] of run.writes) {
      this.#view.write(key, Entry.written(codec, value, batch.position, session));
      batch.keys.add(key);
    }
    for (const [realm, change] of run.usage) {
      this.#addUsage(realm, change);
      batch.realms.add(realm);
    }
    if (batch.keys.size >= BATCH_KEYS_MAX) this.#seal();
    return batch.position;
  }

  #addUsage(realm: number, change: UsageChange): void {
    const before = this.#usage.get(realm) ?? NO_USAGE;
    this.#usage.set(realm, {
      bytes: before.bytes + change.bytes,
      inodes: before.inodes + change.inodes,
      directories: before.directories + change.directories,
    });
  }

  #openBatch(): OpenBatch {
    if (this.#open === undefined) {
      this.#open = { position: (this.#log.last + 1) as LogPosition, keys: new Set(), realms: new Set() };
      if (!this.#sealing) {
        this.#sealing = true;
        this.#clock.defer(() => {
          this.#sealing = false;
          // While a write is under way the batch goes on growing; its end seals it.
          if (this.#written.reached === this.#log.last) this.#seal();
        });
      }
    }
    return this.#open;
  }

  #seal(): void {
    const batch = this.#open;
    if (batch === undefined || this.#failure !== undefined) return;
    this.#open = undefined;
    const changes: Change[] = [];
    for (const key of batch.keys) {
      const entry = this.#view.overlaid(key);
      assert(entry?.position === batch.position, 'the newest entry of a key in the open batch is of that batch');
      changes.push({ key, value: entry.encoded() });
    }
    for (const realm of batch.realms) {
      const row = this.#usage.get(realm);
      if (row !== undefined) changes.push({ key: USAGE.key(realm as RealmId), value: USAGE.encode(row) });
    }
    for (const { kind, reservedTo } of this.#numbers.extend(batch.position))
      changes.push({ key: RANGES.key(kind), value: RANGES.encode({ reservedTo }) });
    const payload = encodeBatch(changes);
    this.counters.batches += 1;
    this.counters.changes += changes.length;
    try {
      const position = this.#log.append(payload);
      assert(position === batch.position, 'nobody else appends to the log');
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#unapplied.push({ position: batch.position, payload });
    this.#view.sealed(batch.position, [...batch.keys]);
  }

  #becameStable(position: LogPosition): void {
    this.#numbers.stable(position);
    this.#stable.reach(position);
    if (!this.#closed) void this.#applyAll();
  }

  /** Hands stable batches to the store, each once; the store puts those that wait into one transaction. */
  #applyAll(): Promise<void> {
    const ready: Promise<void>[] = [];
    while (this.#unapplied[0] !== undefined && this.#unapplied[0].position <= this.#stable.reached) {
      const batch = this.#unapplied.shift();
      if (batch === undefined) break;
      ready.push(
        this.#store.apply(batch.payload, batch.position).then(() => {
          this.#applied = batch.position;
          this.#view.applied(batch.position);
          this.#tellRoom();
        }),
      );
    }
    this.#applies = Promise.all([this.#applies, ...ready]).then(nothing, (error) => {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    });
    return this.#applies;
  }

  async #fetch(miss: Miss, pins: Pins): Promise<void> {
    this.counters.prefetches += 1;
    if (miss.range !== undefined) {
      const { range } = miss;
      const [rows = []] = await this.#store.scan([range]);
      pins.pages.set(pageKey(range), { rows, whole: rows.length < range.limit });
    }
    if (miss.keys.length > 0) {
      const values = await this.#store.get(miss.keys);
      for (const [i, key] of miss.keys.entries()) pins.entries.set(key, this.#view.learn(key, values[i]));
    }
  }

  #scheduleCheckpoint(): void {
    if (this.#closed) return;
    this.#checkpointTimer = this.#clock.setTimer(
      CHECKPOINT_EVERY_MS,
      () => {
        this.#checkpointing = this.#checkpoint().finally(() => {
          this.#checkpointing = undefined;
          this.#scheduleCheckpoint();
        });
      },
      { background: true },
    );
  }

  async #checkpoint(): Promise<void> {
    if (this.#failure !== undefined || this.#applied === this.#checkpointed) return;
    try {
      const durable = await this.#store.checkpoint();
      if (durable === undefined) return;
      this.#checkpointed = durable;
      await this.#log.truncate(durable);
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #room(): Promise<void> {
    return new Promise((resolve) => this.#roomWaiters.push(resolve));
  }

  #tellRoom(): void {
    if (this.#roomWaiters.length === 0 || this.#view.overlayEntries > OVERLAY_ENTRIES_MAX) return;
    const waiters = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const resolve of waiters) resolve();
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#written.fail(error);
    this.#stable.fail(error);
    this.#tellRoom();
    this.#onFatal(error);
  }
}

/** A clock that is set back a little must not keep a member down. */
const CLOCK_TOLERANCE_MS = 120_000;

const NO_USAGE: UsageRow = { bytes: 0, inodes: 0, directories: 0 };

function nothing(): void {}
