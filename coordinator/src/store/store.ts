/**
 * The materialised view of the log (M2): an ordered key-value store that records which log position it has applied. It
 * is given stable batches only. `sqlite-store.ts` is the real one, `memory-store.ts` its twin for simulation, which after
 * a power loss returns any state since the last checkpoint, as SQLite with synchronous=NORMAL may.
 */
import type { LogPosition } from '@collective/base/ids';

export interface KeyRange {
  readonly from: string;
  /** Exclusive. */
  readonly to: string;
  readonly limit: number;
}

export interface StoredRow {
  readonly key: string;
  readonly value: Uint8Array;
}

export interface Store {
  /** Log position that the view had applied when it was opened. */
  readonly applied: LogPosition;
  /** Values in the order of the keys; undefined where there is none. */
  get(keys: readonly string[]): Promise<(Uint8Array | undefined)[]>;
  scan(ranges: readonly KeyRange[]): Promise<StoredRow[][]>;
  /** Applies one batch as a whole. Positions follow each other without a gap; after a failure nothing more is applied. */
  apply(batch: Uint8Array, position: LogPosition): Promise<void>;
  /** Makes what was applied durable; returns the position up to which that holds, undefined if it could not be finished now. */
  checkpoint(options?: CheckpointOptions): Promise<LogPosition | undefined>;
  /** Room for rows in what the store occupies already, as of the last checkpoint. */
  readonly reusableBytes: number;
  /** All rows as of one moment, however much is applied meanwhile. To be closed: it holds up checkpoints. */
  snapshot(): Promise<StoreSnapshot>;
  close(): Promise<void>;
}

export interface CheckpointOptions {
  /** What the store does not need on the way any more goes back to the disk. */
  readonly givesBack: boolean;
}

export interface StoreSnapshot {
  readonly applied: LogPosition;
  /** Rows above `after` in order, about `bytesMax` of them and at least one; none: there are no more. */
  read(after: string | undefined, bytesMax: number): Promise<StoredRow[]>;
  close(): Promise<void>;
}
