/**
 * What follows a restored directory: one bounded step of the way through it and what is below. In each directory first what
 * was removed from it comes back, by name, then its directories are entered, by offset. The mark of the place goes to the
 * client and comes back with its next call, so nothing is kept here for anybody.
 */
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { INODE_NUMBER_MAX, type InodeNumber, type RealmId } from '@collective/base/ids';
import { NAME_BYTES_MAX } from '@collective/base/limits';
import { InodeType } from '@collective/protocol/gen/session';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import {
  COOKIES,
  DENTRIES,
  INODES,
  type NameKey,
  nameBytes,
  nameKey,
  ORPHANS,
  TRASH,
  TRASH_NAMES,
} from '../tables/tables.ts';
import type { OperationContext } from './context.ts';
import { MAY_EXECUTE, MAY_WRITE, mayAccess } from './inode.ts';
import { childPath, pathOf } from './path-of.ts';
import { entriesAfter } from './read-directory.ts';
import { moveOf } from './realm-border.ts';
import { mayTouch } from './trash-listing.ts';
import { giveName } from './trash-restore.ts';
import { afterName, chosen, type TrashedName, trashedName, versionsOf } from './trash-search.ts';

/** Entries that one step looks at; entering a directory counts for some, since it costs a prefetch or two. */
const STEP_ENTRIES = 200;
const DIRECTORY_COUNTS = 10;
const DEPTH_MAX = 1_000;
const SKIPPED_NAMED_MAX = 5;

/** A directory on the way down: which of its removed names was looked at last, or which of its entries was entered last. */
export interface Level {
  readonly directory: InodeNumber;
  /** Empty: none yet. */
  afterName: NameKey;
  /** 0: names are not done yet. */
  afterCookie: number;
}

export interface BelowStep {
  files: number;
  directories: number;
  bytes: number;
  skipped: number;
  readonly skippedPaths: string[];
}

/** Goes on from the way in `levels`, which it changes; empty: all is done. */
export function restoreBelow(context: OperationContext, levels: Level[], at: Timestamp | undefined): BelowStep {
  const step: BelowStep = { files: 0, directories: 0, bytes: 0, skipped: 0, skippedPaths: [] };
  let left = STEP_ENTRIES;
  while (left > 0) {
    const top = levels.at(-1);
    if (top === undefined) break;
    const row = context.tx.get(INODES, top.directory);
    const gone = row === undefined || row.type !== InodeType.DIRECTORY || row.links === 0;
    if (gone || context.caller.realmRight(row.realm as RealmId) !== 'rw') {
      levels.pop();
      continue;
    }
    if (top.afterCookie === 0) {
      const mayChange = mayAccess(context, row, MAY_WRITE | MAY_EXECUTE);
      left -= restoreNames(context, top, { at, mayChange, step });
    } else left -= enterNext(context, levels, top);
  }
  return step;
}

/** Brings back a page of names; answers how many rows it looked at. */
function restoreNames(
  context: OperationContext,
  top: Level,
  how: { readonly at: Timestamp | undefined; readonly mayChange: boolean; readonly step: BelowStep },
): number {
  const { tx } = context;
  const { directory } = top;
  const end = prefixEnd(TRASH_NAMES.key(directory, '', 0).slice(0, -7));
  const from =
    top.afterName === '' ? TRASH_NAMES.key(directory, '', 0).slice(0, -7) : afterName(directory, top.afterName);
  const rows = tx.scan(TRASH_NAMES, from, end, STEP_ENTRIES).map(trashedName);
  const newest = new Map<NameKey, TrashedName>();
  for (const row of rows) if (!newest.has(row.name)) newest.set(row.name, row);
  const names = [...newest.values()];
  tx.need([
    ...names.map(({ name }) => DENTRIES.key(directory, name)),
    ...names.map(({ realm, number }) => TRASH.key(realm, number)),
    ...names.flatMap(({ row }) => [INODES.key(row.inode as InodeNumber), ORPHANS.key(row.inode as InodeNumber)]),
  ]);
  for (const each of names) restoreName(context, directory, each, how);
  const last = rows.at(-1);
  if (last !== undefined) top.afterName = last.name;
  // Offset 0 is nobody's: from here on directories are entered.
  if (rows.length < STEP_ENTRIES) top.afterCookie = 1;
  return rows.length + 1;
}

function restoreName(
  context: OperationContext,
  directory: InodeNumber,
  newest: TrashedName,
  { at, mayChange, step }: { at: Timestamp | undefined; mayChange: boolean; step: BelowStep },
): void {
  const { tx, caller } = context;
  const { name } = newest;
  const versions = at === undefined ? [newest] : versionsOf(tx, directory, name);
  const found = chosen(tx, versions, { at, accept: () => true });
  if (found === undefined) return;
  const taken = tx.get(DENTRIES, directory, name) !== undefined;
  const realm = tx.get(INODES, directory)?.realm ?? 0;
  const elsewhere = found.realm !== realm && moveOf(tx, realm) === undefined;
  if (taken || !mayChange || !mayTouch(caller, found) || elsewhere) {
    step.skipped += 1;
    if (step.skippedPaths.length < SKIPPED_NAMED_MAX)
      step.skippedPaths.push(childPath(pathOf(tx, directory) ?? '', nameBytes(name).toString('utf8')));
    return;
  }
  const row = giveName(context, found, { inode: directory }, name);
  step[row.type === InodeType.DIRECTORY ? 'directories' : 'files'] += 1;
  step.bytes += row.type === InodeType.FILE ? row.size : 0;
}

/** Enters the next directory, or leaves this one. */
function enterNext(context: OperationContext, levels: Level[], top: Level): number {
  const rows = entriesAfter(context, top.directory, top.afterCookie, STEP_ENTRIES);
  for (const { key, value } of rows) {
    top.afterCookie = readBigEndian(key, COOKIES.prefix.length + 6, 8);
    if (value.type !== InodeType.DIRECTORY) continue;
    if (levels.length >= DEPTH_MAX)
      throw new CollectiveError('overloaded', `Restore a directory: it is more than ${DEPTH_MAX} levels deep`);
    levels.push({ directory: value.inode as InodeNumber, afterName: '', afterCookie: 0 });
    return DIRECTORY_COUNTS;
  }
  if (rows.length < STEP_ENTRIES) levels.pop();
  return rows.length + 1;
}

/** For each level: directory 8, offset 8, length of the name 2, name. */
export function encodeLevels(levels: readonly Level[]): Buffer {
  return Buffer.concat(
    levels.map(({ directory, afterName, afterCookie }) => {
      const name = nameBytes(afterName);
      const fixed = Buffer.alloc(18);
      fixed.writeBigUInt64BE(BigInt(directory), 0);
      fixed.writeBigUInt64BE(BigInt(afterCookie), 8);
      fixed.writeUInt16BE(name.length, 16);
      return Buffer.concat([fixed, name]);
    }),
  );
}

/** The mark comes from outside: it is checked like any argument. What it names is checked by the step. */
export function decodeLevels(bytes: Buffer): Level[] {
  const levels: Level[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 18 || levels.length >= DEPTH_MAX) throw damagedMark();
    const directory = bytes.readBigUInt64BE(at);
    const afterCookie = bytes.readBigUInt64BE(at + 8);
    const length = bytes.readUInt16BE(at + 16);
    at += 18 + length;
    if (
      directory < 1n ||
      directory > BigInt(INODE_NUMBER_MAX) ||
      afterCookie >= BigInt(Number.MAX_SAFE_INTEGER) ||
      length > NAME_BYTES_MAX ||
      at > bytes.length
    )
      throw damagedMark();
    levels.push({
      directory: Number(directory) as InodeNumber,
      afterName: nameKey(bytes.subarray(at - length, at)),
      afterCookie: Number(afterCookie),
    });
  }
  return levels;
}

function damagedMark(): CollectiveError {
  return new CollectiveError('invalid_argument', 'Go on restoring a directory: the mark of the place is damaged');
}
