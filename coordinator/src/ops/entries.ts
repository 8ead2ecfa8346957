/** Directory entries: a dentry and its cookie index row always change together, and with them the parent's times and counts. */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { DentryRow, InodeRow } from '../tables/gen/tables.ts';
import { COOKIES, DENTRIES, INODES, type NameKey, nameBytes } from '../tables/tables.ts';
import { ATTRIBUTES, ENTRIES, type OperationContext } from './context.ts';

/** 1 and 2 are left to `.` and `..`. */
export const FIRST_COOKIE = 3;

export interface Parent {
  readonly inode: InodeNumber;
  readonly row: InodeRow;
}

/** Adds an entry and returns the parent's changed row, not yet written. */
export function addEntry(
  context: OperationContext,
  parent: Parent,
  name: NameKey,
  child: { inode: InodeNumber; type: number },
): InodeRow {
  const { tx } = context;
  const cookie = parent.row.nextCookie;
  const bytes = nameBytes(name);
  tx.put(DENTRIES, { inode: child.inode, type: child.type, cookie }, parent.inode, name);
  tx.put(COOKIES, { name: bytes, inode: child.inode, type: child.type }, parent.inode, cookie);
  context.changed(parent.inode, ENTRIES | ATTRIBUTES, bytes);
  return {
    ...parent.row,
    nextCookie: cookie + 1,
    entries: parent.row.entries + 1,
    links: parent.row.links + (child.type === InodeType.DIRECTORY ? 1 : 0),
    mtime: tx.now,
    ctime: tx.now,
  };
}

/** Takes an entry away and returns the parent's changed row, not yet written. */
export function dropEntry(context: OperationContext, parent: Parent, name: NameKey, dentry: DentryRow): InodeRow {
  const { tx } = context;
  tx.remove(DENTRIES, parent.inode, name);
  tx.remove(COOKIES, parent.inode, dentry.cookie);
  context.changed(parent.inode, ENTRIES | ATTRIBUTES, nameBytes(name));
  return {
    ...parent.row,
    entries: parent.row.entries - 1,
    links: parent.row.links - (dentry.type === InodeType.DIRECTORY ? 1 : 0),
    mtime: tx.now,
    ctime: tx.now,
  };
}

export function requireEntry(
  context: OperationContext,
  parent: Parent,
  name: NameKey,
): { dentry: DentryRow; inode: InodeNumber; row: InodeRow } {
  const dentry = context.tx.get(DENTRIES, parent.inode, name);
  if (dentry === undefined)
    throw new CollectiveError('not_found', `Find '${nameBytes(name)}' in directory ${parent.inode}`);
  const inode = dentry.inode as InodeNumber;
  const row = context.tx.get(INODES, inode);
  if (row === undefined)
    throw new CollectiveError('internal', `Find inode ${inode} of entry '${nameBytes(name)}': it has no row`);
  return { dentry, inode, row };
}
