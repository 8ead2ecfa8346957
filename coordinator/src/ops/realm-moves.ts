/**
 * Moving what lies below a directory from one realm into another, while it is in use (M9): a populated directory becomes a
 * realm, or a realm is dissolved into the one around it. A job in bounded steps, each a commit that moves some inodes with
 * all that they use, so that the sums of both realms are exact at every moment and a crash costs one step.
 *
 * The walk visits each directory once in a pass. What is made or renamed meanwhile is taken care of by the operations
 * themselves (`realm-border.ts`). The first pass moves; the next proves that nothing was missed, and only a pass that moved
 * nothing ends the job. A realm with a link across its border cannot be: where a file has a name outside, the job takes
 * back what it did, which is the same walk in the other direction.
 */
import { assert } from '@collective/base/assert';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, RealmId } from '@collective/base/ids';
import type { Job } from '@collective/protocol/gen/admin';
import type { Transaction } from '../engine/transaction.ts';
import type { InodeRow, JobRow, RealmMove, RealmRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { INODES, JOB_LINKS, JOB_VISITS, JOBS, REALMS } from '../tables/tables.ts';
import type { OperationContext } from './context.ts';
import { childPath, pathOf } from './path-of.ts';
import { FIRST_VISIT, moveInode, quotaOf } from './realm-border.ts';
import { realmPath } from './realm-path.ts';
import { visitSome } from './realm-walk.ts';
import { allRealms, forgetOldRealms } from './realms.ts';
import { oldestTrash, trashNumber } from './trash.ts';

export const JOB_AT_WORK = 1;
export const JOB_TAKING_BACK = 2;
export const JOB_DONE = 3;
export const JOB_FAILED = 4;

/** Files with several names that one step judges. */
const LINKS_STEP = 100;
const TRASH_STEP = 100;
/** Ended jobs that are kept to be looked at. */
const JOBS_KEPT_MAX = 100;

export interface RunningJob {
  readonly job: number;
  readonly row: JobRow;
}

/** A directory with something in it becomes the realm of this row. Throws `busy`. */
export function beginToMake(
  context: OperationContext,
  border: InodeNumber,
  realm: RealmId,
  row: RealmRow,
  path: string,
): number {
  const before = context.tx.get(INODES, border);
  assert(before !== undefined, 'the directory that becomes a realm has a row');
  const outer = before.realm as RealmId;
  return begin(context, { kind: 'make-realm', path, border, inner: realm, outer, to: realm, innerRow: row });
}

/** The realm that begins at `border` becomes a part of the one around it. Throws `busy`, `quota_exceeded`, `not_permitted`. */
export function beginToDissolve(context: OperationContext, realm: RealmId, row: RealmRow, path: string): number {
  const { tx } = context;
  const border = row.root as InodeNumber;
  const parent = tx.get(INODES, border)?.parent;
  const above = parent === undefined ? undefined : tx.get(INODES, parent as InodeNumber);
  if (above === undefined || parent === border)
    throw new CollectiveError('not_permitted', `Dissolve realm '${path}': there is none around it`);
  const outer = above.realm as RealmId;
  const { limits, used } = quotaOf(tx, outer);
  const mine = tx.usageOf(realm);
  for (const [quota, sum, what] of [
    [limits.quotaBytes, used.bytes + mine.bytes, 'bytes'],
    [limits.quotaInodes, used.inodes + mine.inodes, 'inodes'],
  ] as const)
    if (quota !== 0 && sum > quota)
      throw new CollectiveError(
        'quota_exceeded',
        `Dissolve realm '${path}': realm ${realmPath(tx, limits)} would use ${sum} ${what} of its quota of ${quota}`,
      );
  return begin(context, { kind: 'dissolve-realm', path, border, inner: realm, outer, to: outer, innerRow: row });
}

function begin(
  context: OperationContext,
  plan: Pick<JobRow, 'kind' | 'path' | 'border' | 'inner' | 'outer'> & { to: number; innerRow: RealmRow },
): number {
  const { tx, caller } = context;
  const { kind, path, border, inner, outer, to, innerRow } = plan;
  const outerRow = tx.get(REALMS, outer as RealmId);
  assert(outerRow !== undefined, 'a realm of inodes has a row');
  for (const row of [outerRow, innerRow])
    if (row.move !== undefined)
      throw new CollectiveError(
        'busy',
        `Move '${path}' between realms: another such job is at work in realm ${realmPath(tx, row)}; wait until it has ended`,
      );
  const job = tx.newInode();
  const move: RealmMove = { inner, outer, border, to, pass: tx.newInode(), job };
  tx.put(REALMS, { ...innerRow, move }, inner as RealmId);
  tx.put(REALMS, { ...outerRow, move }, outer as RealmId);
  const row = tx.get(INODES, border as InodeNumber);
  assert(row !== undefined, 'the border of a realm has a row');
  moveInode(context, border as InodeNumber, row, to, job);
  tx.put(JOB_VISITS, FIRST_VISIT, job, border as InodeNumber);
  tx.put(
    JOBS,
    {
      kind,
      state: JOB_AT_WORK,
      path,
      subject: caller.subject,
      began: tx.now,
      ended: undefined,
      inner,
      outer,
      border,
      passes: 1,
      moved: 1,
      movedInPass: 1,
      failure: '',
    },
    job,
  );
  return job;
}

/** One step. Answers the job's row after it; it has ended when its state says so. */
export function stepOfMove(context: OperationContext, job: number): JobRow {
  const { tx } = context;
  const row = tx.get(JOBS, job);
  assert(row !== undefined, 'a job that is at work has a row');
  const move = tx.get(REALMS, row.inner as RealmId)?.move;
  if (move === undefined || move.job !== job) return row;
  const moved = visitSome(context, move);
  if (moved !== undefined) return count(context, job, row, moved);
  const links = judgeLinks(context, move);
  if (links?.outside !== undefined) return takeBack(context, job, row, move, links.outside);
  if (links !== undefined) return count(context, job, row, links.moved);
  const left = move.to === move.outer ? moveTrash(context, move) : 0;
  if (left > 0) return count(context, job, row, left);
  // A pass that moved nothing has seen everything where it belongs.
  if (row.movedInPass > 0) return nextPass(context, job, row, move, move.to);
  return end(context, job, row, move);
}

function count({ tx }: OperationContext, job: number, row: JobRow, moved: number): JobRow {
  const after = { ...row, moved: row.moved + moved, movedInPass: row.movedInPass + moved };
  tx.put(JOBS, after, job);
  return after;
}

/** Files with several names, when all directories were visited: undefined when there are none left to judge. */
function judgeLinks(
  context: OperationContext,
  move: RealmMove,
): { readonly moved: number; readonly outside?: string } | undefined {
  const { tx } = context;
  const prefix = JOB_LINKS.key(move.job, 0 as InodeNumber).slice(0, -6);
  const rows = tx.scan(JOB_LINKS, prefix, prefixEnd(prefix), LINKS_STEP);
  if (rows.length === 0) return undefined;
  const inodes = rows.map(({ key }) => readBigEndian(key, prefix.length, 6) as InodeNumber);
  tx.need(inodes.map((inode) => INODES.key(inode)));
  let moved = 0;
  for (const [i, { value }] of rows.entries()) {
    const inode = inodes[i] as InodeNumber;
    const row = tx.get(INODES, inode);
    // On the way back all names are below: whatever has moved was known to be.
    const judged = move.to === move.inner && row !== undefined && row.links > 0 && value.names > 0;
    const all = value.inside || value.names === row?.links;
    if (judged && !all) return { moved, outside: whereOutside(context, inode, row, value) };
    tx.remove(JOB_LINKS, move.job, inode);
    if ((judged || value.inside) && row !== undefined && row.realm !== move.to) {
      moveInode(context, inode, row, move.to, move.job);
      moved += 1;
    }
  }
  return { moved };
}

function whereOutside(
  { tx }: OperationContext,
  inode: InodeNumber,
  row: InodeRow,
  seen: { readonly names: number; readonly parent: number; readonly name: Uint8Array },
): string {
  const path = childPath(pathOf(tx, seen.parent as InodeNumber) ?? '?', Buffer.from(seen.name).toString('utf8'));
  return `${path} (inode ${inode}) has ${row.links} names, and ${row.links - seen.names} of them outside`;
}

/** What was moved goes back, by the same walk. */
function takeBack(context: OperationContext, job: number, row: JobRow, move: RealmMove, why: string): JobRow {
  const failure = `Make '${row.path}' a realm: ${why}; remove those names, or copy the file, and try again`;
  const failed = { ...row, state: JOB_TAKING_BACK, failure };
  return nextPass(context, job, failed, move, move.outer);
}

function nextPass(context: OperationContext, job: number, row: JobRow, move: RealmMove, to: number): JobRow {
  const { tx } = context;
  const border = move.border as InodeNumber;
  const next: RealmMove = { ...move, to, pass: tx.newInode() };
  putMove(context, move, next);
  const borderRow = tx.get(INODES, border);
  assert(borderRow !== undefined, 'the border of a realm has a row');
  const turned = borderRow.realm !== to;
  moveInode(context, border, borderRow, to, job);
  tx.put(JOB_VISITS, FIRST_VISIT, job, border);
  const after = { ...row, passes: row.passes + 1, moved: row.moved + (turned ? 1 : 0), movedInPass: turned ? 1 : 0 };
  tx.put(JOBS, after, job);
  return after;
}

/** What was removed from directories that are gone for good, and so was not met on the way. */
function moveTrash(context: OperationContext, move: RealmMove): number {
  const rows = oldestTrash(context.tx, move.inner as RealmId, 0, TRASH_STEP);
  context.tx.need(rows.flatMap(({ key, value }) => [key, INODES.key(value.inode as InodeNumber)]));
  for (const { key, value } of rows) {
    const inode = value.inode as InodeNumber;
    const row = context.tx.get(INODES, inode);
    assert(row?.trashed === trashNumber(key), 'what is in the trash says so');
    moveInode(context, inode, row, move.outer, move.job);
  }
  return rows.length;
}

function end(context: OperationContext, job: number, row: JobRow, move: RealmMove): JobRow {
  const { tx } = context;
  putMove(context, move, undefined);
  if (move.to === move.outer) mergeInto(context, move.inner as RealmId, move.outer);
  const ended = { ...row, state: row.state === JOB_TAKING_BACK ? JOB_FAILED : JOB_DONE, ended: tx.now };
  tx.put(JOBS, ended, job);
  forgetOldJobs(context);
  return ended;
}

/** The row stays, so that who still asks for that realm is led to the other. */
function mergeInto({ tx }: OperationContext, inner: RealmId, outer: number): void {
  const row = tx.get(REALMS, inner);
  assert(row !== undefined, 'a realm of a move has a row');
  tx.put(REALMS, { ...row, mergedInto: outer }, inner);
  for (const { realm, row } of allRealms(tx))
    if (row.rightsOf === inner) tx.put(REALMS, { ...row, rightsOf: outer }, realm);
  forgetOldRealms(tx);
}

function putMove({ tx }: OperationContext, { inner, outer }: RealmMove, move: RealmMove | undefined): void {
  for (const realm of [inner, outer] as RealmId[]) {
    const row = tx.get(REALMS, realm);
    assert(row !== undefined, 'both realms of a move have rows');
    tx.put(REALMS, { ...row, move }, realm);
  }
}

export function allJobs({ tx }: { readonly tx: Transaction }): RunningJob[] {
  return tx
    .scan(JOBS, JOBS.prefix, prefixEnd(JOBS.prefix), 10 * JOBS_KEPT_MAX)
    .map(({ key, value }) => ({ job: readBigEndian(key, JOBS.prefix.length, 6), row: value }));
}

const STATES: Readonly<Record<number, string>> = {
  [JOB_AT_WORK]: 'working',
  [JOB_TAKING_BACK]: 'taking back',
  [JOB_DONE]: 'done',
  [JOB_FAILED]: 'failed',
};

export function jobOnWire({ job, row }: RunningJob): Job {
  const { kind, path, subject, began, ended, moved, passes, failure } = row;
  return { id: job, kind, state: STATES[row.state] ?? '', path, subject, began, ended, moved, passes, failure };
}

export function hasEnded({ state }: Pick<JobRow, 'state'>): boolean {
  return state === JOB_DONE || state === JOB_FAILED;
}

function forgetOldJobs(context: OperationContext): void {
  const ended = allJobs(context).filter(({ row }) => hasEnded(row));
  for (const { job } of ended.slice(0, Math.max(0, ended.length - JOBS_KEPT_MAX))) context.tx.remove(JOBS, job);
}
