/** Making a directory a realm (M9): at once if there is nothing in it, else by a job that moves what lies below (`realm-moves.ts`). */
import { CollectiveError } from '@collective/base/errors';
import { type InodeNumber, type RealmId, ROOT_INODE } from '@collective/base/ids';
import type { CreateRealmRequest } from '@collective/protocol/gen/admin';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { RealmRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { DENTRIES, INODES, type NameKey, nameBytes, REALMS, SUBJECTS, TRASH_NAMES } from '../tables/tables.ts';
import { ATTRIBUTES, type OperationContext } from './context.ts';
import { addEntry } from './entries.ts';
import { childPath } from './path-of.ts';
import { isRealmRoot } from './realm-border.ts';
import { beginToMake } from './realm-moves.ts';
import { requireRule } from './realm-settings.ts';
import { directoryRow, newRealm } from './realms.ts';
import { storedTrashSeconds } from './trash.ts';
import { splitPath } from './trash-search.ts';

export interface MadeRealm {
  readonly realm: RealmId;
  readonly row: RealmRow;
}

/** Makes the directory if it is missing. Throws `exists`, `not_directory`, `not_found`, `busy`. */
export function makeRealm(context: OperationContext, request: CreateRealmRequest): MadeRealm {
  const { tx } = context;
  requireRule(request);
  const names = splitPath(request.path);
  const last = names.pop();
  if (last === undefined) throw new CollectiveError('exists', "Create realm '/': the root realm exists");
  let parent: InodeNumber = ROOT_INODE;
  let path = '/';
  for (const name of names) {
    parent = directoryCalled(tx, parent, name) ?? missing(request.path, name);
    path = childPath(path, nameBytes(name).toString('utf8'));
  }
  path = childPath(path, nameBytes(last).toString('utf8'));
  const realm = newRealm(tx);
  const root = directoryCalled(tx, parent, last) ?? makeDirectory(context, parent, last);
  const before = tx.get(INODES, root);
  const above = tx.get(INODES, parent);
  if (before === undefined || above === undefined)
    throw new CollectiveError('internal', `Create realm '${path}': a directory of that path has no row`);
  if (isRealmRoot(tx, root, before))
    throw new CollectiveError('exists', `Create realm '${path}': it is the root of a realm already`);
  const populated = before.entries > 0 || hasTrash(tx, root);
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
    move: undefined,
    rightsOf: (request.sharesRights ?? populated) ? above.realm : 0,
    mergedInto: 0,
  };
  if (populated) beginToMake(context, root, realm, row, path);
  else {
    tx.put(REALMS, row, realm);
    tx.put(INODES, { ...before, realm, ctime: tx.now }, root);
    tx.addUsage(before.realm, { inodes: -1, directories: -1 });
    tx.addUsage(realm, { inodes: 1, directories: 1 });
    context.changed(root, ATTRIBUTES);
  }
  return { realm, row: tx.get(REALMS, realm) ?? row };
}

function makeDirectory(context: OperationContext, parent: InodeNumber, name: NameKey): InodeNumber {
  const { tx } = context;
  const row = tx.get(INODES, parent);
  if (row === undefined) throw new CollectiveError('internal', `Make a directory in ${parent}: it has no row`);
  const root = tx.newInode();
  const { realm, walked } = row;
  const { uid, gid } = whoAsks(context) ?? row;
  const made = directoryRow(tx, { realm: realm as RealmId, mode: 0o755, uid, gid, parent, name: nameBytes(name) });
  tx.put(INODES, { ...made, walked }, root);
  tx.addUsage(realm, { inodes: 1, directories: 1 });
  const child = { inode: root, type: InodeType.DIRECTORY };
  tx.put(INODES, addEntry(context, { inode: parent, row }, name, child), parent);
  return root;
}

/** As with mkdir, a squashed one's directory is its own (T3a). Undefined for who acts with the uids of a machine: none was told. */
function whoAsks({ tx, caller }: OperationContext): { readonly uid: number; readonly gid: number } | undefined {
  const subject = tx.get(SUBJECTS, caller.subject);
  return subject === undefined || subject.trusted ? undefined : subject;
}

function directoryCalled(tx: OperationRun, parent: InodeNumber, name: NameKey): InodeNumber | undefined {
  const dentry = tx.get(DENTRIES, parent, name);
  if (dentry === undefined) return undefined;
  if (dentry.type !== InodeType.DIRECTORY)
    throw new CollectiveError('not_directory', `Use '${nameBytes(name)}' as a directory`);
  return dentry.inode as InodeNumber;
}

function hasTrash(tx: OperationRun, directory: InodeNumber): boolean {
  const prefix = TRASH_NAMES.key(directory, '', 0).slice(0, -7);
  return tx.scan(TRASH_NAMES, prefix, prefixEnd(prefix), 1).length > 0;
}

function missing(path: string, name: NameKey): never {
  throw new CollectiveError('not_found', `Create realm '${path}': there is no directory '${nameBytes(name)}'`);
}
