/** Destroying what is in the trash, oldest first, in bounded steps: for a person, when its time is over, and when room runs out. */
import { assert } from '@collective/base/assert';
import type { Timestamp } from '@collective/base/clock';
import type { RealmId } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import { TRASH } from '../tables/tables.ts';
import type { OperationContext } from './context.ts';
import { destroyTrashed, needToDestroy, oldestTrash, trashNumber } from './trash.ts';
import { isAtOrBelow, pathsOfTrash, type Trashed } from './trash-listing.ts';

export const EMPTY_STEP = 100;

export interface EmptyOptions {
  readonly realm: RealmId;
  /** The number from which on to look. */
  readonly from: number;
  /** Removed before that time. */
  readonly before: Timestamp;
  /** What was there or below; undefined: wherever it was. */
  readonly path?: string;
  accept(trashed: Trashed): boolean;
}

export interface EmptyStep {
  readonly files: number;
  readonly directories: number;
  readonly bytes: number;
  /** Where to go on; undefined: nothing older is left. */
  readonly next: number | undefined;
  /** When the first of those that are younger was removed. */
  readonly youngerSince: Timestamp | undefined;
}

export function emptyStep(context: OperationContext, { realm, from, before, path, accept }: EmptyOptions): EmptyStep {
  const { tx } = context;
  const rows = oldestTrash(tx, realm, from, EMPTY_STEP);
  // They lie in the order of removal, nearly: times were drawn before the numbers were written.
  const old = rows.filter(({ value }) => isBefore(value.deleted, before));
  const found = old.map(({ key, value }) => ({ realm, number: trashNumber(key), entry: value })).filter(accept);
  const paths = path === undefined ? [] : pathsOfTrash(tx, found);
  const doomed = path === undefined ? found : found.filter((_, i) => isAtOrBelow(paths[i], path));
  const destroyed = destroyAll(context, doomed);
  const last = rows.at(-1);
  const more = rows.length === EMPTY_STEP && old.length > 0 && last !== undefined;
  const youngerSince = rows.find(({ value }) => !isBefore(value.deleted, before))?.value.deleted;
  return { ...destroyed, next: more ? trashNumber(last.key) + 1 : undefined, youngerSince };
}

export function destroyAll(
  context: OperationContext,
  doomed: readonly Trashed[],
): { files: number; directories: number; bytes: number } {
  assert(doomed.length <= EMPTY_STEP, 'one operation destroys a step of entries');
  needToDestroy(
    context.tx,
    doomed.map(({ realm, number, entry }) => ({ key: TRASH.key(realm, number), value: entry })),
  );
  const sum = { files: 0, directories: 0, bytes: 0 };
  for (const { entry } of doomed) {
    const row = destroyTrashed(context, entry);
    sum[row.type === InodeType.DIRECTORY ? 'directories' : 'files'] += 1;
    sum.bytes += row.storedBytes;
  }
  return sum;
}

function isBefore(time: Timestamp | undefined, than: Timestamp): boolean {
  return time === undefined || (time.seconds - than.seconds || time.nanos - than.nanos) < 0;
}
