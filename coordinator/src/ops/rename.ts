/**
 * Rename with the three modes of renameat2(2): replace, NOREPLACE, EXCHANGE. Within one realm only (M9). A replaced file
 * goes in the same batch; whoever has it open keeps it (M8). What takes a file's name is stable before (D3).
 */
import { CollectiveError } from '@collective/base/errors';
import { type InodeNumber, ROOT_INODE } from '@collective/base/ids';
import { type Empty, InodeType, type Rename, RenameMode } from '@collective/protocol/gen/session';
import type { DentryRow, InodeRow } from '../tables/gen/tables.ts';
import { DENTRIES, INODES, type NameKey, nameBytes } from '../tables/tables.ts';
import { ATTRIBUTES, type Held, type OperationContext } from './context.ts';
import { addEntry, dropEntry, type Parent, requireEntry } from './entries.ts';
import { checkName, loadDirectory, MAY_WRITE, requireAccess, requireEntryChange, requireRemovable } from './inode.ts';
import { isRealmRoot, joined, leaves, requireSameRealm } from './realm-border.ts';
import { requireStableFile } from './stable-content.ts';
import { dropLink, requireEmptyDirectory } from './unlink.ts';

interface Side {
  readonly parent: Parent;
  readonly name: NameKey;
}

interface Found {
  readonly dentry: DentryRow;
  readonly inode: InodeNumber;
  readonly row: InodeRow;
}

export function rename(context: OperationContext, request: Rename): Empty {
  const from: Side = { parent: loadDirectory(context, request.parent), name: checkName(request.name) };
  const to: Side = { parent: loadDirectory(context, request.newParent), name: checkName(request.newName) };
  requireEntryChange(context, from.parent.row, `Rename '${request.name}'`);
  requireEntryChange(context, to.parent.row, `Rename to '${request.newName}'`);
  const source = requireEntry(context, from.parent, from.name);
  const target =
    context.tx.get(DENTRIES, to.parent.inode, to.name) === undefined
      ? undefined
      : requireEntry(context, to.parent, to.name);
  checkMove(context, from, to, source);
  switch (request.mode) {
    case RenameMode.RENAME_REPLACE:
      break;
    case RenameMode.RENAME_NOREPLACE:
      if (target !== undefined) throw new CollectiveError('exists', `Rename to '${request.newName}' without replacing`);
      break;
    case RenameMode.RENAME_EXCHANGE:
      if (target === undefined) throw new CollectiveError('not_found', `Exchange with '${request.newName}'`);
      checkMove(context, to, from, target);
      requireStable(context, source, target);
      requireStable(context, target, source);
      return exchange(context, from, to, source, target);
    default:
      throw new CollectiveError('invalid_argument', `Rename with the unknown mode ${request.mode}`);
  }
  // POSIX: two names of one file, nothing happens.
  if (target?.inode === source.inode) return {};
  if (target !== undefined) checkReplace(context, to, source, target);
  if (target !== undefined) requireStable(context, source, target);
  move(context, from, to, source, target, { held: request.targetHeld, expectedInode: request.targetInode });
  return {};
}

function checkMove(context: OperationContext, from: Side, to: Side, source: Found): void {
  requireRemovable(context, from.parent.row, source.row);
  if (isRealmRoot(context.tx, source.inode, source.row)) {
    if (from.parent.inode !== to.parent.inode)
      throw new CollectiveError('cross_realm', `Move inode ${source.inode}: it is the root of a realm`);
  } else {
    requireSameRealm(context, source.row, from.parent.inode, to.parent, `Move inode ${source.inode}`);
  }
  if (source.row.type !== InodeType.DIRECTORY || from.parent.inode === to.parent.inode) return;
  // Its '..' changes, which needs the right to write into it.
  requireAccess(context, source.row, MAY_WRITE, 'Move a directory to another parent');
  for (let at = to.parent.inode; at !== ROOT_INODE; ) {
    if (at === source.inode)
      throw new CollectiveError('invalid_argument', `Move directory ${source.inode} below itself`);
    const row: InodeRow | undefined = context.tx.get(INODES, at);
    if (row === undefined) throw new CollectiveError('stale', `Move into directory ${to.parent.inode}: it was removed`);
    at = row.parent as InodeNumber;
  }
}

function checkReplace(context: OperationContext, to: Side, source: Found, target: Found): void {
  requireRemovable(context, to.parent.row, target.row);
  const sourceIsDirectory = source.row.type === InodeType.DIRECTORY;
  if (target.row.type === InodeType.DIRECTORY) {
    if (!sourceIsDirectory) throw new CollectiveError('is_directory', 'Replace a directory with a file');
    requireEmptyDirectory(context, target.inode, target.row);
  } else if (sourceIsDirectory) {
    throw new CollectiveError('not_directory', 'Replace a file with a directory');
  }
}

/**
 * D3: a name that shows a file shows its old content or its new one, also after the power was lost. With EXCHANGE the old content
 * is not gone yet, but who swaps a new file in will remove the old one next.
 */
function requireStable(context: OperationContext, coming: Found, going: Found): void {
  if (going.row.type === InodeType.FILE) requireStableFile(context, coming.inode, coming.row);
}

function move(
  context: OperationContext,
  from: Side,
  to: Side,
  source: Found,
  target: Found | undefined,
  said: Held,
): void {
  const { tx } = context;
  leaves(context, source.inode, source.row.realm, from.parent.inode, source.dentry.cookie);
  tx.put(INODES, dropEntry(context, from.parent, from.name, source.dentry), from.parent.inode);
  let parent: Parent = { inode: to.parent.inode, row: requireRow(context, to.parent.inode) };
  if (target !== undefined) {
    parent = { inode: parent.inode, row: dropEntry(context, parent, to.name, target.dentry) };
    const lost = {
      inode: target.inode,
      row: target.row,
      parent: to.parent.inode,
      name: to.name,
      cookie: target.dentry.cookie,
    };
    dropLink(context, lost, { ...said, permanent: false });
  }
  tx.put(INODES, addEntry(context, parent, to.name, { inode: source.inode, type: source.row.type }), parent.inode);
  settle(context, source, from, to);
}

function exchange(context: OperationContext, from: Side, to: Side, source: Found, target: Found): Empty {
  const { tx } = context;
  if (source.inode === target.inode) return {};
  leaves(context, source.inode, source.row.realm, from.parent.inode, source.dentry.cookie);
  leaves(context, target.inode, target.row.realm, to.parent.inode, target.dentry.cookie);
  tx.put(INODES, dropEntry(context, from.parent, from.name, source.dentry), from.parent.inode);
  tx.put(
    INODES,
    dropEntry(context, { inode: to.parent.inode, row: requireRow(context, to.parent.inode) }, to.name, target.dentry),
    to.parent.inode,
  );
  for (const [side, other, found] of [
    [from, to, target],
    [to, from, source],
  ] as const) {
    const parent = { inode: side.parent.inode, row: requireRow(context, side.parent.inode) };
    tx.put(INODES, addEntry(context, parent, side.name, { inode: found.inode, type: found.row.type }), parent.inode);
    settle(context, found, other, side);
  }
  return {};
}

/** The moved inode itself: its change time, and where it is. */
function settle(context: OperationContext, moved: Found, from: Side, to: Side): void {
  const row = { ...requireRow(context, moved.inode), ctime: context.tx.now };
  const parent = to.parent.inode;
  // Of a file with several names one is known.
  const knows = row.links === 1 || row.parent === from.parent.inode;
  if (row.type === InodeType.DIRECTORY)
    context.tx.put(INODES, { ...row, parent, name: nameBytes(to.name) }, moved.inode);
  else context.tx.put(INODES, knows ? { ...row, parent } : row, moved.inode);
  context.changed(moved.inode, ATTRIBUTES);
  joined(context, moved.inode, parent);
}

function requireRow(context: OperationContext, inode: InodeNumber): InodeRow {
  const row = context.tx.get(INODES, inode);
  if (row === undefined) throw new CollectiveError('stale', `Use inode ${inode}: it does not exist any more`);
  return row;
}
