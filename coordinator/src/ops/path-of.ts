/**
 * Paths of directories, found from below: a directory's row says where it is, so a path costs its depth and stays true when
 * something above is renamed. A directory in the trash has the path that it had, under what its parents are called now.
 */
import { type InodeNumber, ROOT_INODE } from '@collective/base/ids';
import type { Transaction } from '../engine/transaction.ts';
import type { InodeRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { COOKIES, INODES } from '../tables/tables.ts';

/** Each level may cost an operation one stop (M3); deeper directories have no path that anybody could type. */
const LEVELS_MAX = 500;
/** Rows from before directories knew their names: entries of the parent that are looked through. */
const OLD_ENTRIES_MAX = 100_000;
const OLD_ENTRIES_STEP = 2_000;

/** Undefined when a directory on the way is gone. */
export function pathOf(tx: Transaction, directory: InodeNumber): string | undefined {
  return pathsOf(tx, [directory]).get(directory);
}

/** Paths of many, whose common parents are looked at once. */
export function pathsOf(
  tx: Transaction,
  directories: Iterable<InodeNumber>,
): ReadonlyMap<InodeNumber, string | undefined> {
  const rows = rowsAbove(tx, directories);
  const paths = new Map<InodeNumber, string | undefined>([[ROOT_INODE, '/']]);
  for (const directory of directories) {
    const way: InodeNumber[] = [];
    for (let at = directory; !paths.has(at); ) {
      way.push(at);
      const row = rows.get(at);
      if (row === undefined || way.length > LEVELS_MAX) break;
      at = row.parent as InodeNumber;
    }
    for (const inode of way.reverse()) {
      const row = rows.get(inode);
      const above = row === undefined ? undefined : paths.get(row.parent as InodeNumber);
      const name = row === undefined || above === undefined ? undefined : nameOf(tx, inode, row);
      paths.set(inode, name === undefined || above === undefined ? undefined : childPath(above, name));
    }
  }
  return paths;
}

export function childPath(directory: string, name: string): string {
  return directory === '/' ? `/${name}` : `${directory}/${name}`;
}

/** Level by level, so that those which are not in memory are fetched together. */
function rowsAbove(tx: Transaction, directories: Iterable<InodeNumber>): ReadonlyMap<InodeNumber, InodeRow> {
  const rows = new Map<InodeNumber, InodeRow>();
  let level = new Set(directories);
  for (let levels = 0; level.size > 0 && levels <= LEVELS_MAX; levels++) {
    tx.need([...level].map((inode) => INODES.key(inode)));
    const above = new Set<InodeNumber>();
    for (const inode of level) {
      const row = inode === ROOT_INODE || rows.has(inode) ? undefined : tx.get(INODES, inode);
      if (row === undefined) continue;
      rows.set(inode, row);
      if (!rows.has(row.parent as InodeNumber)) above.add(row.parent as InodeNumber);
    }
    level = above;
  }
  return rows;
}

function nameOf(tx: Transaction, inode: InodeNumber, row: InodeRow): string | undefined {
  if (row.name.length > 0) return Buffer.from(row.name).toString('utf8');
  const parent = row.parent as InodeNumber;
  const end = prefixEnd(COOKIES.key(parent, 0).slice(0, -8));
  let from = COOKIES.key(parent, 0);
  for (let seen = 0; seen < OLD_ENTRIES_MAX; seen += OLD_ENTRIES_STEP) {
    const entries = tx.scan(COOKIES, from, end, OLD_ENTRIES_STEP);
    const found = entries.find(({ value }) => value.inode === inode);
    if (found !== undefined) return found.value.name.toString('utf8');
    const last = entries.at(-1);
    if (last === undefined || entries.length < OLD_ENTRIES_STEP) return undefined;
    from = COOKIES.key(parent, readBigEndian(last.key, COOKIES.prefix.length + 6, 8) + 1);
  }
  return undefined;
}
