/**
 * The trash of a realm (M8): what lost its last name keeps its rows for a while, counted in the usage of its realm, and can
 * get a name again. For all other operations it is gone: no directory names it, and by its number only those find it who
 * had it open.
 *
 * A removal costs one row more than to destroy the inode at once, and looks at nothing that is not in memory already.
 */
import { assert } from '@collective/base/assert';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, RealmId } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { Row } from '../engine/transaction.ts';
import type { InodeRow, RealmRow, TrashRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { INODES, LOCKS, type NameKey, nameBytes, nameKey, ORPHANS, TRASH, TRASH_NAMES } from '../tables/tables.ts';
import { realmRow } from './chunks.ts';
import type { OperationContext } from './context.ts';
import { destroyInode } from './destroy-inode.ts';

const TRASH_SECONDS_DEFAULT = 7 * 86_400;
const TRASH_SECONDS_MAX = 3_650 * 86_400;
/** Entries that one operation lets go to make room for itself. */
const YIELD_ENTRIES_MAX = 64;

/** Where a name is, or was. */
export interface Place {
  readonly parent: InodeNumber;
  readonly name: NameKey;
}

/** How long a realm keeps what is removed; 0: it has no trash. */
export function trashSeconds({ trashSeconds: given }: Pick<RealmRow, 'trashSeconds'>): number {
  return given < 0 ? 0 : given || TRASH_SECONDS_DEFAULT;
}

/** As a realm's row keeps it, where 0 means "as the program sees fit". Throws `invalid_argument`. */
export function storedTrashSeconds(given: number | undefined): number {
  if (given !== undefined && given > TRASH_SECONDS_MAX)
    throw new CollectiveError(
      'invalid_argument',
      `Keep removed files for ${given} s: at most ${TRASH_SECONDS_MAX / 86_400} days are allowed`,
    );
  return given === 0 ? -1 : (given ?? 0);
}

/** The row as it lies in the trash, written; undefined when it is not kept: fifos, sockets and devices hold nothing. */
export function moveToTrash(
  context: OperationContext,
  inode: InodeNumber,
  row: InodeRow,
  { parent, name }: Place,
): InodeRow | undefined {
  const { tx, caller } = context;
  const directory = row.type === InodeType.DIRECTORY;
  if (!directory && row.type !== InodeType.FILE && row.type !== InodeType.SYMLINK) return undefined;
  if (trashSeconds(realmRow(context, row.realm)) === 0) return undefined;
  const number = tx.newInode();
  const { realm, type, uid, size } = row;
  tx.put(
    TRASH,
    { inode, type, parent, name: nameBytes(name), deleted: tx.now, subject: caller.subject, uid, size },
    realm as RealmId,
    number,
  );
  tx.put(TRASH_NAMES, { realm, inode, type }, parent, name, number);
  tx.addUsage(realm, { trashBytes: row.storedBytes, trashInodes: 1, directories: directory ? -1 : 0 });
  const trashed = { ...row, trashed: number };
  tx.put(INODES, trashed, inode);
  return trashed;
}

/** Takes the inode out of the trash again; its row, not yet written, has still no name. */
export function takeFromTrash(tx: OperationRun, row: InodeRow): InodeRow {
  const realm = row.realm as RealmId;
  const entry = tx.get(TRASH, realm, row.trashed);
  assert(entry !== undefined, 'an inode that says that it is in the trash is there');
  tx.remove(TRASH, realm, row.trashed);
  tx.remove(TRASH_NAMES, entry.parent as InodeNumber, nameKey(entry.name), row.trashed);
  const directories = row.type === InodeType.DIRECTORY ? 1 : 0;
  tx.addUsage(realm, { trashBytes: -row.storedBytes, trashInodes: -1, directories });
  return { ...row, trashed: 0 };
}

/** What one look needs of entries to destroy them, fetched in one go. `key`: of the entry's own row. */
export function needToDestroy(tx: OperationRun, entries: readonly Row<TrashRow>[]): void {
  tx.need(
    entries.flatMap(({ key, value }) => {
      const inode = value.inode as InodeNumber;
      return [key, INODES.key(inode), ORPHANS.key(inode), LOCKS.key(inode)];
    }),
  );
}

/** The entry is not kept any longer. Whoever has the file open keeps it until it is closed. Answers the inode's row as it was. */
export function destroyTrashed(context: OperationContext, entry: TrashRow): InodeRow {
  const { tx } = context;
  const inode = entry.inode as InodeNumber;
  const row = tx.get(INODES, inode);
  assert(row !== undefined, 'what is in the trash has a row');
  const out = takeFromTrash(tx, row);
  if (tx.get(ORPHANS, inode) === undefined) destroyInode(context, inode, out);
  else tx.put(INODES, out, inode);
  return row;
}

/** Entries of a realm, oldest first, from a number on. */
export function oldestTrash(tx: OperationRun, realm: RealmId, from: number, limit: number): Row<TrashRow>[] {
  return tx.scan(TRASH, TRASH.key(realm, from), prefixEnd(TRASH.key(realm, 0).slice(0, -6)), limit);
}

export function trashNumber(key: string): number {
  return readBigEndian(key, TRASH.prefix.length + 6, 6);
}

/** Counts bytes that blocks hold more or less; what is in the trash counts there too. */
export function addStoredBytes(
  tx: OperationRun,
  { realm, trashed }: Pick<InodeRow, 'realm' | 'trashed'>,
  bytes: number,
): void {
  tx.addUsage(realm, trashed === 0 ? { bytes } : { bytes, trashBytes: bytes });
}

/**
 * Where the realm says that its trash yields, the oldest goes until so much is free, as far as one operation can: a quota is
 * not full as long as it holds trash.
 */
export function yieldTrash(context: OperationContext, realm: number, wanted: { bytes: number; inodes: number }): void {
  const { tx } = context;
  if (!realmRow(context, realm).trashYields || tx.usageOf(realm).trashInodes <= 0) return;
  const oldest = oldestTrash(tx, realm as RealmId, 0, YIELD_ENTRIES_MAX);
  needToDestroy(tx, oldest);
  const before = tx.usageOf(realm);
  for (const { value: entry } of oldest) {
    const now = tx.usageOf(realm);
    if (before.bytes - now.bytes >= wanted.bytes && before.inodes - now.inodes >= wanted.inodes) return;
    // To let go of what somebody has open would free nothing.
    if (tx.get(ORPHANS, entry.inode as InodeNumber) === undefined) destroyTrashed(context, entry);
  }
}

/** For errors that tell of a lack of room: what could be done about it. */
export function trashHint(amount: number, unit: 'bytes' | 'files' = 'bytes'): string {
  return amount <= 0 ? '' : `; ${amount} ${unit} are in the trash: \`collective trash empty\``;
}
