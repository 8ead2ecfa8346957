/**
 * The log of batches is the truth of a coordinator (M2); everything else can be made again from it. Port: a file here
 * (`file-log.ts`), etcd later. *Written* survives SIGKILL, *stable* survives power loss.
 */
import type { Epoch, LogPosition } from '@collective/base/ids';

export interface LogRecord {
  readonly position: LogPosition;
  readonly epoch: Epoch;
  readonly payload: Buffer;
}

export interface LogEvents {
  /** Positions up to this one are written. Called in order, never twice with the same. */
  written(position: LogPosition): void;
  /** Positions up to this one are stable; never above the last `written`. */
  stable(position: LogPosition): void;
  /** A write or sync failed or its outcome is not known: nothing more is appended, the process must end (M4). */
  failed(error: Error): void;
}

export interface Log {
  /** The last position that the log holds. */
  readonly last: LogPosition;
  /** All records above `after`, in order. Only before the first append. */
  read(after: LogPosition): AsyncIterable<LogRecord>;
  /** Takes the fence (the epoch of this start) and says where to report; called once, before the first append. */
  begin(epoch: Epoch, events: LogEvents): void;
  /** Gives the batch its position at once; `written` and `stable` follow. */
  append(payload: Uint8Array): LogPosition;
  /** Somebody waits: sync now, not within LOG_SYNC_WITHIN_MS. One sync serves all that wait. */
  hurry(): void;
  /** Lets go of records up to `through`; they may stay. `through` is a position that a checkpoint of the view made durable. */
  truncate(through: LogPosition): Promise<void>;
  /** The next batch begins a new segment, so that `truncate` can let go of this one. Does nothing where that would not be worth it. */
  endSegment(): void;
  /** Bytes that the log keeps, for metrics. */
  readonly sizeBytes: number;
  /** Writes and syncs what is queued, then closes. */
  close(): Promise<void>;
}
