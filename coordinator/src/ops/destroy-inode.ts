/** The end of an inode: all its rows go in one operation; its blocks become garbage in bounded steps later. */
import type { InodeNumber } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { InodeRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { DOOMED, INODES, LOCKS, XATTRS } from '../tables/tables.ts';
import { ATTRIBUTES, type OperationContext } from './context.ts';

const XATTRS_PER_INODE_MAX = 1_000;

/** Nothing names it any more, and nobody has it open. */
export function destroyInode(context: OperationContext, inode: InodeNumber, row: InodeRow): void {
  const { tx } = context;
  context.changed(inode, ATTRIBUTES);
  tx.remove(INODES, inode);
  if (row.xattrs > 0) {
    const prefix = XATTRS.key(inode, '');
    for (const { key } of tx.scan(XATTRS, prefix, prefixEnd(prefix), XATTRS_PER_INODE_MAX))
      tx.remove(XATTRS, inode, Buffer.from(key.slice(prefix.length), 'latin1').toString('utf8'));
  }
  if (tx.get(LOCKS, inode) !== undefined) tx.remove(LOCKS, inode);
  // A file that was written to may have rows of blocks that hold nothing any more.
  if (row.type === InodeType.FILE && row.version > 1)
    tx.put(DOOMED, { since: tx.now, inode, size: row.size, realm: row.realm }, row.data);
  const directory = row.type === InodeType.DIRECTORY;
  tx.addUsage(row.realm, { inodes: -1, directories: directory ? -1 : 0, bytes: -row.storedBytes });
}
