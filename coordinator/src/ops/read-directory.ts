/**
 * Listing a directory in pages. The offset of an entry is its creation sequence (M8): stable across restarts, and a page
 * costs the entries it holds, also in a directory of a million.
 */
import { CollectiveError } from '@collective/base/errors';
import { INODE_NUMBER_MAX, type InodeNumber, type RealmId } from '@collective/base/ids';
import { DIRECTORY_PAGE_ENTRIES_MAX } from '@collective/base/limits';
import {
  type DirectoryEntry,
  type DirectoryPage,
  InodeType,
  type ReadDirectory,
  type Usage,
  type UsageTotals,
} from '@collective/protocol/gen/session';
import type { Row } from '../engine/transaction.ts';
import type { CookieRow, InodeRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { COOKIES, INODES } from '../tables/tables.ts';
import { ENTRIES, type OperationContext } from './context.ts';
import { type attributesOf, loadDirectory, MAY_EXECUTE, MAY_READ, mayAccess, requireAccess } from './inode.ts';
import { shownAttributes } from './lookup.ts';

export function readDirectory(context: OperationContext, request: ReadDirectory): DirectoryPage {
  const { inode, row } = loadDirectory(context, request.inode);
  requireAccess(context, row, MAY_READ, `List directory ${inode}`);
  const limit = Math.min(Math.max(request.limit, 1), DIRECTORY_PAGE_ENTRIES_MAX);
  const rows = entriesAfter(context, inode, request.after, limit);
  const attributes = request.withAttributes && (rows.length === 0 || canSearch(context, row));
  if (attributes) context.tx.need(rows.map(({ value }) => INODES.key(value.inode as InodeNumber)));
  context.show(inode, ENTRIES);
  return {
    entries: rows.map(({ key, value }) => entryOf(context, key, value, attributes)),
    end: rows.length < limit,
  };
}

function canSearch(context: OperationContext, row: InodeRow): boolean {
  requireAccess(context, row, MAY_EXECUTE, "Read the attributes of a directory's entries");
  return true;
}

function entryOf(context: OperationContext, key: string, row: CookieRow, withAttributes: boolean): DirectoryEntry {
  return {
    name: row.name,
    inode: row.inode,
    type: row.type as InodeType,
    cookie: readBigEndian(key, COOKIES.prefix.length + 6, 8),
    attributes: withAttributes ? attributesIfAllowed(context, row) : undefined,
  };
}

/** The root of a realm that was not given to the caller is listed by name only. */
function attributesIfAllowed(context: OperationContext, row: CookieRow): ReturnType<typeof attributesOf> | undefined {
  const inode = context.tx.get(INODES, row.inode as InodeNumber);
  if (inode === undefined || context.caller.realmRight(inode.realm as never) === undefined) return undefined;
  return shownAttributes(context, { inode: row.inode, type: row.type, cookie: 0 });
}

export function entriesAfter(
  context: OperationContext,
  directory: InodeNumber,
  after: number,
  limit: number,
): Row<CookieRow>[] {
  const from = COOKIES.key(directory, after + 1);
  return context.tx.scan(COOKIES, from, prefixEnd(COOKIES.key(directory, 0).slice(0, -8)), limit);
}

/** Entries that one step of a walk visits. */
const USAGE_STEP_ENTRIES = 1_000;
/** What entering a directory counts: it costs a prefetch or two, and an operation stops for so many only. */
const USAGE_DIRECTORY_ENTRIES = 20;
const USAGE_DEPTH_MAX = 1_000;

/**
 * Adds up what lies below a directory, in bounded steps: `resume` holds the way down from it as pairs of (directory,
 * offset of the entry last visited). Directories that the caller may not read are counted but not entered.
 */
export function usage(context: OperationContext, request: Usage): UsageTotals {
  const totals: UsageTotals = { files: 0, directories: 0, bytes: 0, storedBytes: 0, resume: Buffer.alloc(0) };
  const stack = wayFrom(context, request);
  let left = USAGE_STEP_ENTRIES;
  while (left > 0) {
    const top = stack.at(-1);
    if (top === undefined) return totals;
    const rows = entriesAfter(context, top.inode, top.after, left);
    context.tx.need(rows.map(({ value }) => INODES.key(value.inode as InodeNumber)));
    const size = stack.length;
    for (const { key, value } of rows) {
      top.after = readBigEndian(key, COOKIES.prefix.length + 6, 8);
      left -= 1;
      const row = context.tx.get(INODES, value.inode as InodeNumber);
      if (row === undefined) continue;
      if (row.type !== InodeType.DIRECTORY) {
        totals.files += 1;
        totals.bytes += row.size;
        totals.storedBytes += row.storedBytes;
        continue;
      }
      totals.directories += 1;
      if (!mayEnter(context, row)) continue;
      left -= USAGE_DIRECTORY_ENTRIES;
      if (stack.length >= USAGE_DEPTH_MAX)
        throw new CollectiveError('overloaded', `Add up a directory: it is more than ${USAGE_DEPTH_MAX} levels deep`);
      stack.push({ inode: value.inode as InodeNumber, after: 0 });
      break;
    }
    if (stack.length === size && left > 0) stack.pop();
  }
  totals.resume = encodeWay(stack);
  return totals;
}

/** The mark of the place comes from outside: each directory on it is checked as if it were entered anew (M9). */
function wayFrom(context: OperationContext, request: Usage): Step[] {
  const start = loadDirectory(context, request.inode);
  requireAccess(context, start.row, MAY_READ | MAY_EXECUTE, `Add up directory ${start.inode}`);
  if (request.resume.length === 0) return [{ inode: start.inode, after: 0 }];
  const way = decodeWay(request.resume);
  context.tx.need(way.map(({ inode }) => INODES.key(inode)));
  return way.filter(({ inode }) => {
    const row = context.tx.get(INODES, inode);
    // Removed meanwhile: the walk goes on with the directory above.
    if (row === undefined || row.type !== InodeType.DIRECTORY) return false;
    if (!mayEnter(context, row))
      throw new CollectiveError('permission_denied', `Add up directory ${inode}: it was not given to the caller`);
    return true;
  });
}

function mayEnter(context: OperationContext, row: InodeRow): boolean {
  return (
    context.caller.realmRight(row.realm as RealmId) !== undefined && mayAccess(context, row, MAY_READ | MAY_EXECUTE)
  );
}

interface Step {
  readonly inode: InodeNumber;
  after: number;
}

function encodeWay(stack: readonly Step[]): Buffer {
  const out = Buffer.alloc(stack.length * 16);
  for (const [i, { inode, after }] of stack.entries()) {
    out.writeBigUInt64BE(BigInt(inode), i * 16);
    out.writeBigUInt64BE(BigInt(after), i * 16 + 8);
  }
  return out;
}

function decodeWay(bytes: Buffer): Step[] {
  if (bytes.length % 16 !== 0 || bytes.length > USAGE_DEPTH_MAX * 16)
    throw new CollectiveError('invalid_argument', 'Go on adding up a directory: the mark of the place is damaged');
  const stack: Step[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    if (
      bytes.readBigUInt64BE(at) > BigInt(INODE_NUMBER_MAX) ||
      bytes.readBigUInt64BE(at + 8) >= BigInt(Number.MAX_SAFE_INTEGER)
    )
      throw new CollectiveError('invalid_argument', 'Go on adding up a directory: the mark of the place is damaged');
    stack.push({
      inode: Number(bytes.readBigUInt64BE(at)) as InodeNumber,
      after: Number(bytes.readBigUInt64BE(at + 8)),
    });
  }
  return stack;
}
