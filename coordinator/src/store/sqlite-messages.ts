/** What the coordinator's main thread and its SQLite threads say to each other. */
import type { ErrorCode } from '@collective/base/errors';
import type { KeyRange } from './store.ts';

/** The writer makes the database if it is not there, and only the writer changes it. */
export type ThreadRole = 'writer' | 'reader' | 'checkpointer' | 'snapshot';

export interface WorkerSetup {
  readonly file: string;
  readonly role: ThreadRole;
}

export type Request =
  | { id: number; kind: 'open' }
  | { id: number; kind: 'get'; keys: readonly string[] }
  | { id: number; kind: 'scan'; ranges: readonly KeyRange[] }
  | { id: number; kind: 'apply'; batches: readonly { batch: Uint8Array; position: number }[] }
  | { id: number; kind: 'checkpoint' }
  | { id: number; kind: 'restart-wal'; givesBack: boolean }
  | { id: number; kind: 'begin-snapshot' }
  | { id: number; kind: 'read-on'; after: string | undefined; bytesMax: number }
  | { id: number; kind: 'fill'; rows: readonly { key: string; value: Uint8Array }[]; applied: number }
  | { id: number; kind: 'close' };

/** `lengths` holds -1 where there is no value; `data` holds the values one after the other. */
export type Answer =
  | { id: number; kind: 'opened'; applied: number }
  | { id: number; kind: 'values'; lengths: Int32Array; data: Uint8Array }
  | {
      id: number;
      kind: 'rows';
      counts: readonly number[];
      keys: readonly string[];
      lengths: Int32Array;
      data: Uint8Array;
    }
  /**
   * `position` is -1 when not every frame could be moved; `frames` is the length of the write-ahead log in pages;
   * `reusableBytes` lie in pages of the database that hold nothing.
   */
  | { id: number; kind: 'checkpointed'; position: number; frames: number; reusableBytes: number }
  | { id: number; kind: 'done' }
  | { id: number; kind: 'failed'; code: ErrorCode; message: string };
