/** Realms (M9): the roots of quota, rights and replication. */
import { CollectiveError } from '@collective/base/errors';
import { type InodeNumber, type RealmId, ROOT_INODE, ROOT_REALM } from '@collective/base/ids';
import type { Realm } from '@collective/protocol/gen/admin';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { Transaction } from '../engine/transaction.ts';
import type { InodeRow, RealmRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { INODES, RANGES, REALMS } from '../tables/tables.ts';
import { replicaRule } from './chunks.ts';
import { FIRST_COOKIE } from './entries.ts';
import { realmPath, realmPaths } from './realm-path.ts';
import { trashSeconds } from './trash.ts';

const REALMS_MAX = 10_000;
const DISSOLVED_KEPT_MAX = 100;

/** The root directory and its realm, on the first start of a member. */
export function makeRoot(
  tx: OperationRun,
  { uid, gid, mode = 0o755 }: { readonly uid: number; readonly gid: number; readonly mode?: number },
): void {
  if (tx.get(INODES, ROOT_INODE) !== undefined) return;
  tx.put(
    REALMS,
    {
      root: ROOT_INODE,
      path: '/',
      quotaBytes: 0,
      quotaInodes: 0,
      replicas: 0,
      minReplicas: 0,
      compressionOff: false,
      trashSeconds: 0,
      trashYields: false,
      move: undefined,
      rightsOf: 0,
      mergedInto: 0,
    },
    ROOT_REALM,
  );
  tx.put(
    INODES,
    directoryRow(tx, { realm: ROOT_REALM, mode, uid, gid, parent: ROOT_INODE, name: Buffer.alloc(0) }),
    ROOT_INODE,
  );
  tx.addUsage(ROOT_REALM, { inodes: 1, directories: 1 });
}

export function listRealms(tx: OperationRun): Realm[] {
  const realms = allRealms(tx);
  const paths = realmPaths(
    tx,
    realms.map(({ row }) => row),
  );
  return realms.map(({ realm, row }) => realmOnWire(tx, realm, row, paths.get(row.root)));
}

/** Without those that were dissolved. */
export function allRealms(tx: Transaction): RealmEntry[] {
  return storedRealms(tx).filter(({ row }) => row.mergedInto === 0);
}

export function storedRealms(tx: Transaction): RealmEntry[] {
  return tx
    .scan(REALMS, REALMS.prefix, prefixEnd(REALMS.prefix), REALMS_MAX + DISSOLVED_KEPT_MAX)
    .map(({ key, value }) => ({ realm: readBigEndian(key, 1, 6) as RealmId, row: value }));
}

export interface RealmEntry {
  readonly realm: RealmId;
  readonly row: RealmRow;
}

export function realmsWithTrash(tx: OperationRun): RealmId[] {
  return allRealms(tx)
    .map(({ realm }) => realm)
    .filter((realm) => tx.usageOf(realm).trashInodes > 0);
}

/** A number that no realm ever had: rights may name one that is gone. */
export function newRealm(tx: OperationRun): RealmId {
  const realms = allRealms(tx);
  if (realms.length >= REALMS_MAX)
    throw new CollectiveError('overloaded', `Create a realm: there are ${REALMS_MAX} already`);
  const realm = Math.max((realms.at(-1)?.realm ?? 0) + 1, tx.get(RANGES, 'realm')?.reservedTo ?? 0);
  tx.put(RANGES, { reservedTo: realm + 1 }, 'realm');
  return realm as RealmId;
}

/** The realm itself, or the one that has what it had. Throws `stale` when it was dissolved long ago. */
export function presentRealm(tx: Transaction, realm: RealmId): RealmId {
  let at = realm;
  for (;;) {
    const row = tx.get(REALMS, at);
    if (row === undefined) throw new CollectiveError('stale', `Use realm ${realm}: it does not exist any more`);
    if (row.mergedInto === 0) return at;
    at = row.mergedInto as RealmId;
  }
}

/** Rows of dissolved realms lead those who still ask for them to the realm that has what they had. */
export function forgetOldRealms(tx: OperationRun): void {
  const dissolved = storedRealms(tx).filter(({ row }) => row.mergedInto !== 0);
  for (const { realm } of dissolved.slice(0, Math.max(0, dissolved.length - DISSOLVED_KEPT_MAX)))
    tx.remove(REALMS, realm);
}

export function realmOnWire(tx: OperationRun, realm: RealmId, row: RealmRow, path = realmPath(tx, row)): Realm {
  const { bytes, inodes, trashBytes, trashInodes } = tx.usageOf(realm);
  const { wanted, needed } = replicaRule(row);
  return {
    realm,
    path,
    root: row.root,
    quotaBytes: row.quotaBytes,
    quotaInodes: row.quotaInodes,
    usedBytes: Math.max(bytes, 0),
    usedInodes: Math.max(inodes, 0),
    replicas: wanted,
    minReplicas: needed,
    compression: !row.compressionOff,
    trashBytes: Math.max(trashBytes, 0),
    trashInodes: Math.max(trashInodes, 0),
    trashSeconds: trashSeconds(row),
    trashYields: row.trashYields,
    job: row.move?.inner === realm ? row.move.job : 0,
    sharesRights: row.rightsOf !== 0,
  };
}

export function directoryRow(
  tx: OperationRun,
  from: { realm: RealmId; mode: number; uid: number; gid: number; parent: InodeNumber; name: Buffer },
): InodeRow {
  return {
    realm: from.realm,
    type: InodeType.DIRECTORY,
    mode: from.mode,
    uid: from.uid,
    gid: from.gid,
    links: 2,
    size: 0,
    storedBytes: 0,
    mtime: tx.now,
    ctime: tx.now,
    birth: tx.now,
    rdev: 0,
    version: 1,
    entries: 0,
    nextCookie: FIRST_COOKIE,
    parent: from.parent,
    linkTarget: Buffer.alloc(0),
    xattrs: 0,
    data: 0,
    name: from.name,
    trashed: 0,
    walked: 0,
  };
}
