/**
 * The trash entry that a path means. A directory on the way may be there, or be in the trash itself, once or many times:
 * all of them are gone through. Of what had the name, the newest is meant, or what had it at a given time.
 */
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { INODE_NUMBER_MAX, type InodeNumber, type RealmId, ROOT_INODE } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { Row } from '../engine/transaction.ts';
import type { TrashNameRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { DENTRIES, INODES, type NameKey, TRASH, TRASH_NAMES } from '../tables/tables.ts';
import { checkName } from './inode.ts';
import type { Trashed } from './trash-listing.ts';

/** Directories of one path: those that were made and removed again and again under one name. */
const DIRECTORIES_MAX = 500;
/** Of one name: a file that is replaced every minute has some ten thousand in a week. */
const VERSIONS_MAX = 15_000;
const LOOKED_AT_ONCE = 200;

export interface Search {
  /** As it was at that time; undefined: the newest. */
  readonly at: Timestamp | undefined;
  accept(trashed: Trashed): boolean;
}

export function splitPath(path: string): NameKey[] {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .map((part) => checkName(Buffer.from(part, 'utf8')));
}

/** Undefined when nothing that is accepted is in the trash under that path. */
export function trashedAt(tx: OperationRun, path: string, search: Search): Trashed | undefined {
  const names = splitPath(path);
  const last = names.pop();
  if (last === undefined) return undefined;
  let directories: InodeNumber[] = [ROOT_INODE];
  for (const name of names) {
    directories = directories.flatMap((directory) => directoriesCalled(tx, directory, name));
    if (directories.length > DIRECTORIES_MAX)
      throw new CollectiveError(
        'overloaded',
        `Look for '${path}' in the trash: more than ${DIRECTORIES_MAX} directories had that path; name the entry by its id`,
      );
  }
  const found = directories.flatMap((directory) => versionsOf(tx, directory, last));
  return chosen(tx, found, search);
}

/** Which of the versions of one name is meant. */
export function chosen(
  tx: OperationRun,
  versions: readonly TrashedName[],
  { at, accept }: Search,
): Trashed | undefined {
  const newestFirst = versions.toSorted((a, b) => b.number - a.number);
  if (at === undefined) {
    for (let from = 0; from < newestFirst.length; from += LOOKED_AT_ONCE) {
      const some = newestFirst.slice(from, from + LOOKED_AT_ONCE);
      tx.need(some.map(({ realm, number }) => TRASH.key(realm, number)));
      const accepted = some.map((version) => entryOf(tx, version)).find(accept);
      if (accepted !== undefined) return accepted;
    }
    return undefined;
  }
  tx.need(newestFirst.map(({ realm, number }) => TRASH.key(realm, number)));
  const later = newestFirst.map((version) => entryOf(tx, version)).filter(({ entry }) => isAfter(entry.deleted, at));
  const first = later.filter(accept).at(-1);
  if (first === undefined) return undefined;
  // What was removed first after that time had the name then, if it was there already.
  const birth = tx.get(INODES, first.entry.inode as InodeNumber)?.birth;
  return isAfter(birth, at) ? undefined : first;
}

export interface TrashedName {
  readonly name: NameKey;
  readonly realm: RealmId;
  readonly number: number;
  readonly row: TrashNameRow;
}

export function trashedName({ key, value }: Row<TrashNameRow>): TrashedName {
  return {
    name: key.slice(TRASH_NAMES.prefix.length + 6, -7),
    realm: value.realm as RealmId,
    number: INODE_NUMBER_MAX - readBigEndian(key, key.length - 6, 6),
    row: value,
  };
}

/** All that was removed under this name in this directory, newest first. */
export function versionsOf(tx: OperationRun, directory: InodeNumber, name: NameKey): TrashedName[] {
  const from = TRASH_NAMES.key(directory, name, INODE_NUMBER_MAX);
  const rows = tx.scan(TRASH_NAMES, from, afterName(directory, name), VERSIONS_MAX + 1);
  if (rows.length > VERSIONS_MAX)
    throw new CollectiveError(
      'overloaded',
      `Look into the trash: more than ${VERSIONS_MAX} entries had the name '${name}'; name one by its id`,
    );
  return rows.map(trashedName);
}

/** The smallest key above all entries of the name. */
export function afterName(directory: InodeNumber, name: NameKey): string {
  return prefixEnd(TRASH_NAMES.key(directory, name, INODE_NUMBER_MAX).slice(0, -6));
}

function directoriesCalled(tx: OperationRun, directory: InodeNumber, name: NameKey): InodeNumber[] {
  tx.need([DENTRIES.key(directory, name)]);
  const live = tx.get(DENTRIES, directory, name);
  const removed = versionsOf(tx, directory, name).filter(({ row }) => row.type === InodeType.DIRECTORY);
  const inodes = removed.map(({ row }) => row.inode as InodeNumber);
  return live?.type === InodeType.DIRECTORY ? [live.inode as InodeNumber, ...inodes] : inodes;
}

function entryOf(tx: OperationRun, { realm, number }: TrashedName): Trashed {
  const entry = tx.get(TRASH, realm, number);
  if (entry === undefined) throw new CollectiveError('internal', `Find entry ${number} of the trash: it has no row`);
  return { realm, number, entry };
}

function isAfter(time: Timestamp | undefined, than: Timestamp): boolean {
  return time !== undefined && (time.seconds - than.seconds || time.nanos - than.nanos) > 0;
}
