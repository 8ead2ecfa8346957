/** Hard links: a second name of a file within its realm (M9). Directories have one name. */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import { HARD_LINKS_MAX } from '@collective/base/limits';
import { type Attributes, InodeType, type LinkInode } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
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
import { becomesMany, joined, moveOf, requireSameRealm } from './realm-border.ts';

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
  requireSameRealm(context, row, knownPlace(context, row), parent, `Link inode ${inode}`);
  if (row.links >= HARD_LINKS_MAX)
    throw new CollectiveError('too_many_links', `Link inode ${inode}: it has ${row.links} names`);
  context.growth.require(`Link '${request.name}' in directory ${parent.inode}`);
  context.coherent(inode);
  if (row.links === 1) becomesMany(context, inode, row);
  const linked = { ...row, links: row.links + 1, parent: parent.inode, ctime: context.tx.now };
  context.tx.put(INODES, linked, inode);
  context.tx.put(INODES, addEntry(context, parent, name, { inode, type: row.type }), parent.inode);
  joined(context, inode, parent.inode);
  context.changed(inode, ATTRIBUTES);
  context.show(inode, ATTRIBUTES);
  context.show(parent.inode, ENTRIES);
  return attributesOf(inode, linked);
}

/** A directory in which the file has a name, as far as that is known. What is in the inner realm of a move is below its border. */
function knownPlace({ tx }: OperationContext, row: InodeRow): InodeNumber | undefined {
  const move = moveOf(tx, row.realm);
  if (move !== undefined && row.realm === move.inner) return move.border as InodeNumber;
  return row.parent === 0 ? undefined : (row.parent as InodeNumber);
}
