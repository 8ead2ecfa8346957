/**
 * For tests: an engine on a fake disk and clock with the view's in-memory twin, through any number of lives. The view can be
 * held back or made to fail, and it checks itself that no batch reaches it before the log has made that batch stable (M2).
 */
import assert from 'node:assert/strict';
import { FakeDisk, type FakeDiskOptions } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { FakeClock } from '@collective/base/fake-clock';
import type { LogPosition, SessionId } from '@collective/base/ids';
import { SeededRandom } from '@collective/base/random';
import { FileLog } from '../log/file-log.ts';
import { MemoryStore, MemoryStoreDisk } from '../store/memory-store.ts';
import type { KeyRange, Store, StoredRow, StoreSnapshot } from '../store/store.ts';
import { defineTable, type Table } from '../tables/table.ts';
import { APPLY_WITHIN_MS } from './committer.ts';
import { Engine, type EngineOptions, type Outcome } from './engine.ts';
import type { OperationRun } from './operation-run.ts';

/** A table of short texts by name. */
export const TEXTS: Table<readonly [name: string], string> = defineTable(
  'text',
  't',
  {
    encode: (value: string) => ({ finish: () => Buffer.from(value) }),
    decode: (bytes: Uint8Array) => Buffer.from(bytes).toString(),
  },
  (name: string) => name,
);

export const session = (id: number): SessionId => id as SessionId;

export interface LifeOptions {
  /** What is between "written" and "stable". */
  readonly syncMs?: number;
  readonly writeMs?: number;
  readonly before?: FakeDiskOptions['before'];
  readonly engine?: Partial<EngineOptions>;
  readonly segmentBytes?: number;
  /** How long each answer of the view takes. */
  readonly storeMs?: () => number;
}

export class EngineWorld {
  readonly clock = new FakeClock();
  readonly platter = new FakePlatter();
  view = new MemoryStoreDisk();
  readonly #random = new SeededRandom(1);
  #disk: FakeDisk | undefined;

  async start(options: LifeOptions = {}): Promise<EngineLife> {
    return this.clock.finish(this.tryStart(options));
  }

  /** Without moving time on. */
  async tryStart(options: LifeOptions = {}): Promise<EngineLife> {
    const clock = this.clock.process();
    const disk = new FakeDisk({
      platter: this.platter,
      clock,
      latencyMs: ({ kind }) =>
        kind === 'sync' ? (options.syncMs ?? 1) : kind === 'write' ? (options.writeMs ?? 0) : 0,
      ...(options.before && { before: options.before }),
    });
    this.#disk = disk;
    const segmentBytes = options.segmentBytes ?? 1 << 20;
    const log = await FileLog.open({ disk, clock, random: this.#random, folder: 'log', segmentBytes });
    const pause = (): Promise<void> =>
      options.storeMs === undefined
        ? Promise.resolve()
        : new Promise((resolve) => clock.setTimer(options.storeMs?.() ?? 0, resolve));
    const store = new WatchedStore(new MemoryStore(this.view, pause));
    const fatal: Error[] = [];
    const engine = await Engine.start({ clock, log, store, onFatal: (error) => fatal.push(error), ...options.engine });
    store.engine = engine;
    return new EngineLife(this.clock, engine, store, log, disk, fatal);
  }

  kill(): void {
    this.#disk?.kill();
  }

  powerLoss(seed: number): void {
    const random = new SeededRandom(seed);
    if (this.#disk === undefined) this.platter.powerLoss(random);
    else this.#disk.powerLoss(random);
    this.view.powerLoss(random);
  }
}

export class EngineLife {
  readonly clock: FakeClock;
  readonly engine: Engine;
  readonly store: WatchedStore;
  readonly log: FileLog;
  readonly disk: FakeDisk;
  readonly fatal: Error[];

  constructor(clock: FakeClock, engine: Engine, store: WatchedStore, log: FileLog, disk: FakeDisk, fatal: Error[]) {
    this.clock = clock;
    this.engine = engine;
    this.store = store;
    this.log = log;
    this.disk = disk;
    this.fatal = fatal;
  }

  /** Runs an operation to its outcome, without waiting for its ground. */
  execute<T>(by: number, operation: (tx: OperationRun) => T): Promise<Outcome<T>> {
    return this.clock.finish(this.engine.execute(operation, { session: session(by) }));
  }

  async put(by: number, name: string, value: string): Promise<Outcome<void>> {
    return this.execute(by, (tx) => tx.put(TEXTS, value, name));
  }

  async get(name: string, by = 0): Promise<string | undefined> {
    return (await this.execute(by, (tx) => tx.get(TEXTS, name))).value;
  }

  async texts(): Promise<Record<string, string>> {
    const { value } = await this.execute(0, (tx) => tx.scan(TEXTS, 't', 'u', 10_000));
    return Object.fromEntries(value.map((row) => [row.key.slice(1), row.value]));
  }

  /** Moves time on until the log is stable and the view shows it. */
  async settle(): Promise<void> {
    await this.clock.until(() => this.engine.stablePosition === this.engine.lastPosition);
    // Stable batches are gathered before they are applied.
    await this.clock.advance(APPLY_WITHIN_MS);
  }

  async close(): Promise<void> {
    await this.clock.finish(this.engine.close());
  }
}

type Question = 'get' | 'scan' | 'apply' | 'checkpoint';

/** A view whose answers can be held back: what was read before is then told after. */
export class WatchedStore implements Store {
  engine: Engine | undefined;
  readonly asked: Record<Question, number> = { get: 0, scan: 0, apply: 0, checkpoint: 0 };
  readonly #inner: Store;
  readonly #held = new Map<Question, Promise<void>>();
  readonly #failing = new Map<Question, Error>();

  constructor(inner: Store) {
    this.#inner = inner;
  }

  get applied(): LogPosition {
    return this.#inner.applied;
  }

  get reusableBytes(): number {
    return this.#inner.reusableBytes;
  }

  /** Holds back answers to this question until the returned function is called; batches are held back before they apply. */
  hold(question: Question): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#held.set(question, promise);
    return () => {
      this.#held.delete(question);
      resolve();
    };
  }

  fail(question: Question, error: Error): void {
    this.#failing.set(question, error);
  }

  async get(keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const answer = this.#inner.get(keys);
    await this.#gate('get');
    return answer;
  }

  async scan(ranges: readonly KeyRange[]): Promise<StoredRow[][]> {
    const answer = this.#inner.scan(ranges);
    await this.#gate('scan');
    return answer;
  }

  async apply(batch: Uint8Array, position: LogPosition): Promise<void> {
    if (this.engine !== undefined)
      assert.ok(position <= this.engine.stablePosition, `the view was given ${position} before it was stable`);
    await this.#gate('apply');
    return this.#inner.apply(batch, position);
  }

  async checkpoint(): Promise<LogPosition | undefined> {
    await this.#gate('checkpoint');
    return this.#inner.checkpoint();
  }

  snapshot(): Promise<StoreSnapshot> {
    return this.#inner.snapshot();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #gate(question: Question): Promise<void> {
    this.asked[question]++;
    await this.#held.get(question);
    const error = this.#failing.get(question);
    if (error !== undefined) throw error;
  }
}
