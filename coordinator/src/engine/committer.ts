/**
 * The way of a batch (M2, M4): open while operations write to it, sealed and appended to the log, written, stable, and only
 * then applied to the store. One batch is open at a time; while a write is under way it goes on growing, and the end of that
 * write seals it. What waits for firm ground waits here. The first failure ends everything: a commit whose outcome is not
 * known is resolved by the next start.
 */
import { assert } from '@collective/base/assert';
import type { Clock, Timer } from '@collective/base/clock';
import { toCollectiveError } from '@collective/base/errors';
import type { Epoch, LogPosition, RealmId, SessionId } from '@collective/base/ids';
import type { Log } from '../log/log.ts';
import { type Change, encodeBatch } from '../store/batch-codec.ts';
import type { Store } from '../store/store.ts';
import type { Table } from '../tables/table.ts';
import { RANGES, USAGE } from '../tables/tables.ts';
import { Firmness } from './firmness.ts';
import type { NumberRanges } from './numbers.ts';
import type { OperationRun } from './operation-run.ts';
import { roughBytes } from './rough-bytes.ts';
import type { UsageSums } from './usage-sums.ts';
import { Entry, type View } from './view.ts';

export interface CommitterOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  readonly view: View;
  readonly numbers: NumberRanges;
  readonly usage: UsageSums;
  readonly epoch: Epoch;
  readonly onFatal: (error: Error) => void;
  readonly room?: StoreRoom | undefined;
}

/** Of the disk of log and store. */
export interface StoreRoom {
  /** Both are to be kept short. */
  readonly isTight: boolean;
}

/** What an answer rests on. */
export interface Ground {
  /** Of the batch with its writes; 0 if it wrote nothing. */
  readonly position: LogPosition;
  /** The latest batch that was read or overwritten. */
  readonly readsThrough: LogPosition;
  /** The latest batch of another session among them; 0 when that is stable. */
  readonly foreignThrough: LogPosition;
}

interface OpenBatch {
  readonly position: LogPosition;
  readonly keys: Set<string>;
  readonly realms: Set<number>;
  roughBytes: number;
}

/** Keys and estimated bytes at which a batch is sealed. The operation that reaches them may go beyond, others do not. */
const BATCH_KEYS_MAX = 4_000;
const BATCH_BYTES_MAX = 1024 * 1024;
/** Stable batches are gathered for so long: one transaction of the store for many costs a fraction of one each. */
export const APPLY_WITHIN_MS = 10;
const CHECKPOINT_EVERY_MS = 10_000;
/** Where room is tight: what was taken away gives none before. */
const TIGHT_CHECKPOINT_EVERY_MS = 1_000;
const NOBODY: readonly ((key: string, value: unknown) => void)[] = [];

export class Committer {
  readonly counters = { batches: 0, changes: 0 };
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #store: Store;
  readonly #view: View;
  readonly #numbers: NumberRanges;
  readonly #usage: UsageSums;
  readonly #onFatal: (error: Error) => void;
  readonly #room: StoreRoom | undefined;
  #checkpointedAtMs = 0;
  readonly #written: Firmness;
  readonly #stable: Firmness;
  #open: OpenBatch | undefined;
  #sealing = false;
  #unapplied: { position: LogPosition; payload: Uint8Array }[] = [];
  #applies: Promise<void> = Promise.resolve();
  #applied: LogPosition;
  #checkpointed: LogPosition;
  #applyTimer: Timer | undefined;
  #checkpointTimer: Timer | undefined;
  #checkpointing: Promise<void> | undefined;
  #failure: Error | undefined;
  #closed = false;
  /** By the letter of the table. */
  readonly #watchers = new Map<number, ((key: string, value: unknown) => void)[]>();

  /** The store has applied all that the log holds. Throws `fenced`. */
  constructor(options: CommitterOptions) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#store = options.store;
    this.#view = options.view;
    this.#numbers = options.numbers;
    this.#usage = options.usage;
    this.#onFatal = options.onFatal;
    this.#room = options.room;
    this.#written = new Firmness(options.log.last);
    this.#stable = new Firmness(options.log.last);
    this.#applied = options.log.last;
    this.#checkpointed = options.store.applied;
    this.#log.begin(options.epoch, {
      written: (position) => this.#becameWritten(position),
      stable: (position) => this.#becameStable(position),
      failed: (error) => this.#fail(error),
    });
    this.#scheduleCheckpoint();
  }

  /** Of the batch that an operation would write to now. */
  get nextPosition(): LogPosition {
    return this.#open?.position ?? ((this.#log.last + 1) as LogPosition);
  }

  /** Of the newest batch, which may still be open. */
  get lastPosition(): LogPosition {
    return this.#open?.position ?? this.#log.last;
  }

  get writtenPosition(): LogPosition {
    return this.#written.reached;
  }

  get stablePosition(): LogPosition {
    return this.#stable.reached;
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  watch<P extends readonly unknown[], V>(table: Table<P, V>, listener: (key: string, value: V) => void): void {
    const letter = table.prefix.charCodeAt(0);
    const watchers = this.#watchers.get(letter) ?? [];
    this.#watchers.set(letter, [...watchers, listener as (key: string, value: unknown) => void]);
  }

  /** Takes the writes of an operation that returned. They are visible to the next one at once. */
  commit(run: OperationRun, session: SessionId): LogPosition {
    const batch = this.#openBatch();
    const by = { position: batch.position, writer: session, foreignThrough: run.foreignThrough };
    for (const [key, { codec, value }] of run.writes) {
      this.#view.write(key, Entry.written(codec, value, by));
      batch.keys.add(key);
      batch.roughBytes += key.length + roughBytes(value);
      if (value !== undefined) for (const tell of this.#watchers.get(key.charCodeAt(0)) ?? NOBODY) tell(key, value);
    }
    for (const [realm, change] of run.usage) {
      this.#usage.add(realm, change);
      batch.realms.add(realm);
    }
    if (batch.keys.size >= BATCH_KEYS_MAX || batch.roughBytes >= BATCH_BYTES_MAX) this.#seal();
    return batch.position;
  }

  /** Sees to it that a number range which runs low is extended, also when no operation writes. */
  extendNumbers(): void {
    if (!this.#closed && this.#failure === undefined) this.#openBatch();
  }

  /** Resolves when an answer may leave (M4); undefined when it may at once. */
  firm(ground: Ground, durability: 'written' | 'stable'): Promise<void> | undefined {
    const written = Math.max(ground.position, ground.readsThrough) as LogPosition;
    const stable = (
      durability === 'stable' ? Math.max(written, ground.foreignThrough) : ground.foreignThrough
    ) as LogPosition;
    const isStable = this.#stable.until(stable);
    if (isStable === undefined) return this.#written.until(written);
    if (stable <= this.#written.reached) this.#log.hurry();
    // What is stable is written.
    return written <= stable ? isStable : Promise.all([isStable, this.#written.until(written)]).then(nothing);
  }

  /** Makes all that was committed stable, applies it, and closes log and store. A failure on the way goes to `onFatal`. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#checkpointTimer?.cancel();
    await this.#checkpointing;
    this.#seal();
    await this.#log.close();
    this.#applyStable();
    await this.#applies;
    await this.#checkpoint();
    await this.#store.close();
  }

  #openBatch(): OpenBatch {
    if (this.#open === undefined) {
      this.#open = { position: this.nextPosition, keys: new Set(), realms: new Set(), roughBytes: 0 };
      if (!this.#sealing) {
        this.#sealing = true;
        this.#clock.defer(() => {
          this.#sealing = false;
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
    try {
      const changes = this.#changesOf(batch);
      const payload = encodeBatch(changes);
      const position = this.#log.append(payload);
      assert(position === batch.position, 'nobody else appends to the log');
      this.counters.batches += 1;
      this.counters.changes += changes.length;
      this.#unapplied.push({ position, payload });
      this.#view.sealed(position, [...batch.keys]);
    } catch (error) {
      this.#fail(error);
    }
  }

  #changesOf(batch: OpenBatch): Change[] {
    const changes: Change[] = [];
    for (const key of batch.keys) {
      const entry = this.#view.overlaid(key);
      assert(entry?.position === batch.position, 'the newest entry of a key in the open batch is of that batch');
      changes.push({ key, value: entry.encoded() });
    }
    for (const realm of batch.realms)
      changes.push({ key: USAGE.key(realm as RealmId), value: USAGE.encode(this.#usage.of(realm)) });
    for (const { kind, reservedTo } of this.#numbers.extend(batch.position))
      changes.push({ key: RANGES.key(kind), value: RANGES.encode({ reservedTo }) });
    return changes;
  }

  #becameWritten(position: LogPosition): void {
    this.#written.reach(position);
    if (this.#stable.anybodyWaits) this.#log.hurry();
    this.#seal();
  }

  #becameStable(position: LogPosition): void {
    this.#numbers.stable(position);
    this.#stable.reach(position);
    if (!this.#closed) this.#applyTimer ??= this.#clock.setTimer(APPLY_WITHIN_MS, () => this.#applyStable());
  }

  /** Hands stable batches to the store, each once; the store puts those that wait into one transaction. */
  #applyStable(): void {
    this.#applyTimer?.cancel();
    this.#applyTimer = undefined;
    if (this.#failure !== undefined) return;
    const ready: Promise<void>[] = [];
    while (this.#unapplied[0] !== undefined && this.#unapplied[0].position <= this.#stable.reached) {
      const { payload, position } = this.#unapplied[0];
      this.#unapplied.shift();
      ready.push(
        this.#store.apply(payload, position).then(() => {
          this.#applied = position;
          this.#view.applied(position);
        }),
      );
    }
    this.#applies = Promise.all([this.#applies, ...ready]).then(nothing, (error) => this.#fail(error));
  }

  #scheduleCheckpoint(): void {
    if (this.#closed) return;
    const checkpoint = (): void => {
      const dueMs = this.#room?.isTight ? 0 : this.#checkpointedAtMs + CHECKPOINT_EVERY_MS;
      if (this.#clock.bootMs() < dueMs) {
        this.#scheduleCheckpoint();
        return;
      }
      this.#checkpointing = this.#checkpoint().finally(() => {
        this.#checkpointing = undefined;
        this.#scheduleCheckpoint();
      });
    };
    const everyMs = this.#room === undefined ? CHECKPOINT_EVERY_MS : TIGHT_CHECKPOINT_EVERY_MS;
    this.#checkpointTimer = this.#clock.setTimer(everyMs, checkpoint, { background: true });
  }

  async #checkpoint(): Promise<void> {
    this.#checkpointedAtMs = this.#clock.bootMs();
    if (this.#failure !== undefined || this.#applied === this.#checkpointed) return;
    const givesBack = this.#room?.isTight === true;
    try {
      const durable = await this.#store.checkpoint({ givesBack });
      if (durable === undefined) return;
      this.#checkpointed = durable;
      if (givesBack) this.#log.endSegment();
      if (!this.#closed) await this.#log.truncate(durable);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(thrown: unknown): void {
    if (this.#failure !== undefined) return;
    const error = toCollectiveError(thrown, 'Commit a batch of metadata');
    this.#failure = error;
    this.#written.fail(error);
    this.#stable.fail(error);
    this.#view.wake();
    this.#onFatal(error);
  }
}

function nothing(): void {}
