/** Reading the namespace: one name, a whole path, attributes, a symlink's target. Nothing here writes. */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import { PATH_BYTES_MAX } from '@collective/base/limits';
import {
  type Attributes,
  type GetAttributes,
  InodeType,
  type LinkTarget,
  type Lookup,
  type ReadLink,
  type Resolve,
  type Resolved,
} from '@collective/protocol/gen/session';
import type { DentryRow } from '../tables/gen/tables.ts';
import { DENTRIES } from '../tables/tables.ts';
import { ATTRIBUTES, ENTRIES, OPEN, type OperationContext } from './context.ts';
import { attributesOf, checkName, loadDirectory, loadInode, MAY_EXECUTE, requireAccess } from './inode.ts';

export function lookup(context: OperationContext, request: Lookup): Attributes {
  const parent = loadDirectory(context, request.parent);
  requireAccess(context, parent.row, MAY_EXECUTE, `Look up a name in directory ${parent.inode}`);
  const name = checkName(request.name);
  // Also an absence is promised: the caller may keep "no such name" until it is recalled.
  context.show(parent.inode, ENTRIES);
  const dentry = context.tx.get(DENTRIES, parent.inode, name);
  if (dentry === undefined)
    throw new CollectiveError('not_found', `Look up '${request.name}' in directory ${parent.inode}`);
  return shownAttributes(context, dentry);
}

export function resolve(context: OperationContext, request: Resolve): Resolved {
  const length = request.names.reduce((sum, name) => sum + name.length + 1, 0);
  if (length > PATH_BYTES_MAX)
    throw new CollectiveError('name_too_long', `Walk a path of ${length} bytes: at most ${PATH_BYTES_MAX} are allowed`);
  const found: Attributes[] = [];
  let at = request.start;
  for (const [i, name] of request.names.entries()) {
    try {
      const attributes = lookup(context, { parent: at, name });
      found.push(attributes);
      at = attributes.inode;
      const last = i === request.names.length - 1;
      if (attributes.type === InodeType.SYMLINK && (!last || request.followLast))
        return { found, linkTarget: Buffer.from(loadInode(context, at).row.linkTarget), failure: undefined };
    } catch (thrown) {
      if (!(thrown instanceof CollectiveError)) throw thrown;
      return {
        found,
        linkTarget: Buffer.alloc(0),
        failure: { code: thrown.code, message: thrown.message, details: {} },
      };
    }
  }
  return { found, linkTarget: Buffer.alloc(0), failure: undefined };
}

export function getAttributes(context: OperationContext, request: GetAttributes): Attributes {
  const { inode, row } = loadInode(context, request.inode);
  context.coherent(inode);
  context.show(inode, request.opens ? ATTRIBUTES | OPEN : ATTRIBUTES);
  return attributesOf(inode, row);
}

export function readLink(context: OperationContext, request: ReadLink): LinkTarget {
  const { inode, row } = loadInode(context, request.inode);
  if (row.type !== InodeType.SYMLINK)
    throw new CollectiveError('invalid_argument', `Read inode ${inode} as a symbolic link`);
  return { target: Buffer.from(row.linkTarget) };
}

export function shownAttributes(context: OperationContext, dentry: DentryRow): Attributes {
  const { inode, row } = loadInode(context, dentry.inode as InodeNumber);
  context.coherent(inode);
  context.show(inode, ATTRIBUTES);
  return attributesOf(inode, row);
}
