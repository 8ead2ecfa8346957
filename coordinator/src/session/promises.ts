/**
 * Who was promised what (M7): read promises on attributes, entries and data, one exclusive write promise a file, and the
 * weak interest "may have it open" (M8). In memory only: after a restart mutations wait until holders have come back or
 * their leases have ended (M6). No timers and no messages here; `recalls.ts` acts, `promise-keeping.ts` holds each session to
 * its share.
 */
import type { InodeNumber, SessionId } from '@collective/base/ids';
import { OPEN, WRITE } from '../ops/context.ts';

export class PromiseTable {
  readonly #byInode = new Map<InodeNumber, Map<SessionId, number>>();
  /** In the order in which they were granted last. */
  readonly #bySession = new Map<SessionId, Set<InodeNumber>>();
  /** Inodes on which a recall is under way or an operation waits to run after one: nothing is granted on them. */
  readonly #blocked = new Map<InodeNumber, number>();
  /** Of blocked inodes: sessions that were shown the inode since, and so may have opened it. */
  readonly #seenWhileBlocked = new Map<InodeNumber, Set<SessionId>>();

  /** Adds kinds to what the session holds; answers which were granted: none while a recall is under way, no WRITE beside another's. */
  grant(session: SessionId, inode: InodeNumber, kinds: number): number {
    // Interest in an open inode is no right to cache: it is noted also while a recall is under way, and then asked for again.
    const blocked = this.#blocked.has(inode);
    let granted = blocked ? kinds & OPEN : kinds;
    if (blocked && granted !== 0) this.#noteSeen(inode, session);
    if ((kinds & WRITE) !== 0 && this.writerOf(inode, session) !== undefined) granted &= ~WRITE;
    if (granted === 0) return 0;
    let holders = this.#byInode.get(inode);
    if (holders === undefined) {
      holders = new Map();
      this.#byInode.set(inode, holders);
    }
    holders.set(session, (holders.get(session) ?? 0) | granted);
    let inodes = this.#bySession.get(session);
    if (inodes === undefined) {
      inodes = new Set();
      this.#bySession.set(session, inodes);
    }
    inodes.delete(inode);
    inodes.add(inode);
    return granted;
  }

  held(session: SessionId, inode: InodeNumber): number {
    return this.#byInode.get(inode)?.get(session) ?? 0;
  }

  drop(session: SessionId, inode: InodeNumber, kinds: number): void {
    const holders = this.#byInode.get(inode);
    const held = holders?.get(session);
    if (holders === undefined || held === undefined) return;
    const left = held & ~kinds;
    if (left !== 0) {
      holders.set(session, left);
      return;
    }
    holders.delete(session);
    if (holders.size === 0) this.#byInode.delete(inode);
    const inodes = this.#bySession.get(session);
    inodes?.delete(inode);
    if (inodes?.size === 0) this.#bySession.delete(session);
  }

  dropSession(session: SessionId): void {
    for (const inode of [...(this.#bySession.get(session) ?? [])]) this.drop(session, inode, ~0);
  }

  inodesOf(session: SessionId): Iterable<InodeNumber> {
    return this.#bySession.get(session) ?? [];
  }

  /** Inodes on which the session holds anything. */
  count(session: SessionId): number {
    return this.#bySession.get(session)?.size ?? 0;
  }

  /** The inode of which the session was granted something longest ago; it counts as granted just now from here on. */
  takeOldest(session: SessionId): InodeNumber | undefined {
    const inodes = this.#bySession.get(session);
    for (const inode of inodes ?? []) {
      inodes?.delete(inode);
      inodes?.add(inode);
      return inode;
    }
    return undefined;
  }

  /** Sessions other than `except` that hold any of these kinds. */
  holders(inode: InodeNumber, kinds: number, except: SessionId | undefined): SessionId[] {
    const found: SessionId[] = [];
    for (const [session, held] of this.#byInode.get(inode) ?? [])
      if (session !== except && (held & kinds) !== 0) found.push(session);
    return found;
  }

  writerOf(inode: InodeNumber, except: SessionId): SessionId | undefined {
    return this.holders(inode, WRITE, except)[0];
  }

  interestedIn(inode: InodeNumber, except: SessionId | undefined): SessionId[] {
    return this.holders(inode, OPEN, except);
  }

  /** The session is asked whether it has the inode open: what it was shown before does not count any more. */
  askOpen(inode: InodeNumber, session: SessionId): void {
    this.#seenWhileBlocked.get(inode)?.delete(session);
  }

  /** Whether the session was shown the inode after it was asked, so that its "not open" is out of date. */
  seenSinceAsked(inode: InodeNumber, session: SessionId): boolean {
    return this.#seenWhileBlocked.get(inode)?.has(session) ?? false;
  }

  block(inode: InodeNumber): void {
    this.#blocked.set(inode, (this.#blocked.get(inode) ?? 0) + 1);
  }

  unblock(inode: InodeNumber): void {
    const left = (this.#blocked.get(inode) ?? 0) - 1;
    if (left > 0) this.#blocked.set(inode, left);
    else {
      this.#blocked.delete(inode);
      this.#seenWhileBlocked.delete(inode);
    }
  }

  #noteSeen(inode: InodeNumber, session: SessionId): void {
    const seen = this.#seenWhileBlocked.get(inode);
    if (seen === undefined) this.#seenWhileBlocked.set(inode, new Set([session]));
    else seen.add(session);
  }

  get size(): number {
    return this.#byInode.size;
  }
}
