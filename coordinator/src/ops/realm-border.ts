/**
 * While inodes move from one realm into another (M9), what all other operations owe the move: the two realms count as one
 * below the border, nothing crosses it, and a walk that goes through the directories in steps misses nothing that is made,
 * renamed or linked meanwhile.
 *
 * What the walk has done is told by rows alone. A directory whose `walked` is the number of the pass was entered; while it
 * is being gone through it has a visit with the offset so far. So an operation sees whether the walk has passed a name, and
 * does what the walk would have done: a file takes the realm of its directory, a directory is put on the list of visits, a
 * name of a file with several names is counted.
 */
import { assert } from '@collective/base/assert';
import { CollectiveError } from '@collective/base/errors';
import { type InodeNumber, type RealmId, ROOT_INODE } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { UsageChange } from '../engine/usage-sums.ts';
import { sum } from '../engine/usage-sums.ts';
import type { InodeRow, JobVisitRow, RealmMove, RealmRow } from '../tables/gen/tables.ts';
import { INODES, JOB_LINKS, JOB_VISITS, nameKey, REALMS, TRASH, TRASH_NAMES } from '../tables/tables.ts';
import { ATTRIBUTES, type OperationContext } from './context.ts';

/** Of a visit: entries of the directory, what was removed from it, or the chunks of a file. */
export const VISIT_ENTRIES = 1;
export const VISIT_TRASH = 2;
export const VISIT_CHUNKS = 3;
export const FIRST_VISIT: JobVisitRow = { phase: 0, afterCookie: 0, afterKey: Buffer.alloc(0), block: 0 };

/** Each level may cost an operation one stop (M3). */
const LEVELS_MAX = 900;

/** The move in which any of these realms takes part; a realm takes part in one at a time. */
export function moveOf(tx: OperationRun, ...realms: number[]): RealmMove | undefined {
  for (const realm of realms) {
    const move = tx.get(REALMS, realm as RealmId)?.move;
    if (move !== undefined) return move;
  }
  return undefined;
}

export function isPartOf(move: RealmMove, realm: number): boolean {
  return realm === move.inner || realm === move.outer;
}

/** Names of files are counted while a realm is made: one outside would be a link across its border. */
export function countsNames(move: RealmMove): boolean {
  return move.to === move.inner;
}

/** Whether the directory is the border or lies below it; undefined when something above it is gone. */
export function isBelow(tx: OperationRun, directory: InodeNumber, border: number): boolean | undefined {
  let at = directory;
  for (let levels = 0; levels < LEVELS_MAX; levels++) {
    if (at === border) return true;
    if (at === ROOT_INODE) return false;
    const row = tx.get(INODES, at);
    if (row === undefined) return undefined;
    at = row.parent as InodeNumber;
  }
  return undefined;
}

/**
 * An inode gets a name in `to`, coming from the directory `from`, undefined if that is not known. Throws `cross_realm` when that
 * would cross a border: of realms, or the one over which a move is under way.
 */
export function requireSameRealm(
  context: OperationContext,
  moved: Pick<InodeRow, 'realm'>,
  from: InodeNumber | undefined,
  to: { readonly inode: InodeNumber; readonly row: InodeRow },
  what: string,
): void {
  const { tx } = context;
  const { realm } = to.row;
  const move = moveOf(tx, moved.realm, realm);
  if (move === undefined) {
    if (moved.realm !== realm) throw new CollectiveError('cross_realm', `${what} into another realm`);
    return;
  }
  const below = isBelow(tx, to.inode, move.border);
  const sameSide = from !== undefined && below !== undefined && isBelow(tx, from, move.border) === below;
  const together = isPartOf(move, moved.realm) && isPartOf(move, realm);
  if (!sameSide || (moved.realm !== realm && !(together && below)))
    throw new CollectiveError('cross_realm', `${what} over the border of a realm that is being made or dissolved`);
}

/** A directory that bears a realm, or will until a move has ended. */
export function isRealmRoot(tx: OperationRun, inode: InodeNumber, row: Pick<InodeRow, 'realm'>): boolean {
  const realm = tx.get(REALMS, row.realm as RealmId);
  return inode === ROOT_INODE || realm?.root === inode || realm?.move?.border === inode;
}

/** Limits, use and members of what counts as one realm: while inodes move, both together are the outer one. */
export function quotaOf(
  tx: OperationRun,
  realm: number,
): { readonly limits: RealmRow; readonly realms: readonly RealmId[]; readonly used: UsageChange } {
  const row = tx.get(REALMS, realm as RealmId);
  if (row === undefined) throw new CollectiveError('internal', `Use realm ${realm}: it has no row`);
  if (row.move === undefined) return { limits: row, realms: [realm as RealmId], used: tx.usageOf(realm) };
  const { inner, outer } = row.move;
  const limits = outer === realm ? row : tx.get(REALMS, outer as RealmId);
  assert(limits !== undefined, 'both realms of a move have rows');
  return {
    limits,
    realms: [outer as RealmId, inner as RealmId],
    used: sum(tx.usageOf(outer), tx.usageOf(inner)),
  };
}

/** The inode has just got a name in the directory; both rows are written. */
export function joined(context: OperationContext, inode: InodeNumber, directory: InodeNumber): void {
  const { tx } = context;
  const row = tx.get(INODES, inode);
  const above = tx.get(INODES, directory);
  if (row === undefined || above === undefined) return;
  const move = moveOf(tx, above.realm);
  if (move === undefined || !isPartOf(move, row.realm)) return;
  const entered = above.walked === move.pass;
  if (row.type === InodeType.DIRECTORY) {
    if (entered && row.walked !== move.pass) tx.put(JOB_VISITS, FIRST_VISIT, move.job, inode);
    return;
  }
  const known = countsNames(move) ? tx.get(JOB_LINKS, move.job, inode) : undefined;
  if (row.links === 1 && known === undefined) {
    if (row.realm !== above.realm) moveInode(context, inode, row, above.realm, move.job);
    return;
  }
  if (!countsNames(move) || row.realm === move.to || !entered) return;
  const visit = tx.get(JOB_VISITS, move.job, directory);
  // The walk comes to the name by itself: it is the newest of the directory.
  if (visit?.phase === VISIT_ENTRIES) return;
  countName(tx, move, inode, directory, '', 1);
}

/** A name of the inode is about to go from the directory. */
export function leaves(
  context: OperationContext,
  inode: InodeNumber,
  realm: number,
  directory: InodeNumber,
  cookie: number,
): void {
  const { tx } = context;
  const move = moveOf(tx, realm);
  if (move === undefined || !countsNames(move)) return;
  if (tx.get(JOB_LINKS, move.job, inode) === undefined || !hasPassed(tx, move, directory, cookie)) return;
  countName(tx, move, inode, undefined, '', -1);
}

/** A second name is about to be given to a file that has one; where that is, is known. */
export function becomesMany(context: OperationContext, inode: InodeNumber, row: InodeRow): void {
  const { tx } = context;
  const move = moveOf(tx, row.realm);
  if (move === undefined || !countsNames(move) || row.realm === move.to) return;
  if (isBelow(tx, row.parent as InodeNumber, move.border) !== true) return;
  if (tx.get(JOB_LINKS, move.job, inode) === undefined)
    tx.put(JOB_LINKS, { names: 0, inside: true, parent: 0, name: Buffer.alloc(0) }, move.job, inode);
}

export function countName(
  tx: OperationRun,
  move: RealmMove,
  inode: InodeNumber,
  directory: InodeNumber | undefined,
  name: string,
  more: 1 | -1,
): void {
  const known = tx.get(JOB_LINKS, move.job, inode) ?? { names: 0, inside: false, parent: 0, name: Buffer.alloc(0) };
  const seen = directory === undefined ? {} : { parent: directory, name: Buffer.from(name, 'latin1') };
  tx.put(JOB_LINKS, { ...known, ...seen, names: known.names + more }, move.job, inode);
}

function hasPassed(tx: OperationRun, move: RealmMove, directory: InodeNumber, cookie: number): boolean {
  if (tx.get(INODES, directory)?.walked !== move.pass) return false;
  const visit = tx.get(JOB_VISITS, move.job, directory);
  return visit === undefined || visit.phase !== VISIT_ENTRIES || cookie <= visit.afterCookie;
}

/** The inode, all that it uses and its entry in the trash belong to another realm from here on; its chunks follow by a visit. */
export function moveInode(
  context: OperationContext,
  inode: InodeNumber,
  row: InodeRow,
  to: number,
  job: number,
): InodeRow {
  const { tx } = context;
  const { realm: from, storedBytes, trashed } = row;
  if (from === to) return row;
  const moved = { ...row, realm: to };
  const directories = row.type === InodeType.DIRECTORY && trashed === 0 ? 1 : 0;
  const [trashBytes, trashInodes] = trashed === 0 ? [0, 0] : [storedBytes, 1];
  tx.addUsage(from, {
    bytes: -storedBytes,
    inodes: -1,
    directories: -directories,
    trashBytes: -trashBytes,
    trashInodes: -trashInodes,
  });
  tx.addUsage(to, { bytes: storedBytes, inodes: 1, directories, trashBytes, trashInodes });
  if (trashed !== 0) moveTrashEntry(tx, from as RealmId, to as RealmId, trashed);
  if (row.type === InodeType.FILE && row.version > 1)
    tx.put(JOB_VISITS, { ...FIRST_VISIT, phase: VISIT_CHUNKS }, job, inode);
  tx.put(INODES, moved, inode);
  context.changed(inode, ATTRIBUTES);
  return moved;
}

function moveTrashEntry(tx: OperationRun, from: RealmId, to: RealmId, number: number): void {
  const entry = tx.get(TRASH, from, number);
  assert(entry !== undefined, 'an inode that says that it is in the trash is there');
  tx.remove(TRASH, from, number);
  tx.put(TRASH, entry, to, number);
  const { inode, type } = entry;
  tx.put(TRASH_NAMES, { realm: to, inode, type }, entry.parent as InodeNumber, nameKey(entry.name), number);
}
