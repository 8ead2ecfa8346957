/** The public shapes of the trash: what was removed, and bringing it back (M8). Types only, as in `api.ts`. */
import type { Timestamp } from '@collective/base/clock';
import type { CallOptions, InodeType } from './api.ts';

/** An administrator sees, restores and destroys all, others what they own in realms that they may write. */
export interface Trash {
  /** What was removed at `path` or below, newest first; without a path everywhere. */
  list(options?: CallOptions & { readonly path?: string }): AsyncIterable<TrashEntry>;
  /**
   * Gives what was removed its name again, and with a directory all that was removed below it: the newest of each name, or
   * what had it at a time. A name that is taken is no place for it: `exists` for the first, `skipped` below. A path whose
   * directory is there, and not in the trash, means what was removed below it. Aborted: what came back so far stays.
   */
  restore(
    what: { readonly path: string } | { readonly id: number },
    options?: CallOptions & {
      /** Another path within the realm. */
      readonly to?: string;
      /** As it was at that time. */
      readonly at?: Timestamp;
      readonly onProgress?: (soFar: RestoredTrash) => void;
    },
  ): Promise<RestoredTrash>;
  /** Destroys what was removed at `path` or below, oldest first. */
  empty(
    options?: CallOptions & {
      readonly path?: string;
      /** Removed so long ago or longer. */
      readonly olderThanSeconds?: number;
      readonly onProgress?: (soFar: EmptiedTrash) => void;
    },
  ): Promise<EmptiedTrash>;
}

export interface TrashEntry {
  readonly id: number;
  /** Where it was, as its directory is called now. */
  readonly path: string;
  /** Its directory is gone for good: `path` is only its name. */
  readonly parentGone: boolean;
  readonly realm: number;
  readonly type: InodeType;
  readonly size: number;
  /** Its owner. */
  readonly uid: number;
  /** Who removed it. */
  readonly subject: string;
  readonly deleted: Timestamp;
  /** Unset: its realm keeps nothing any more. */
  readonly keptUntil?: Timestamp;
}

export interface RestoredTrash {
  readonly path: string;
  readonly files: number;
  readonly directories: number;
  readonly bytes: number;
  /** Their names are taken, or they belong to others. */
  readonly skipped: number;
  /** The first of them. */
  readonly skippedPaths: readonly string[];
}

export interface EmptiedTrash {
  readonly files: number;
  readonly directories: number;
  readonly bytes: number;
}
