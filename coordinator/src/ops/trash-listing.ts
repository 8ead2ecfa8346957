/** Looking into the trash: entries by number, newest first in pages, and with the path at which each was. */
import type { InodeNumber, RealmId } from '@collective/base/ids';
import type { TrashEntry } from '@collective/protocol/gen/admin';
import type { OperationRun } from '../engine/operation-run.ts';
import type { TrashRow } from '../tables/gen/tables.ts';
import { REALMS, TRASH } from '../tables/tables.ts';
import type { Caller } from './context.ts';
import { childPath, pathsOf } from './path-of.ts';
import { trashNumber, trashSeconds } from './trash.ts';

export interface Trashed {
  readonly realm: RealmId;
  readonly number: number;
  readonly entry: TrashRow;
}

/** What a caller may see, restore and destroy: what it owns where it may write. */
export function mayTouch({ credential, realmRight }: Caller, { realm, entry }: Trashed): boolean {
  return realmRight(realm) === 'rw' && (credential.uid === 0 || credential.uid === entry.uid);
}

/**
 * The newest entries of a realm with numbers below `before` and not below `from`, newest first. Rows can be read in the
 * order of their keys only, so windows are read from the end backwards, wider where there is little and narrower where
 * there is much.
 */
export function newestTrash(
  tx: OperationRun,
  realm: RealmId,
  { before, from, limit }: { readonly before: number; readonly from: number; readonly limit: number },
): Trashed[] {
  const found: Trashed[] = [];
  let end = before;
  let span = limit * 4;
  while (end > from && found.length < limit) {
    const start = Math.max(from, end - span);
    const rows = tx.scan(TRASH, TRASH.key(realm, start), TRASH.key(realm, end), limit + 1);
    if (rows.length > limit) {
      span = Math.floor((end - start) / 2);
      continue;
    }
    for (const { key, value } of rows.reverse()) found.push({ realm, number: trashNumber(key), entry: value });
    end = start;
    span *= 4;
  }
  return found.slice(0, limit);
}

/** An entry by its number, which is one over all realms. */
export function trashedByNumber(tx: OperationRun, realms: readonly RealmId[], number: number): Trashed | undefined {
  tx.need(realms.map((realm) => TRASH.key(realm, number)));
  for (const realm of realms) {
    const entry = tx.get(TRASH, realm, number);
    if (entry !== undefined) return { realm, number, entry };
  }
  return undefined;
}

/** Where each was, or undefined when its directory is gone for good. */
export function pathsOfTrash(tx: OperationRun, found: readonly Trashed[]): (string | undefined)[] {
  const directories = pathsOf(tx, new Set(found.map(({ entry }) => entry.parent as InodeNumber)));
  return found.map(({ entry }) => {
    const above = directories.get(entry.parent as InodeNumber);
    return above === undefined ? undefined : childPath(above, entry.name.toString('utf8'));
  });
}

export function isAtOrBelow(path: string | undefined, above: string): boolean {
  return path !== undefined && (above === '/' || path === above || path.startsWith(`${above}/`));
}

export function trashEntryOnWire(tx: OperationRun, trashed: Trashed, path: string | undefined): TrashEntry {
  const { realm, number, entry } = trashed;
  const row = tx.get(REALMS, realm);
  const seconds = row === undefined ? 0 : trashSeconds(row);
  const { deleted } = entry;
  return {
    id: number,
    path: path ?? entry.name.toString('utf8'),
    parentGone: path === undefined,
    realm,
    type: entry.type,
    size: entry.size,
    uid: entry.uid,
    subject: entry.subject,
    deleted,
    keptUntil: seconds === 0 || deleted === undefined ? undefined : { ...deleted, seconds: deleted.seconds + seconds },
  };
}
