/** Extended attributes: rows of their own; the inode knows how many, so that a file without any costs no look. */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import { XATTR_LIST_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX } from '@collective/base/limits';
import {
  type Attributes,
  type GetXattr,
  InodeType,
  type ListXattrs,
  type RemoveXattr,
  type SetXattr,
  type Xattr,
  XattrMode,
  type XattrNames,
  type XattrValue,
} from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { INODES, XATTRS } from '../tables/tables.ts';
import { ATTRIBUTES, type OperationContext } from './context.ts';
import { attributesOf, isOwner, loadInode, MAY_READ, MAY_WRITE, requireAccess, requireWritableRealm } from './inode.ts';

const XATTRS_PER_INODE_MAX = 1_000;

export function getXattr(context: OperationContext, request: GetXattr): XattrValue {
  const { inode, row } = loadInode(context, request.inode);
  checkXattrName(request.name);
  requireNamespaceAccess(context, row, request.name, MAY_READ);
  const found = row.xattrs === 0 ? undefined : context.tx.get(XATTRS, inode, request.name);
  if (found === undefined)
    throw new CollectiveError('no_attribute', `Read attribute '${request.name}' of inode ${inode}`);
  return { value: Buffer.from(found.value) };
}

export function listXattrs(context: OperationContext, request: ListXattrs): XattrNames {
  const { inode, row } = loadInode(context, request.inode);
  const names = row.xattrs === 0 ? [] : namesOf(context, inode);
  const root = context.caller.credential.uid === 0;
  return { names: root ? names : names.filter((name) => !name.startsWith('trusted.')) };
}

export function setXattr(context: OperationContext, request: SetXattr): Attributes {
  const { inode, row } = loadInode(context, request.inode);
  requireWritableRealm(context, row);
  checkXattrName(request.name);
  requireNamespaceAccess(context, row, request.name, MAY_WRITE);
  const modes: readonly number[] = Object.values(XattrMode);
  if (!modes.includes(request.mode))
    throw new CollectiveError(
      'invalid_argument',
      `Set attribute '${request.name}' with the unknown mode ${request.mode}`,
    );
  const present = context.tx.get(XATTRS, inode, request.name) !== undefined;
  if (request.mode === XattrMode.XATTR_CREATE && present)
    throw new CollectiveError('exists', `Set attribute '${request.name}' of inode ${inode} anew`);
  if (request.mode === XattrMode.XATTR_REPLACE && !present)
    throw new CollectiveError('no_attribute', `Replace attribute '${request.name}' of inode ${inode}`);
  context.growth.require(`Set attribute '${request.name}' of inode ${inode}`);
  const changed = { ...setXattrRows(context, inode, row, [request]), ctime: context.tx.now };
  context.tx.put(INODES, changed, inode);
  context.changed(inode, ATTRIBUTES);
  return attributesOf(inode, changed);
}

export function removeXattr(context: OperationContext, request: RemoveXattr): Attributes {
  const { inode, row } = loadInode(context, request.inode);
  requireWritableRealm(context, row);
  checkXattrName(request.name);
  requireNamespaceAccess(context, row, request.name, MAY_WRITE);
  if (context.tx.get(XATTRS, inode, request.name) === undefined)
    throw new CollectiveError('no_attribute', `Remove attribute '${request.name}' of inode ${inode}`);
  context.tx.remove(XATTRS, inode, request.name);
  const changed = { ...row, xattrs: row.xattrs - 1, ctime: context.tx.now };
  context.tx.put(INODES, changed, inode);
  context.changed(inode, ATTRIBUTES);
  return attributesOf(inode, changed);
}

/** Writes the rows and answers the inode with its count brought up to date, not yet written. */
function setXattrRows(
  context: OperationContext,
  inode: InodeNumber,
  row: InodeRow,
  xattrs: readonly Xattr[],
): InodeRow {
  const { tx } = context;
  let count = row.xattrs;
  for (const { name, value } of xattrs) {
    checkXattrName(name);
    if (value.length > XATTR_VALUE_BYTES_MAX)
      throw new CollectiveError(
        'range',
        `Set attribute '${name}' to ${value.length} bytes: at most ${XATTR_VALUE_BYTES_MAX}`,
      );
    if (tx.get(XATTRS, inode, name) === undefined) count += 1;
    tx.put(XATTRS, { value }, inode, name);
  }
  if (count > row.xattrs) {
    const bytes = namesOf(context, inode).reduce((sum, name) => sum + Buffer.byteLength(name) + 1, 0);
    if (count > XATTRS_PER_INODE_MAX || bytes > XATTR_LIST_BYTES_MAX)
      throw new CollectiveError(
        'no_space',
        `Set attributes of inode ${inode}: their names would take ${bytes} bytes, at most ${XATTR_LIST_BYTES_MAX}`,
      );
  }
  return { ...row, xattrs: count };
}

function namesOf(context: OperationContext, inode: InodeNumber): string[] {
  const prefix = XATTRS.key(inode, '');
  const rows = context.tx.scan(XATTRS, prefix, prefixEnd(prefix), XATTRS_PER_INODE_MAX + 1);
  return rows.map(({ key }) => Buffer.from(key.slice(prefix.length), 'latin1').toString('utf8'));
}

function checkXattrName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes === 0 || bytes > XATTR_NAME_BYTES_MAX)
    throw new CollectiveError(
      'range',
      `Use an attribute name of ${bytes} bytes: 1 to ${XATTR_NAME_BYTES_MAX} are allowed`,
    );
  if (name.includes('\0')) throw new CollectiveError('invalid_argument', 'Use an attribute name that holds NUL');
  if (!/^(user|trusted|security|system)\../s.test(name))
    throw new CollectiveError(
      'unsupported',
      `Use attribute '${name}': names begin with user., trusted., security. or system.`,
    );
}

/** The attributes that a new file comes with, under the same rules as if they were set one by one. */
export function setFirstXattrs(
  context: OperationContext,
  inode: InodeNumber,
  row: InodeRow,
  xattrs: readonly Xattr[],
): InodeRow {
  for (const { name } of xattrs) {
    checkXattrName(name);
    if (!name.startsWith('user.')) requireNamespaceAccess(context, row, name, MAY_WRITE);
  }
  return setXattrRows(context, inode, row, xattrs);
}

/** user.*: of files and directories, by mode bits. trusted.*: root only. security.* and system.*: changed by the owner. */
function requireNamespaceAccess(context: OperationContext, row: InodeRow, name: string, mask: number): void {
  if (name.startsWith('user.')) {
    // Linux has it so: on a symbolic link or device the mode bits say nothing about who may keep data there.
    if (row.type !== InodeType.FILE && row.type !== InodeType.DIRECTORY)
      throw new CollectiveError('not_permitted', `Use attribute '${name}': only files and directories have such`);
    requireAccess(context, row, mask, `Use attribute '${name}'`);
  } else if (name.startsWith('trusted.') && context.caller.credential.uid !== 0)
    throw new CollectiveError('not_permitted', `Use attribute '${name}': only root may`);
  else if (mask === MAY_WRITE && !isOwner(context, row))
    throw new CollectiveError('not_permitted', `Change attribute '${name}': only the owner may`);
}
