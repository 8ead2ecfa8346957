/**
 * Bringing back what is in the trash (M8): one entry gets a name again, its directories too where they went with it. A
 * directory brings along what was removed from it: the newest of each name, and so on below, in bounded steps.
 *
 * It takes no quota, since what is in the trash was counted all the time, and it never leaves its realm (M9).
 */
import { assert } from '@collective/base/assert';
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type InodeNumber, type RealmId, ROOT_INODE } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { DENTRIES, INODES, type NameKey, nameBytes, nameKey, ORPHANS, TRASH } from '../tables/tables.ts';
import { ATTRIBUTES, type OperationContext } from './context.ts';
import { addEntry, type Parent } from './entries.ts';
import { MAY_EXECUTE, requireAccess, requireEntryChange } from './inode.ts';
import { childPath, pathOf } from './path-of.ts';
import { joined, requireSameRealm } from './realm-border.ts';
import { takeFromTrash } from './trash.ts';
import { mayTouch, type Trashed, trashedByNumber } from './trash-listing.ts';
import { splitPath, trashedAt } from './trash-search.ts';

export interface RestoreRequest {
  /** 0: by path. */
  readonly id: number;
  readonly path: string;
  /** Another path; empty: where it was. */
  readonly to: string;
  readonly at: Timestamp | undefined;
}

export interface Restored {
  readonly path: string;
  /** What was removed from it may follow. */
  readonly directory: InodeNumber | undefined;
  /** Undefined: nothing itself, only what is below. */
  readonly row: InodeRow | undefined;
}

/** Throws `not_found`, `exists`, `cross_realm`, `permission_denied`, `read_only`. */
export function restore(context: OperationContext, realms: readonly RealmId[], request: RestoreRequest): Restored {
  const { tx, caller } = context;
  const { id, path, at } = request;
  const accept = (trashed: Trashed): boolean => mayTouch(caller, trashed);
  const byNumber = id === 0 ? undefined : trashedByNumber(tx, realms, id);
  const found = id === 0 ? trashedAt(tx, path, { at, accept }) : byNumber && accept(byNumber) ? byNumber : undefined;
  if (found === undefined) return whatIsThere(context, request);
  const { entry } = found;
  const { parent, name } = request.to === '' ? oldPlace(context, found) : newPlace(context, request.to);
  const row = giveName(context, found, parent, name);
  return {
    path: childPath(pathOf(tx, parent.inode) ?? '', nameBytes(name).toString('utf8')),
    directory: row.type === InodeType.DIRECTORY ? (entry.inode as InodeNumber) : undefined,
    row,
  };
}

/** Gives an entry a name in a directory; both rows are written. Answers its own. */
export function giveName(
  context: OperationContext,
  { entry }: Trashed,
  { inode: parent }: Pick<Parent, 'inode'>,
  name: NameKey,
): InodeRow {
  const { tx } = context;
  const shown = nameBytes(name).toString('utf8');
  const inode = entry.inode as InodeNumber;
  const parentRow = tx.get(INODES, parent);
  const trashed = tx.get(INODES, inode);
  assert(parentRow !== undefined && trashed !== undefined, 'an entry of the trash and the directory for it have rows');
  requireEntryChange(context, parentRow, `Restore '${shown}'`);
  if (tx.get(DENTRIES, parent, name) !== undefined)
    throw new CollectiveError(
      'exists',
      `Restore '${shown}': the name is taken; restore it under another with --to PATH`,
    );
  const to = { inode: parent, row: parentRow };
  requireSameRealm(context, trashed, entry.parent as InodeNumber, to, `Restore '${shown}'`);
  const out = { ...takeFromTrash(tx, trashed), ctime: tx.now };
  const row: InodeRow =
    out.type === InodeType.DIRECTORY
      ? { ...out, links: 2, parent, name: nameBytes(name) }
      : { ...out, links: 1, parent };
  tx.put(INODES, row, inode);
  const holders = tx.get(ORPHANS, inode)?.holders ?? [];
  if (holders.length > 0) tx.remove(ORPHANS, inode);
  for (const session of holders) context.reopened.push({ inode, session: session as never });
  tx.put(INODES, addEntry(context, { inode: parent, row: parentRow }, name, { inode, type: row.type }), parent);
  joined(context, inode, parent);
  context.changed(inode, ATTRIBUTES);
  return row;
}

/** Where the entry was; directories that went with it come back first. */
function oldPlace(context: OperationContext, found: Trashed): { parent: Pick<Parent, 'inode'>; name: NameKey } {
  const { entry } = found;
  return {
    parent: { inode: liveDirectory(context, entry.parent as InodeNumber, entry.name.toString('utf8')) },
    name: nameKey(entry.name),
  };
}

/** The directory itself, restored if need be, or what has taken its name since. */
function liveDirectory(context: OperationContext, inode: InodeNumber, forWhat: string): InodeNumber {
  const { tx, caller } = context;
  const row = tx.get(INODES, inode);
  if (row === undefined || (row.links === 0 && row.trashed === 0))
    throw new CollectiveError(
      'not_found',
      `Restore '${forWhat}': the directory in which it was is gone for good; say where to with --to PATH`,
    );
  if (row.trashed === 0) return inode;
  const realm = row.realm as RealmId;
  const entry = tx.get(TRASH, realm, row.trashed);
  assert(entry !== undefined, 'an inode that says that it is in the trash is there');
  const above = liveDirectory(context, entry.parent as InodeNumber, forWhat);
  const name = nameKey(entry.name);
  const present = tx.get(DENTRIES, above, name);
  if (present?.type === InodeType.DIRECTORY) return present.inode as InodeNumber;
  const found = { realm, number: row.trashed, entry };
  if (!mayTouch(caller, found))
    throw new CollectiveError(
      'permission_denied',
      `Restore '${forWhat}': the directory '${entry.name}' in which it was is not yours to restore; say where to with --to PATH`,
    );
  giveName(context, found, { inode: above }, name);
  return inode;
}

function newPlace(context: OperationContext, path: string): { parent: Pick<Parent, 'inode'>; name: NameKey } {
  const names = splitPath(path);
  const name = names.pop();
  if (name === undefined) throw new CollectiveError('exists', "Restore to '/': it exists");
  return { parent: { inode: directoryAt(context, names, path) }, name };
}

function directoryAt(context: OperationContext, names: readonly NameKey[], path: string): InodeNumber {
  const { tx, caller } = context;
  let at: InodeNumber = ROOT_INODE;
  for (const name of names) {
    const row = tx.get(INODES, at);
    // Directories above the realms that were given are on the way and nothing else.
    if (row !== undefined && caller.realmRight(row.realm as RealmId) !== undefined)
      requireAccess(context, row, MAY_EXECUTE, `Walk to '${path}'`);
    const dentry = tx.get(DENTRIES, at, name);
    const shown = nameBytes(name).toString('utf8');
    if (dentry === undefined) throw new CollectiveError('not_found', `Walk to '${path}': there is no '${shown}'`);
    if (dentry.type !== InodeType.DIRECTORY)
      throw new CollectiveError('not_directory', `Walk to '${path}': '${shown}' is no directory`);
    at = dentry.inode as InodeNumber;
  }
  return at;
}

/** A directory that is there is restored in the sense that what was removed below it is. */
function whatIsThere(context: OperationContext, { id, path, to }: RestoreRequest): Restored {
  if (id !== 0)
    throw new CollectiveError('not_found', `Restore entry ${id}: there is none of that number in the trash`);
  try {
    const names = splitPath(path);
    const directory = directoryAt(context, names, path);
    if (to === '') return { path: pathOf(context.tx, directory) ?? path, directory, row: undefined };
  } catch (thrown) {
    if (!(thrown instanceof CollectiveError)) throw thrown;
    if (thrown.code !== 'not_found' && thrown.code !== 'not_directory') throw thrown;
  }
  throw new CollectiveError('not_found', `Restore '${path}': nothing of that path is in the trash`);
}
