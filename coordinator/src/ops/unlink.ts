/**
 * Taking names away. The last name of a file takes the inode along into the trash; without one it ends, unless a session has
 * it open: then the sessions that have are recorded as holders in the same batch (M8), and it ends with the last of them.
 */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, SessionId } from '@collective/base/ids';
import { type Empty, InodeType, type Release, type Unlink, type Unlinked } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { INODES, ORPHANS } from '../tables/tables.ts';
import { ATTRIBUTES, type Held, type OperationContext } from './context.ts';
import { destroyInode } from './destroy-inode.ts';
import { dropEntry, requireEntry } from './entries.ts';
import { attributesOf, checkName, inodeNumber, loadDirectory, requireEntryChange, requireRemovable } from './inode.ts';
import { isRealmRoot, leaves } from './realm-border.ts';
import { moveToTrash, type Place } from './trash.ts';

export function unlink(context: OperationContext, request: Unlink): Unlinked {
  const parent = loadDirectory(context, request.parent);
  requireEntryChange(context, parent.row, `Remove an entry of directory ${parent.inode}`);
  const name = checkName(request.name);
  const { dentry, inode, row } = requireEntry(context, parent, name);
  if (request.expectedInode !== 0 && request.expectedInode !== inode)
    throw new CollectiveError(
      'stale',
      `Remove '${request.name}': it is inode ${inode} now, not ${request.expectedInode}`,
    );
  requireRemovable(context, parent.row, row);
  if (request.directory) requireEmptyDirectory(context, inode, row);
  else if (row.type === InodeType.DIRECTORY)
    throw new CollectiveError('is_directory', `Remove '${request.name}' as a file`);
  context.tx.put(INODES, dropEntry(context, parent, name, dentry), parent.inode);
  const { cookie } = dentry;
  const left = dropLink(context, { inode, row, parent: parent.inode, name, cookie }, request);
  return { inode, attributes: left === undefined ? undefined : attributesOf(inode, left) };
}

export function requireEmptyDirectory(context: OperationContext, inode: InodeNumber, row: InodeRow): void {
  if (row.type !== InodeType.DIRECTORY)
    throw new CollectiveError('not_directory', `Remove inode ${inode} as a directory`);
  if (row.entries > 0)
    throw new CollectiveError('not_empty', `Remove directory ${inode}: it has ${row.entries} entries`);
  if (isRealmRoot(context.tx, inode, row))
    throw new CollectiveError('busy', `Remove directory ${inode}: it is the root of a realm`);
}

/** A name that is taken away, and the inode that it led to. */
export interface LostName extends Place {
  readonly cookie: number;
  readonly inode: InodeNumber;
  readonly row: InodeRow;
}

/**
 * One name less; answers the row as it is then, or undefined when the inode is gone for all who have it not open. `held`: the
 * caller has `expectedInode` open. `permanent`: not into the trash.
 */
export function dropLink(
  context: OperationContext,
  lost: LostName,
  how: Held & { readonly permanent: boolean },
): InodeRow | undefined {
  const { tx } = context;
  const { inode, row } = lost;
  context.changed(inode, ATTRIBUTES);
  leaves(context, inode, row.realm, lost.parent, lost.cookie);
  const links = row.type === InodeType.DIRECTORY ? 0 : row.links - 1;
  const left: InodeRow = { ...row, links, ctime: tx.now };
  if (links > 0) {
    // Where its other names are is known only while this was none of them.
    const named = { ...left, parent: row.parent === lost.parent ? 0 : row.parent };
    tx.put(INODES, named, inode);
    return named;
  }
  const holders = context.holders(inode, how);
  const trashed = how.permanent ? undefined : moveToTrash(context, inode, left, lost);
  if (holders.length === 0) {
    if (trashed === undefined) destroyInode(context, inode, row);
    return undefined;
  }
  if (trashed === undefined) tx.put(INODES, left, inode);
  tx.put(ORPHANS, { holders }, inode);
  return left;
}

/** The session no longer has the inode open; the last holder of an unlinked one ends it, if it is not in the trash. */
export function release(context: OperationContext, request: Release): Empty {
  dropHolder(context, inodeNumber(request.inode), context.caller.session);
  return {};
}

export function dropHolder(context: OperationContext, inode: InodeNumber, session: SessionId): void {
  const { tx } = context;
  const orphan = tx.get(ORPHANS, inode);
  if (orphan === undefined || !orphan.holders.includes(session)) return;
  const holders = orphan.holders.filter((holder) => holder !== session);
  if (holders.length > 0) {
    tx.put(ORPHANS, { holders }, inode);
    return;
  }
  tx.remove(ORPHANS, inode);
  const row = tx.get(INODES, inode);
  // What the trash keeps ends there, and what has a name again with that.
  if (row !== undefined && row.links === 0 && row.trashed === 0) destroyInode(context, inode, row);
}
