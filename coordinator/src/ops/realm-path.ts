/**
 * Where a realm begins, found from below when it is shown: directories above it may have been renamed since it was made (M9).
 * The row keeps the path that it had then.
 */
import type { InodeNumber } from '@collective/base/ids';
import type { Transaction } from '../engine/transaction.ts';
import type { RealmRow } from '../tables/gen/tables.ts';
import { pathsOf } from './path-of.ts';

export function realmPath(tx: Transaction, row: RealmRow): string {
  return realmPaths(tx, [row]).get(row.root) ?? row.path;
}

/** By root. */
export function realmPaths(tx: Transaction, rows: readonly RealmRow[]): ReadonlyMap<number, string> {
  const found = pathsOf(
    tx,
    rows.map(({ root }) => root as InodeNumber),
  );
  return new Map(rows.map(({ root, path }) => [root, found.get(root as InodeNumber) ?? path]));
}
