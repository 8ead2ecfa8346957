/**
 * What an operation on the namespace is given, besides the view: who asks, and the two ways in which it meets the promises
 * of other sessions (M7). It stops with `RecallFirst` where an exclusive promise must come back before it may read or
 * change, and it lists what it changed so that read promises are recalled before its answer leaves.
 */
import type { InodeNumber, RealmId, SessionId } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';

/** Bits of PromiseKind on the wire. */
export const ATTRIBUTES = 1;
export const ENTRIES = 2;
export const DATA = 4;
export const WRITE = 8;
export const OPEN = 16;

export interface Credential {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** Who asks: already reduced to what the uid rule allows (T3a). */
export interface Caller {
  readonly session: SessionId;
  readonly credential: Credential;
  /** 'rw', 'ro', or undefined for a realm that was not given to this session (M9). */
  realmRight(realm: RealmId): 'rw' | 'ro' | undefined;
}

/** Thrown by an operation: the session layer recalls these kinds from all other sessions, then runs it again. */
export class RecallFirst {
  readonly inode: InodeNumber;
  readonly kinds: number;

  constructor(inode: InodeNumber, kinds: number) {
    this.inode = inode;
    this.kinds = kinds;
  }
}

/** Thrown by a lock request that has to wait; the session layer runs it again when locks of the inode change. */
export class WaitForLock {
  readonly inode: InodeNumber;
  readonly blockers: readonly string[];
  readonly waiter: string;

  constructor(inode: InodeNumber, waiter: string, blockers: readonly string[]) {
    this.inode = inode;
    this.waiter = waiter;
    this.blockers = blockers;
  }
}

export interface Change {
  readonly inode: InodeNumber;
  readonly kinds: number;
  /** Of a directory: which entries changed. */
  readonly names: readonly Uint8Array[];
}

/** Knowledge about other sessions that an operation may ask for while it runs. */
export interface Elsewhere {
  /** Whether another session holds the exclusive write promise. */
  writesElsewhere(inode: InodeNumber, session: SessionId): boolean;
  /**
   * The other sessions that have the inode open, or undefined when they must be asked first.
   */
  openElsewhere(inode: InodeNumber, session: SessionId): readonly SessionId[] | undefined;
  /** Bytes of the realm that are granted to other sessions and not yet used (M10). */
  grantedElsewhere(realm: RealmId, session: SessionId): number;
}

export class OperationContext {
  readonly tx: OperationRun;
  readonly caller: Caller;
  readonly changes: Change[] = [];
  /** What the answer shows the caller, and so may be promised to it. */
  readonly shown = new Map<InodeNumber, number>();
  readonly #elsewhere: Elsewhere;

  constructor(tx: OperationRun, caller: Caller, elsewhere: Elsewhere) {
    this.tx = tx;
    this.caller = caller;
    this.#elsewhere = elsewhere;
  }

  /** The caller is about to see or change size, times or data: nobody else may hold unsent writes. */
  coherent(inode: InodeNumber): void {
    if (this.#elsewhere.writesElsewhere(inode, this.caller.session)) throw new RecallFirst(inode, WRITE);
  }

  /** Other sessions that have the inode open; the last unlink records them as holders (M8). */
  holders(inode: InodeNumber): readonly SessionId[] {
    const holders = this.#elsewhere.openElsewhere(inode, this.caller.session);
    if (holders === undefined) throw new RecallFirst(inode, OPEN);
    return holders;
  }

  grantedElsewhere(realm: number): number {
    return this.#elsewhere.grantedElsewhere(realm as RealmId, this.caller.session);
  }

  changed(inode: InodeNumber, kinds: number, ...names: Uint8Array[]): void {
    this.changes.push({ inode, kinds, names });
  }

  show(inode: InodeNumber, kinds: number): void {
    this.shown.set(inode, (this.shown.get(inode) ?? 0) | kinds);
  }
}
