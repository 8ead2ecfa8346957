/** Hard links: a second name of a file within its realm (M9). Directories have one name. */
import { CollectiveError } from '@collective/base/errors';
import { HARD_LINKS_MAX } from '@collective/base/limits';
import { type Attributes, InodeType, type LinkInode } from '@collective/protocol/gen/session';
import { DENTRIES, INODES } from '../tables/tables.ts';
import { ATTRIBUTES, ENTRIES, type OperationContext } from './context.ts';
import { addEntry } from './entries.ts';
import {
  attributesOf,
  checkName,
  loadDirectory,
  loadInode,
  requireEntryChange,
  requireWritableRealm,
} from './inode.ts';

export function link(context: OperationContext, request: LinkInode): Attributes {
  const { inode, row } = loadInode(context, request.inode);
  const parent = loadDirectory(context, request.parent);
  const name = checkName(request.name);
  requireWritableRealm(context, row);
  requireEntryChange(context, parent.row, `Link '${request.name}' in directory ${parent.inode}`);
  if (row.type === InodeType.DIRECTORY)
    throw new CollectiveError('not_permitted', `Link directory ${inode}: a directory has one name`);
  if (row.links === 0) throw new CollectiveError('not_found', `Link inode ${inode}: it was removed`);
  if (context.tx.get(DENTRIES, parent.inode, name) !== undefined)
    throw new CollectiveError('exists', `Link '${request.name}' in directory ${parent.inode}`);
  if (row.realm !== parent.row.realm)
    throw new CollectiveError('cross_realm', `Link inode ${inode} into another realm`);
  if (row.links >= HARD_LINKS_MAX)
    throw new CollectiveError('too_many_links', `Link inode ${inode}: it has ${row.links} names`);
  const linked = { ...row, links: row.links + 1, ctime: context.tx.now };
  context.coherent(inode);
  context.tx.put(INODES, linked, inode);
  context.tx.put(INODES, addEntry(context, parent, name, { inode, type: row.type }), parent.inode);
  context.changed(inode, ATTRIBUTES);
  context.show(inode, ATTRIBUTES);
  context.show(parent.inode, ENTRIES);
  return attributesOf(inode, linked);
}
