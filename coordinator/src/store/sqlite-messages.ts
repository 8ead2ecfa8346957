/** What the coordinator's main thread and its SQLite threads say to each other. */
import type { KeyRange } from './store.ts';

export interface WorkerSetup {
  readonly file: string;
}

export type Request =
  | { id: number; kind: 'open' }
  | { id: number; kind: 'get'; keys: readonly string[] }
  | { id: number; kind: 'scan'; ranges: readonly KeyRange[] }
  | { id: number; kind: 'apply'; batches: readonly { batch: Uint8Array; position: number }[] }
  | { id: number; kind: 'checkpoint' }
  | { id: number; kind: 'close' };

/** `lengths` holds -1 where there is no value; `data` holds the values one after the other. */
export type Answer =
  | { id: number; kind: 'opened'; applied: number; format: number }
  | { id: number; kind: 'values'; lengths: Int32Array; data: Uint8Array }
  | {
      id: number;
      kind: 'rows';
      counts: readonly number[];
      keys: readonly string[];
      lengths: Int32Array;
      data: Uint8Array;
    }
  | { id: number; kind: 'checkpointed'; position: number }
  | { id: number; kind: 'done' }
  | { id: number; kind: 'failed'; message: string };
