/** The settings of a realm while it is in use: what they may be, and changing them. */
import { CollectiveError } from '@collective/base/errors';
import { type InodeNumber, type RealmId, ROOT_INODE } from '@collective/base/ids';
import { REPLICAS_MAX } from '@collective/base/limits';
import type { SetRealmRequest } from '@collective/protocol/gen/admin';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { Transaction } from '../engine/transaction.ts';
import type { RealmRow } from '../tables/gen/tables.ts';
import { DENTRIES, INODES, REALMS } from '../tables/tables.ts';
import { replicaRule } from './chunks.ts';
import { storedTrashSeconds } from './trash.ts';
import { splitPath } from './trash-search.ts';

/** Throws `invalid_argument`. */
export function requireRule({ replicas, minReplicas }: Pick<RealmRow, 'replicas' | 'minReplicas'>): void {
  if (replicas > REPLICAS_MAX)
    throw new CollectiveError(
      'invalid_argument',
      `Give a realm ${replicas} replicas: 1 to ${REPLICAS_MAX} are allowed`,
    );
  const { wanted } = replicaRule({ replicas, minReplicas });
  if (minReplicas > wanted)
    throw new CollectiveError('invalid_argument', `Give a realm ${wanted} replicas of which it needs ${minReplicas}`);
}

/** What is not given stays. Writes wait for a quota that is below what is used; nothing is taken away. */
export function changeRealm(tx: OperationRun, request: SetRealmRequest): { realm: RealmId; row: RealmRow } {
  const { realm, row: before } = realmAt(tx, request.path);
  const row: RealmRow = {
    ...before,
    quotaBytes: request.quotaBytes ?? before.quotaBytes,
    quotaInodes: request.quotaInodes ?? before.quotaInodes,
    replicas: request.replicas ?? before.replicas,
    minReplicas: request.minReplicas ?? before.minReplicas,
    compressionOff: request.compressionOff ?? before.compressionOff,
    trashSeconds: request.trashSeconds === undefined ? before.trashSeconds : storedTrashSeconds(request.trashSeconds),
    trashYields: request.trashYields ?? before.trashYields,
    rightsOf: request.sharesRights === undefined ? before.rightsOf : rightsWith(tx, before, request.sharesRights),
  };
  requireRule(row);
  tx.put(REALMS, row, realm);
  return { realm, row };
}

/** The realm around it, whose rights it is to share; 0: rights of its own. */
function rightsWith(tx: OperationRun, row: RealmRow, shares: boolean): number {
  const root = row.root as InodeNumber;
  if (root === ROOT_INODE) {
    if (shares) throw new CollectiveError('invalid_argument', 'Share the rights of a realm around the root realm');
    return 0;
  }
  const parent = tx.get(INODES, root)?.parent as InodeNumber | undefined;
  return shares && parent !== undefined ? (tx.get(INODES, parent)?.realm ?? 0) : 0;
}

/** The realm whose root has this path. Throws `not_found`. */
export function realmAt(tx: Transaction, path: string): { realm: RealmId; row: RealmRow; root: InodeNumber } {
  const root = directoryAt(tx, path);
  const realm = root === undefined ? undefined : (tx.get(INODES, root)?.realm as RealmId | undefined);
  const row = realm === undefined ? undefined : tx.get(REALMS, realm);
  if (root === undefined || realm === undefined || row?.root !== root)
    throw new CollectiveError(
      'not_found',
      `Find realm '${path}': no realm begins there; 'collective realm list' shows those there are, 'collective realm create' makes one`,
    );
  return { realm, row, root };
}

/** Undefined when there is no directory of that path. */
export function directoryAt(tx: Transaction, path: string): InodeNumber | undefined {
  let at: InodeNumber = ROOT_INODE;
  for (const name of splitPath(path)) {
    const dentry = tx.get(DENTRIES, at, name);
    if (dentry?.type !== InodeType.DIRECTORY) return undefined;
    at = dentry.inode as InodeNumber;
  }
  return at;
}
