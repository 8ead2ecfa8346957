/**
 * Making an inode with a name: file, directory, symlink, fifo, socket or device. A small file comes with its content in
 * the same operation (D2), and may take the place of an older file of that name at once, when it is stable (D3).
 */
import { CollectiveError } from '@collective/base/errors';
import { FILE_BYTES_MAX, PATH_BYTES_MAX } from '@collective/base/limits';
import { type Attributes, Existing, InodeType, type MakeNode } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { DENTRIES, INODES, type NameKey } from '../tables/tables.ts';
import { ATTRIBUTES, DATA, ENTRIES, type OperationContext } from './context.ts';
import { addEntry, dropEntry, FIRST_COOKIE, type Parent, requireEntry } from './entries.ts';
import { commitSlices, requireInodeQuota } from './file-data.ts';
import {
  attributesOf,
  checkName,
  inheritsGroup,
  isOwner,
  loadDirectory,
  MAY_WRITE,
  requireAccess,
  requireEntryChange,
  requireTime,
  SET_GID,
  withoutSetId,
} from './inode.ts';
import { requireStableChunks } from './stable-content.ts';
import { dropLink } from './unlink.ts';
import { setFirstXattrs } from './xattrs.ts';

export function makeNode(context: OperationContext, request: MakeNode): Attributes {
  const parent = loadDirectory(context, request.parent);
  const name = checkName(request.name);
  checkRequest(context, request);
  const present = context.tx.get(DENTRIES, parent.inode, name);
  if (present === undefined) {
    requireEntryChange(context, parent.row, `Make '${request.name}' in directory ${parent.inode}`);
    return attach(context, request, parent, name, newRow(context, request, parent));
  }
  const old = requireEntry(context, parent, name);
  if (request.existing === Existing.FAIL)
    throw new CollectiveError('exists', `Make '${request.name}' in directory ${parent.inode}`);
  if (old.row.type === InodeType.DIRECTORY)
    throw new CollectiveError('is_directory', `Write '${request.name}' as a file`);
  if (request.type !== InodeType.FILE || old.row.type !== InodeType.FILE)
    throw new CollectiveError('exists', `Make '${request.name}' in directory ${parent.inode}`);
  if (request.existing === Existing.OPEN) {
    context.coherent(old.inode);
    context.show(old.inode, ATTRIBUTES);
    context.show(parent.inode, ENTRIES);
    return attributesOf(old.inode, old.row);
  }
  requireEntryChange(context, parent.row, `Replace '${request.name}' in directory ${parent.inode}`);
  requireAccess(context, old.row, MAY_WRITE, `Replace '${request.name}'`);
  if (request.existing === Existing.REPLACE_WITH_MODE && !isOwner(context, old.row))
    throw new CollectiveError('not_permitted', `Give '${request.name}' another mode: only the owner may`);
  if (request.content !== undefined) requireStableChunks(context, parent.row.realm, request.content.chunks);
  context.coherent(old.inode);
  const without: Parent = { inode: parent.inode, row: dropEntry(context, parent, name, old.dentry) };
  const lost = { inode: old.inode, row: old.row, parent: parent.inode, name, cookie: old.dentry.cookie };
  dropLink(context, lost, { held: request.targetHeld, expectedInode: request.targetInode, permanent: false });
  // As a write into the old file would: mode and owner stay, set-id bits fall.
  const { uid } = context.caller.credential;
  const kept = uid === 0 ? old.row.mode : withoutSetId(old.row);
  const fresh = newRow(context, request, parent);
  const mode = request.existing === Existing.REPLACE_WITH_MODE ? fresh.mode : kept;
  return attach(context, request, without, name, { ...fresh, mode, uid: old.row.uid, gid: old.row.gid });
}

function checkRequest(context: OperationContext, request: MakeNode): void {
  switch (request.type) {
    case InodeType.FILE:
    case InodeType.DIRECTORY:
    case InodeType.FIFO:
    case InodeType.SOCKET:
      break;
    case InodeType.CHARACTER:
    case InodeType.BLOCK:
      if (context.caller.credential.uid !== 0)
        throw new CollectiveError('not_permitted', 'Make a device: only root may');
      break;
    case InodeType.SYMLINK:
      if (request.linkTarget.length === 0)
        throw new CollectiveError('invalid_argument', 'Make a symbolic link without a target');
      if (request.linkTarget.length > PATH_BYTES_MAX)
        throw new CollectiveError(
          'name_too_long',
          `Make a symbolic link to a path of ${request.linkTarget.length} bytes`,
        );
      break;
    default:
      throw new CollectiveError('invalid_argument', `Make an inode of the unknown type ${request.type}`);
  }
  if (request.content !== undefined && request.type !== InodeType.FILE)
    throw new CollectiveError('invalid_argument', 'Make something with content that is not a file');
}

const NO_NAME = Buffer.alloc(0);

function newRow(context: OperationContext, request: MakeNode, parent: Parent): InodeRow {
  const { tx, caller } = context;
  const directory = request.type === InodeType.DIRECTORY;
  const setGid = inheritsGroup(parent.row);
  const permissions = request.type === InodeType.SYMLINK ? 0o777 : request.mode & 0o7777 & ~(request.umask & 0o777);
  const { uid, gid, groups } = caller.credential;
  const group = setGid ? parent.row.gid : gid;
  // A set-gid bit on a file of a group that the maker is not in would lend it rights that nobody gave.
  const lendsGroup = !directory && uid !== 0 && group !== gid && !groups.includes(group);
  return {
    realm: parent.row.realm,
    type: request.type,
    mode: (lendsGroup ? permissions & ~SET_GID : permissions) | (directory && setGid ? SET_GID : 0),
    uid,
    gid: group,
    links: directory ? 2 : 1,
    size: request.type === InodeType.SYMLINK ? request.linkTarget.length : 0,
    storedBytes: 0,
    mtime: tx.now,
    ctime: tx.now,
    birth: tx.now,
    rdev: request.rdev,
    version: 1,
    entries: 0,
    nextCookie: directory ? FIRST_COOKIE : 0,
    parent: parent.inode,
    name: directory ? request.name : NO_NAME,
    linkTarget: request.linkTarget,
    xattrs: 0,
    data: 0,
    trashed: 0,
    walked: directory ? parent.row.walked : 0,
  };
}

function attach(
  context: OperationContext,
  request: MakeNode,
  parent: Parent,
  name: NameKey,
  base: InodeRow,
): Attributes {
  const { tx } = context;
  context.growth.require(`Make '${request.name}' in directory ${parent.inode}`);
  requireInodeQuota(context, base.realm);
  const inode = tx.newInode();
  let row: InodeRow = { ...base, data: inode };
  tx.addUsage(row.realm, { inodes: 1, directories: row.type === InodeType.DIRECTORY ? 1 : 0 });
  const { content } = request;
  if (content !== undefined) {
    if (content.size > FILE_BYTES_MAX)
      throw new CollectiveError(
        'too_large',
        `Make a file of ${content.size} bytes: at most ${FILE_BYTES_MAX} (16 TiB)`,
      );
    if (content.mtime !== undefined) requireTime(content.mtime);
    row = commitSlices(context, { inode, row, slices: content.slices, chunks: content.chunks, fresh: true }).row;
    row = { ...row, size: Math.max(row.size, content.size), mtime: content.mtime ?? row.mtime };
    if (content.xattrs.length > 0) row = setFirstXattrs(context, inode, row, content.xattrs);
  }
  tx.put(INODES, row, inode);
  tx.put(INODES, addEntry(context, parent, name, { inode, type: row.type }), parent.inode);
  context.show(inode, ATTRIBUTES | DATA);
  context.show(parent.inode, ENTRIES);
  return attributesOf(inode, row);
}
