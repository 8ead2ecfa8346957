/**
 * An operation as the judge sees it: steps over a state of the model, each taking effect at one moment. What it changes is
 * sent to the coordinator by one request a step.
 */
import type { Applied, FileSystem } from './model-files.ts';

/** A step either ends the operation or binds a node for the next step. */
export type StepOutcome = Applied | { readonly fs: FileSystem; readonly bound: string };
export type Step = (fs: FileSystem, bound: string) => StepOutcome;

/** What an operation has to do with a name, a folder's list or a node. Two that only add to a list do not disturb each other. */
export interface Touch {
  readonly key: string;
  readonly how: 'read' | 'write' | 'add';
}

export interface ModelOperation {
  readonly id: string;
  readonly client: string;
  /** For the trace. */
  readonly text: string;
  readonly steps: readonly Step[];
  /** Which steps only read; all of them: the operation changes nothing. */
  readonly reads: readonly boolean[];
  /** Steps that only read may be answered from the cache of a client that caches. */
  readonly cached: boolean;
  /** Answered before it is stable: its client sends it again when the power was lost (M4). */
  readonly written: boolean;
  /** Made again late, it may be refused for want of room, or for a border of a realm (M9). */
  readonly mayBeRefused: boolean;
  /** Its success shows that the coordinator makes changes: after a restart those wait at the gate (M6). */
  readonly passesGate: boolean;
  /** It changes nothing but how firm a content is (D3). */
  readonly syncs: boolean;
  /** Once its success is stable, so is all that had been answered before it was called. */
  readonly endsLog: boolean;
  /** What it may touch in this state: two operations that do not disturb each other may take effect in either order. */
  readonly touches: (fs: FileSystem) => readonly Touch[];
}

/** Answered without the coordinator, perhaps. */
export function isFromCache({ cached, reads }: ModelOperation): boolean {
  return cached && reads.every(Boolean);
}

export function disturb(a: Touch, b: Touch): boolean {
  return a.key === b.key && (a.how !== b.how || a.how === 'write');
}
