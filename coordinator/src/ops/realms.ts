/** Realms (M9): the roots of quota, rights and replication. A realm begins as an empty directory; to turn a populated one into a realm is a job. */
import { CollectiveError } from '@collective/base/errors';
import { type InodeNumber, type RealmId, ROOT_INODE, ROOT_REALM } from '@collective/base/ids';
import type { CreateRealmRequest, Realm } from '@collective/protocol/gen/admin';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { Transaction } from '../engine/transaction.ts';
import type { InodeRow, RealmRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { COOKIES, DENTRIES, INODES, nameKey, REALMS } from '../tables/tables.ts';
import { replicaRule } from './chunks.ts';
import { FIRST_COOKIE } from './entries.ts';
import { checkName } from './inode.ts';
import { realmPath, realmPaths } from './realm-path.ts';
import { requireRule } from './realm-settings.ts';
import { storedTrashSeconds, trashSeconds } from './trash.ts';

const REALMS_MAX = 10_000;

/** The root directory and its realm, on the first start of a member. */
export function makeRoot(tx: OperationRun, owner: { uid: number; gid: number }): void {
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
    },
    ROOT_REALM,
  );
  tx.put(
    INODES,
    directoryRow(tx, { realm: ROOT_REALM, mode: 0o755, uid: owner.uid, gid: owner.gid, parent: ROOT_INODE, name: '' }),
    ROOT_INODE,
  );
  tx.addUsage(ROOT_REALM, { inodes: 1, directories: 1 });
}

/** Makes the directory if it is missing; an existing one must be empty. */
export function createRealm(tx: OperationRun, request: CreateRealmRequest): Realm {
  requireRule(request);
  const names = request.path.split('/').filter((part) => part !== '');
  const last = names.pop();
  if (last === undefined) throw new CollectiveError('exists', "Create realm '/': the root realm exists");
  let parent: InodeNumber = ROOT_INODE;
  for (const name of names) parent = childDirectory(tx, parent, Buffer.from(name)) ?? missing(request.path, name);
  const parentRow = tx.get(INODES, parent);
  if (parentRow === undefined) throw new CollectiveError('not_found', `Create realm '${request.path}'`);
  const realm = nextRealm(tx);
  const path = `/${[...names, last].join('/')}`;
  const existing = childDirectory(tx, parent, Buffer.from(last));
  let root: InodeNumber;
  if (existing !== undefined) {
    const row = tx.get(INODES, existing);
    if (row === undefined || row.entries > 0)
      throw new CollectiveError('not_empty', `Create realm '${path}': the directory is not empty`);
    if (tx.get(REALMS, row.realm as RealmId)?.root === existing)
      throw new CollectiveError('exists', `Create realm '${path}': it is the root of a realm already`);
    root = existing;
    tx.put(INODES, { ...row, realm, ctime: tx.now }, root);
    tx.addUsage(row.realm, { inodes: -1, directories: -1 });
  } else {
    root = tx.newInode();
    const key = checkName(Buffer.from(last));
    tx.put(DENTRIES, { inode: root, type: InodeType.DIRECTORY, cookie: parentRow.nextCookie }, parent, key);
    tx.put(COOKIES, { name: Buffer.from(last), inode: root, type: InodeType.DIRECTORY }, parent, parentRow.nextCookie);
    tx.put(
      INODES,
      {
        ...parentRow,
        entries: parentRow.entries + 1,
        links: parentRow.links + 1,
        nextCookie: parentRow.nextCookie + 1,
        mtime: tx.now,
        ctime: tx.now,
      },
      parent,
    );
    const { uid, gid } = parentRow;
    tx.put(INODES, directoryRow(tx, { realm, mode: 0o755, uid, gid, parent, name: last }), root);
  }
  tx.addUsage(realm, { inodes: 1, directories: 1 });
  const row: RealmRow = {
    root,
    path,
    quotaBytes: request.quotaBytes,
    quotaInodes: request.quotaInodes,
    replicas: request.replicas,
    minReplicas: request.minReplicas,
    compressionOff: request.compressionOff,
    trashSeconds: storedTrashSeconds(request.trashSeconds),
    trashYields: request.trashYields,
  };
  tx.put(REALMS, row, realm);
  return realmOnWire(tx, realm, row);
}

export function listRealms(tx: OperationRun): Realm[] {
  const realms = allRealms(tx);
  const paths = realmPaths(
    tx,
    realms.map(({ row }) => row),
  );
  return realms.map(({ realm, row }) => realmOnWire(tx, realm, row, paths.get(row.root)));
}

export function allRealms(tx: Transaction): { realm: RealmId; row: RealmRow }[] {
  return tx
    .scan(REALMS, REALMS.prefix, prefixEnd(REALMS.prefix), REALMS_MAX)
    .map(({ key, value }) => ({ realm: readBigEndian(key, 1, 6) as RealmId, row: value }));
}

export function realmsWithTrash(tx: OperationRun): RealmId[] {
  return allRealms(tx)
    .map(({ realm }) => realm)
    .filter((realm) => tx.usageOf(realm).trashInodes > 0);
}

function nextRealm(tx: OperationRun): RealmId {
  const realms = allRealms(tx);
  if (realms.length >= REALMS_MAX)
    throw new CollectiveError('overloaded', `Create a realm: there are ${REALMS_MAX} already`);
  return ((realms.at(-1)?.realm ?? 0) + 1) as RealmId;
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
  };
}

function childDirectory(tx: OperationRun, parent: InodeNumber, name: Uint8Array): InodeNumber | undefined {
  checkName(name);
  const dentry = tx.get(DENTRIES, parent, nameKey(name));
  if (dentry === undefined) return undefined;
  if (dentry.type !== InodeType.DIRECTORY)
    throw new CollectiveError('not_directory', `Use '${Buffer.from(name)}' as a directory`);
  return dentry.inode as InodeNumber;
}

function missing(path: string, name: string): never {
  throw new CollectiveError('not_found', `Create realm '${path}': there is no directory '${name}'`);
}

function directoryRow(
  tx: OperationRun,
  from: { realm: RealmId; mode: number; uid: number; gid: number; parent: InodeNumber; name: string },
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
    name: Buffer.from(from.name),
    trashed: 0,
  };
}
