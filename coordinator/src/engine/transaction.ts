/**
 * What an operation sees of the engine (M3): an ordered key-value view, time and numbers drawn once. An operation is a
 * synchronous function over it; it may be run again from its start, so it must do nothing but read, write and throw.
 */
import type { Timestamp } from '@collective/base/clock';
import type { InodeNumber } from '@collective/base/ids';
import type { Table } from '../tables/table.ts';

export interface Row<V> {
  /** The whole key, table prefix included. */
  readonly key: string;
  readonly value: V;
}

export interface Transaction {
  /** The same moment however often the operation runs, and again on replay (M4). */
  readonly now: Timestamp;
  get<P extends readonly unknown[], V>(table: Table<P, V>, ...parts: P): V | undefined;
  /** The value becomes shared: it must not be changed afterwards. */
  put<P extends readonly unknown[], V>(table: Table<P, V>, value: NoInfer<V>, ...parts: P): void;
  remove<P extends readonly unknown[], V>(table: Table<P, V>, ...parts: P): void;
  /** Rows with `from` <= key < `to`, in order, at most `limit`. Bounds are whole keys. */
  scan<P extends readonly unknown[], V>(table: Table<P, V>, from: string, to: string, limit: number): Row<V>[];
  /** All of these keys will be asked for: fetched in one go where they are not in memory. */
  need(keys: readonly string[]): void;
  /** A number from the reserved range; never given twice (M2a). */
  newInode(): InodeNumber;
}

/** Runs operations and makes them durable. `run` resolves when M4 allows the answer to leave. */
export interface Engine {
  run<T>(operation: (tx: Transaction) => T, options?: RunOptions): Promise<T>;
}

export interface RunOptions {
  /** 'written': survives SIGKILL. 'stable' (default): survives power loss. */
  readonly durability?: 'written' | 'stable';
  readonly signal?: AbortSignal;
}
