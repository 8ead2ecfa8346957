/**
 * What an operation on the namespace is given, besides the view: who asks, and the two ways in which it meets the promises
 * of other sessions (M7). It stops with `RecallFirst` where an exclusive promise must come back before it may read or
 * change, and it lists what it changed so that read promises are recalled before its answer leaves. It stops with
 * `StableFirst` where content must be stable before anything rests on it (D3), and with `StepsFirst` where it is too large (M3).
 */
import type { ChunkId, InodeNumber, RealmId, SessionId } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import type { ReplicaPlace } from '../tables/gen/tables.ts';

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
  /** URI of its certificate. */
  readonly subject: string;
  readonly credential: Credential;
  /** 'rw', 'ro', or undefined for a realm that was not given to this session (M9). */
  realmRight(realm: RealmId): 'rw' | 'ro' | undefined;
  /** The id was handed to this session: it may commit the chunk first (D2, D7). */
  ownsChunk(chunk: ChunkId): boolean;
}

/** Thrown by an operation: the session layer recalls these kinds from all other sessions (or all), then runs it again. */
export class RecallFirst {
  readonly inode: InodeNumber;
  readonly kinds: number;
  /** The caller is asked as well. */
  readonly fromAll: boolean;

  constructor(inode: InodeNumber, kinds: number, fromAll = false) {
    this.inode = inode;
    this.kinds = kinds;
    this.fromAll = fromAll;
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

/** Thrown by an operation that has more to take away than one may touch (M3): the session layer makes the steps, then runs it again. */
export class StepsFirst {
  /** Makes one step, which is complete in itself; answers whether another may be needed. */
  readonly step: (context: OperationContext) => boolean;

  constructor(step: (context: OperationContext) => boolean) {
    this.step = step;
  }
}

/** Thrown by what finds no room that others may hold and not use (M10): the session layer asks them for it, then runs it again. */
export class RoomFirst {
  /** Undefined: all, since it is the nodes that have no room. */
  readonly realms: readonly RealmId[] | undefined;

  constructor(realms: readonly RealmId[] | undefined) {
    this.realms = realms;
  }
}

/** Where in the order of its writes a node has a chunk. */
export type WrittenReplica = Pick<ReplicaPlace, 'node' | 'disk' | 'incarnation' | 'sequence'>;

/** A chunk that is not yet known to be stable on as many nodes as its realm needs. */
export interface UnstableChunk {
  readonly chunk: ChunkId;
  readonly needed: number;
  readonly replicas: readonly (WrittenReplica & { readonly stable: boolean })[];
}

/** Thrown by an operation that rests on content which is not stable yet (D3); the session layer makes it so, then runs it again. */
export class StableFirst {
  readonly content: FileAtVersion | readonly UnstableChunk[];

  /** A file as it is in this version of its data, or chunks that no row names yet. */
  constructor(content: FileAtVersion | readonly UnstableChunk[]) {
    this.content = content;
  }
}

export interface FileAtVersion {
  readonly inode: InodeNumber;
  readonly version: number;
}

/** What is known of the stability of chunks beyond what their rows say (D3). */
export interface StableKnowledge {
  /** Its node has told that this replica is stable. */
  covers(chunk: ChunkId, replica: WrittenReplica): boolean;
  /** Whether an operation stops for this content if it is not stable. Not for ever: others may go on writing to the file. */
  mayWait(content: InodeNumber | 'chunks'): boolean;
}

const NOTHING_KNOWN: StableKnowledge = { covers: () => false, mayWait: () => false };

/** Whether there is room for more metadata (`store/metadata-room.ts`). */
export interface Growth {
  /** Throws `metadata_full`. */
  require(what: string): void;
}

export const MAY_GROW: Growth = { require: () => undefined };

export interface Change {
  readonly inode: InodeNumber;
  readonly kinds: number;
  /** Of a directory: which entries changed. */
  readonly names: readonly Uint8Array[];
}

/** Whether the caller has an inode open whose name goes, and which one it takes it for; 0: it knows of none. */
export interface Held {
  readonly held: boolean;
  readonly expectedInode: number;
}

/** Knowledge about other sessions that an operation may ask for while it runs. */
export interface Elsewhere {
  /** Whether another session holds the exclusive write promise. */
  writesElsewhere(inode: InodeNumber, session: SessionId): boolean;
  /** The sessions but `except` that have the inode open, or undefined when they must be asked first. */
  openElsewhere(inode: InodeNumber, except: SessionId | undefined): readonly SessionId[] | undefined;
  /** Bytes of the realm that are granted to other sessions and not yet used (M10). */
  grantedElsewhere(realm: RealmId, session: SessionId): number;
  /** For this operation others were asked to give back what they do not use. */
  readonly roomWasAsked: boolean;
  /** Whether the session lives and has no connection now. One that was not seen since the last start is not called away. */
  isAway(session: SessionId): boolean;
}

/** Where no session is concerned. */
export const NO_ONE_ELSE: Elsewhere = {
  writesElsewhere: () => false,
  openElsewhere: () => [],
  grantedElsewhere: () => 0,
  roomWasAsked: true,
  isAway: () => false,
};

export class OperationContext {
  readonly tx: OperationRun;
  readonly caller: Caller;
  readonly changes: Change[] = [];
  /** What the answer shows the caller, and so may be promised to it. */
  readonly shown = new Map<InodeNumber, number>();
  readonly stable: StableKnowledge;
  /** Sessions that have an inode open which got a name again: they are asked before that goes (M8). */
  readonly reopened: { readonly inode: InodeNumber; readonly session: SessionId }[] = [];
  /** Asked by what adds rows for good. */
  readonly growth: Growth;
  readonly #elsewhere: Elsewhere;

  constructor(
    tx: OperationRun,
    caller: Caller,
    elsewhere: Elsewhere,
    stable: StableKnowledge = NOTHING_KNOWN,
    growth: Growth = MAY_GROW,
  ) {
    this.tx = tx;
    this.caller = caller;
    this.stable = stable;
    this.growth = growth;
    this.#elsewhere = elsewhere;
  }

  /** The caller is about to see or change size, times or data: nobody else may hold unsent writes. */
  coherent(inode: InodeNumber): void {
    if (this.#elsewhere.writesElsewhere(inode, this.caller.session)) throw new RecallFirst(inode, WRITE);
  }

  /**
   * Sessions that have the inode open; the last unlink records them as holders (M8). What the caller `said` holds for the inode
   * that it had in mind: when another one has come to that name meanwhile, the caller is asked like everybody else.
   */
  holders(inode: InodeNumber, said: Held): SessionId[] {
    const { session } = this.caller;
    // Who holds something and does not say what means whatever is there.
    const knows = said.expectedInode === inode || (said.held && said.expectedInode === 0);
    const holders = this.#elsewhere.openElsewhere(inode, knows ? session : undefined);
    if (holders === undefined) throw new RecallFirst(inode, OPEN, !knows);
    return knows && said.held ? [...holders, session] : [...holders];
  }

  grantedElsewhere(realm: number): number {
    return this.#elsewhere.grantedElsewhere(realm as RealmId, this.caller.session);
  }

  get roomWasAsked(): boolean {
    return this.#elsewhere.roomWasAsked;
  }

  isAway(session: number): boolean {
    return this.#elsewhere.isAway(session as SessionId);
  }

  changed(inode: InodeNumber, kinds: number, ...names: Uint8Array[]): void {
    this.changes.push({ inode, kinds, names });
  }

  show(inode: InodeNumber, kinds: number): void {
    this.shown.set(inode, (this.shown.get(inode) ?? 0) | kinds);
  }
}
