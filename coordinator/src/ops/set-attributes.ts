/** Mode, owner, times and size, with the rights that POSIX asks for each. A cut of many blocks is made in steps (M3). */
import { CollectiveError } from '@collective/base/errors';
import { type Attributes, InodeType, type SetAttributes } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { INODES } from '../tables/tables.ts';
import { ATTRIBUTES, DATA, type OperationContext, StepsFirst } from './context.ts';
import { resize } from './file-data.ts';
import {
  attributesOf,
  inGroup,
  isOwner,
  loadInode,
  MAY_WRITE,
  mayAccess,
  requireAccess,
  requireDataAccess,
  requireTime,
  requireWritableRealm,
  SET_GID,
  withoutSetId,
} from './inode.ts';

export function setAttributes(context: OperationContext, request: SetAttributes): Attributes {
  const { inode, row: before } = loadInode(context, request.inode);
  requireWritableRealm(context, before);
  context.coherent(inode);
  const { tx } = context;
  let row: InodeRow = { ...before, ctime: tx.now };
  if (request.mode !== undefined) row = changeMode(context, row, request.mode);
  if (request.uid !== undefined || request.gid !== undefined) row = changeOwner(context, row, request);
  if (request.mtime !== undefined || request.mtimeNow) row = changeTimes(context, row, request);
  if (request.birth !== undefined) {
    requireTime(request.birth);
    requireOwner(context, row, 'Set the birth time');
    row = { ...row, birth: request.birth };
  }
  let kinds = ATTRIBUTES;
  if (request.size !== undefined) {
    if (row.type === InodeType.DIRECTORY)
      throw new CollectiveError('is_directory', `Set the size of directory ${inode}`);
    if (row.type !== InodeType.FILE)
      throw new CollectiveError('invalid_argument', `Set the size of inode ${inode}, which is not a file`);
    requireAccess(context, before, MAY_WRITE, `Set the size of inode ${inode}`);
    const cut = resize(context, row, inode, request.size);
    if (cut.unfinished) throw new StepsFirst((stepping) => cutStep(stepping, request));
    row = request.mtime === undefined && !request.mtimeNow ? { ...cut.row, mtime: tx.now } : cut.row;
    kinds |= DATA;
  }
  if (request.clearSetId && request.size === undefined)
    requireDataAccess(context, before, MAY_WRITE, `Write inode ${inode}`);
  if (request.clearSetId) row = { ...row, mode: withoutSetId(row) };
  tx.put(INODES, row, inode);
  context.changed(inode, kinds);
  context.show(inode, ATTRIBUTES);
  return attributesOf(inode, row);
}

/** One bounded step of a cut; answers whether another is needed before `setAttributes` can end it. */
function cutStep(context: OperationContext, request: SetAttributes): boolean {
  if (request.size === undefined) return false;
  const { inode, row } = loadInode(context, request.inode);
  if (row.type !== InodeType.FILE || request.size >= row.size) return false;
  requireWritableRealm(context, row);
  requireAccess(context, row, MAY_WRITE, `Set the size of inode ${inode}`);
  context.coherent(inode);
  const cut = resize(context, row, inode, request.size);
  if (!cut.unfinished) {
    // `setAttributes` makes the rest of the cut, together with the inode's row and the answer.
    context.tx.discard();
    return false;
  }
  context.tx.put(INODES, cut.row, inode);
  context.changed(inode, ATTRIBUTES | DATA);
  return true;
}

function changeMode(context: OperationContext, row: InodeRow, mode: number): InodeRow {
  requireOwner(context, row, 'Change the mode');
  if (row.type === InodeType.SYMLINK) throw new CollectiveError('unsupported', 'Change the mode of a symbolic link');
  const bits = mode & 0o7777;
  // POSIX: a set-gid bit for a group that the caller is not in falls.
  return { ...row, mode: row.type === InodeType.DIRECTORY || inGroup(context, row.gid) ? bits : bits & ~SET_GID };
}

function changeOwner(context: OperationContext, row: InodeRow, request: SetAttributes): InodeRow {
  const uid = request.uid ?? row.uid;
  const gid = request.gid ?? row.gid;
  if (uid !== row.uid && context.caller.credential.uid !== 0)
    throw new CollectiveError('not_permitted', 'Give a file to another owner: only root may');
  if (gid !== row.gid && !(isOwner(context, row) && inGroup(context, gid)))
    throw new CollectiveError('not_permitted', 'Give a file to a group that the caller is not in');
  if (uid === row.uid && gid === row.gid) requireOwner(context, row, 'Change the owner');
  const keepBits = row.type === InodeType.DIRECTORY || request.mode !== undefined;
  return { ...row, uid, gid, mode: keepBits ? row.mode : withoutSetId(row) };
}

function changeTimes(context: OperationContext, row: InodeRow, request: SetAttributes): InodeRow {
  if (request.mtime !== undefined) requireTime(request.mtime);
  if (request.mtime !== undefined) requireOwner(context, row, 'Set the modification time');
  else if (!isOwner(context, row) && !mayAccess(context, row, MAY_WRITE))
    throw new CollectiveError('permission_denied', 'Set the modification time to now: the mode bits do not allow it');
  return { ...row, mtime: request.mtime ?? context.tx.now };
}

function requireOwner(context: OperationContext, row: InodeRow, what: string): void {
  if (!isOwner(context, row)) throw new CollectiveError('not_permitted', `${what}: only the owner may`);
}
