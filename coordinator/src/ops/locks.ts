/**
 * POSIX record locks and BSD locks (M8). All locks of an inode are one row, kept in the store: they outlive a restart of
 * the coordinator and end with their session. A POSIX owner's own locks merge and split as fcntl(2) says; the two families
 * do not see each other. Each grant draws a fence, so that a late write under an older lock can be told.
 */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, SessionId } from '@collective/base/ids';
import {
  type Empty,
  type GetLock,
  type Lock,
  LockFamily,
  type LockState,
  LockType,
  type SetLock,
} from '@collective/protocol/gen/session';
import type { HeldLock } from '../tables/gen/tables.ts';
import { LOCKS } from '../tables/tables.ts';
import { type OperationContext, WaitForLock } from './context.ts';
import { loadInode } from './inode.ts';

export const LOCKS_PER_INODE_MAX = 1_000;
export const LOCK_END_MAX = Number.MAX_SAFE_INTEGER;

export function getLock(context: OperationContext, request: GetLock): LockState {
  const { inode } = loadInode(context, request.inode);
  const wanted = checkLock(request.lock);
  const held = context.tx.get(LOCKS, inode)?.locks ?? [];
  const conflict = held.find((lock) => conflicts(lock, wanted, context.caller.session));
  if (conflict === undefined) return { conflict: undefined, fence: 0, holderAway: false };
  return { conflict: wireLock(conflict), fence: 0, holderAway: context.isAway(conflict.session) };
}

/** `fence`: a number above all that were given, for the case that the lock is granted. */
export function setLock(context: OperationContext, request: SetLock, fence: number): LockState {
  const { inode } = loadInode(context, request.inode);
  const wanted = checkLock(request.lock);
  const { session } = context.caller;
  const held = context.tx.get(LOCKS, inode)?.locks ?? [];
  if (wanted.type !== LockType.LOCK_UNLOCK) {
    const blocking = held.filter((lock) => conflicts(lock, wanted, session));
    if (blocking.length > 0) {
      if (!request.wait) throw new CollectiveError('would_block', `Lock inode ${inode}: it is locked by somebody else`);
      throw new WaitForLock(inode, holderName(wanted.family, session, wanted.owner), [
        ...new Set(blocking.map((lock) => holderName(lock.family, lock.session, lock.owner))),
      ]);
    }
  }
  const locks = merge(held, wanted, session, fence);
  if (locks.length > LOCKS_PER_INODE_MAX)
    throw new CollectiveError('no_locks', `Lock inode ${inode}: it has ${LOCKS_PER_INODE_MAX} locks already`);
  writeLocks(context, inode, locks);
  return { conflict: undefined, fence, holderAway: false };
}

/** FLUSH and RELEASE drop what an owner holds, the end of a session all that is its own. */
export function dropLocks(context: OperationContext, inode: InodeNumber, belongs: (lock: HeldLock) => boolean): Empty {
  const held = context.tx.get(LOCKS, inode)?.locks ?? [];
  const kept = held.filter((lock) => !belongs(lock));
  if (kept.length < held.length) writeLocks(context, inode, kept);
  return {};
}

function writeLocks(context: OperationContext, inode: InodeNumber, locks: HeldLock[]): void {
  if (locks.length === 0) context.tx.remove(LOCKS, inode);
  else context.tx.put(LOCKS, { locks }, inode);
}

export function holderName(family: number, session: SessionId | number, owner: number): string {
  return `${family}:${session}:${owner}`;
}

function checkLock(lock: Lock | undefined): Lock {
  if (lock === undefined) throw new CollectiveError('invalid_argument', 'Set a lock that is not described');
  if (lock.start > lock.end)
    throw new CollectiveError('invalid_argument', `Lock from byte ${lock.start} to ${lock.end}`);
  const types: readonly number[] = Object.values(LockType);
  if (!types.includes(lock.type) || (lock.family !== LockFamily.LOCK_POSIX && lock.family !== LockFamily.LOCK_BSD))
    throw new CollectiveError('invalid_argument', `Set a lock of the unknown type ${lock.family}/${lock.type}`);
  return lock.family === LockFamily.LOCK_BSD ? { ...lock, start: 0, end: LOCK_END_MAX } : lock;
}

function conflicts(held: HeldLock, wanted: Lock, session: SessionId): boolean {
  if (held.family !== wanted.family || (held.session === session && held.owner === wanted.owner)) return false;
  if (held.type !== LockType.LOCK_WRITE && wanted.type !== LockType.LOCK_WRITE) return false;
  return held.start <= wanted.end && wanted.start <= held.end;
}

/** The owner's locks with the wanted range taken out of them, and the wanted lock put in and joined with its like neighbours. */
function merge(held: readonly HeldLock[], wanted: Lock, session: SessionId, fence: number): HeldLock[] {
  const others: HeldLock[] = [];
  const own: HeldLock[] = [];
  for (const lock of held) {
    if (lock.family !== wanted.family || lock.session !== session || lock.owner !== wanted.owner) others.push(lock);
    else own.push(...without(lock, wanted));
  }
  if (wanted.type !== LockType.LOCK_UNLOCK) {
    let added: HeldLock = { ...wanted, session, fence };
    const rest = own.filter((lock) => {
      const joins = lock.type === added.type && lock.end + 1 >= added.start && lock.start <= added.end + 1;
      if (joins) added = { ...added, start: Math.min(added.start, lock.start), end: Math.max(added.end, lock.end) };
      return !joins;
    });
    return [...others, ...rest, added];
  }
  return [...others, ...own];
}

function without(lock: HeldLock, range: Lock): HeldLock[] {
  if (lock.end < range.start || lock.start > range.end) return [lock];
  const parts: HeldLock[] = [];
  if (lock.start < range.start) parts.push({ ...lock, end: range.start - 1 });
  if (lock.end > range.end) parts.push({ ...lock, start: range.end + 1 });
  return parts;
}

function wireLock(lock: HeldLock): Lock {
  return {
    family: lock.family === LockFamily.LOCK_BSD ? LockFamily.LOCK_BSD : LockFamily.LOCK_POSIX,
    type: lock.type === LockType.LOCK_WRITE ? LockType.LOCK_WRITE : LockType.LOCK_READ,
    owner: lock.owner,
    start: lock.start,
    end: lock.end,
    pid: lock.pid,
  };
}
