/** Inode rows: loading with the checks that every operation owes (M9), mode-bit access, and their form on the wire. */
import { CollectiveError } from '@collective/base/errors';
import { INODE_NUMBER_MAX, type InodeNumber, type RealmId } from '@collective/base/ids';
import { NAME_BYTES_MAX } from '@collective/base/limits';
import type { Attributes, InodeType } from '@collective/protocol/gen/session';
import { InodeType as Type } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { INODES, type NameKey, nameKey, ORPHANS } from '../tables/tables.ts';
import type { OperationContext } from './context.ts';

export const MAY_EXECUTE = 1;
export const MAY_WRITE = 2;
export const MAY_READ = 4;

const SET_UID = 0o4000;
const SET_GID = 0o2000;
const STICKY = 0o1000;

export function inodeNumber(value: number): InodeNumber {
  if (!Number.isInteger(value) || value < 1 || value > INODE_NUMBER_MAX)
    throw new CollectiveError('invalid_argument', `Use ${value} as an inode number: it lies between 1 and 2^48-1`);
  return value as InodeNumber;
}

/** The row of an inode that the caller may at least know of. Throws `stale`, `permission_denied`. */
export function loadInode(context: OperationContext, value: number): { inode: InodeNumber; row: InodeRow } {
  const inode = inodeNumber(value);
  const row = context.tx.get(INODES, inode);
  if (row === undefined || (row.trashed !== 0 && !hasOpen(context, inode)))
    throw new CollectiveError('stale', `Use inode ${inode}: it does not exist any more`);
  if (context.caller.realmRight(row.realm as RealmId) === undefined)
    throw new CollectiveError('permission_denied', `Use inode ${inode}: its realm was not given to this session`);
  return { inode, row };
}

/** Recorded when its last name went (M8). */
function hasOpen(context: OperationContext, inode: InodeNumber): boolean {
  return context.tx.get(ORPHANS, inode)?.holders.includes(context.caller.session) ?? false;
}

export function loadDirectory(context: OperationContext, value: number): { inode: InodeNumber; row: InodeRow } {
  const loaded = loadInode(context, value);
  if (loaded.row.type !== Type.DIRECTORY)
    throw new CollectiveError('not_directory', `Use inode ${loaded.inode} as a directory`);
  return loaded;
}

/** The realm lets this session write. */
export function requireWritableRealm(context: OperationContext, row: InodeRow): void {
  if (context.caller.realmRight(row.realm as RealmId) !== 'rw')
    throw new CollectiveError('read_only', 'Change a file in a realm that was given for reading only');
}

export function requireAccess(context: OperationContext, row: InodeRow, mask: number, what: string): void {
  if (!mayAccess(context, row, mask))
    throw new CollectiveError('permission_denied', `${what}: the mode bits do not allow it`);
}

/**
 * For content: the owner is let through. A file that was made with mode 0444 is written by whoever made it (tar, git and cp
 * do so), and who may open a file was decided when it was opened.
 */
export function requireDataAccess(context: OperationContext, row: InodeRow, mask: number, what: string): void {
  if (!isOwner(context, row)) requireAccess(context, row, mask, what);
}

export function requireTime({ seconds, nanos }: { readonly seconds: number; readonly nanos: number }): void {
  if (!Number.isSafeInteger(seconds) || nanos < 0 || nanos > 999_999_999)
    throw new CollectiveError('invalid_argument', `Set a time of ${seconds} s and ${nanos} ns`);
}

export function mayAccess(context: OperationContext, row: InodeRow, mask: number): boolean {
  const { uid, gid, groups } = context.caller.credential;
  if (uid === 0) {
    // Root may do all but execute what nobody may execute.
    return (mask & MAY_EXECUTE) === 0 || row.type === Type.DIRECTORY || (row.mode & 0o111) !== 0;
  }
  if (uid === row.uid) return ((row.mode >> 6) & mask) === mask;
  if (gid === row.gid || groups.includes(row.gid)) return ((row.mode >> 3) & mask) === mask;
  return (row.mode & mask) === mask;
}

export function isOwner(context: OperationContext, row: InodeRow): boolean {
  const { uid } = context.caller.credential;
  return uid === 0 || uid === row.uid;
}

export function inGroup(context: OperationContext, gid: number): boolean {
  const { credential } = context.caller;
  return credential.uid === 0 || credential.gid === gid || credential.groups.includes(gid);
}

/** In a sticky directory only the owner of the entry, of the directory, or root may take an entry away. */
export function requireRemovable(context: OperationContext, parent: InodeRow, entry: InodeRow): void {
  if ((parent.mode & STICKY) === 0 || isOwner(context, parent) || isOwner(context, entry)) return;
  throw new CollectiveError(
    'not_permitted',
    "Take an entry out of a sticky directory: only its owner or the directory's may",
  );
}

/** A directory into which the caller may put or from which it may take entries. */
export function requireEntryChange(context: OperationContext, row: InodeRow, what: string): void {
  requireWritableRealm(context, row);
  // Removed, and kept only for those who have it open: nothing can be put in there any more.
  if (row.links === 0) throw new CollectiveError('not_found', `${what}: the directory was removed`);
  requireAccess(context, row, MAY_WRITE | MAY_EXECUTE, what);
}

/** Set-uid and set-gid bits fall when a file is written by somebody else than root (KILLPRIV_V2). */
export function withoutSetId(row: InodeRow): number {
  const groupExecutable = (row.mode & 0o010) !== 0;
  return row.mode & ~(SET_UID | (groupExecutable ? SET_GID : 0));
}

export function inheritsGroup(parent: InodeRow): boolean {
  return (parent.mode & SET_GID) !== 0;
}

export { SET_GID };

/** Checks a name as it comes from outside and turns it into its key form. `.` and `..` are the client's to resolve. */
export function checkName(name: Uint8Array): NameKey {
  if (name.length === 0) throw new CollectiveError('invalid_name', 'Use an empty name');
  if (name.length > NAME_BYTES_MAX)
    throw new CollectiveError(
      'name_too_long',
      `Use a name of ${name.length} bytes: at most ${NAME_BYTES_MAX} are allowed`,
    );
  const key = nameKey(name);
  if (key === '.' || key === '..') throw new CollectiveError('invalid_name', `Use '${key}' as a name`);
  if (key.includes('/') || key.includes('\0'))
    throw new CollectiveError('invalid_name', "Use a name that holds '/' or NUL");
  if (!isUtf8(name)) throw new CollectiveError('invalid_name', 'Use a name that is not valid UTF-8');
  return key;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function isUtf8(name: Uint8Array): boolean {
  for (const byte of name) {
    if (byte < 0x80) continue;
    try {
      utf8.decode(name);
      return true;
    } catch (error) {
      return !(error instanceof TypeError);
    }
  }
  return true;
}

export function attributesOf(inode: InodeNumber, row: InodeRow): Attributes {
  return {
    inode,
    realm: row.realm,
    type: row.type as InodeType,
    mode: row.mode,
    uid: row.uid,
    gid: row.gid,
    links: row.links,
    size: row.size,
    storedBytes: row.storedBytes,
    mtime: row.mtime,
    ctime: row.ctime,
    birth: row.birth,
    rdev: row.rdev,
    version: row.version,
    entries: row.entries,
  };
}
