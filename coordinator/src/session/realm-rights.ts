/** What the row of a subject allows it (T3a, M9), inside and outside of sessions. */
import { type RealmId, ROOT_REALM, type SessionId } from '@collective/base/ids';
import type { Caller } from '../ops/context.ts';
import type { SubjectRow } from '../tables/gen/tables.ts';

/** Realms within realms that share their rights, from the inmost out. */
const LEVELS_MAX = 100;

/** What is known of realms whose rights count for others; `RealmBook` is one. */
export interface SharedRights {
  sharesRightsWith(realm: RealmId): RealmId | undefined;
}

export function realmRight(
  { realms, admin }: Pick<SubjectRow, 'realms' | 'admin'>,
  realm: RealmId,
  shared: SharedRights,
): 'rw' | 'ro' | undefined {
  let at: RealmId | undefined = realm;
  for (let levels = 0; at !== undefined && levels < LEVELS_MAX; levels++) {
    const granted = realms.find((each) => each.realm === at);
    if (granted !== undefined) return granted.readOnly ? 'ro' : 'rw';
    at = shared.sharesRightsWith(at);
  }
  // An administrator with access to the root realm has access to those made later too.
  if (!admin) return undefined;
  const root = realms.find((each) => each.realm === ROOT_REALM);
  return root === undefined ? undefined : root.readOnly ? 'ro' : 'rw';
}

/** A person who acts without a session. An administrator looks after the files of all; any other has its own uid's rights. */
export function callerOf(row: SubjectRow, shared: SharedRights): Caller {
  const root = row.admin || row.trusted;
  return {
    session: 0 as SessionId,
    subject: row.uri,
    credential: root ? { uid: 0, gid: 0, groups: [] } : { uid: row.uid, gid: row.gid, groups: [] },
    realmRight: (realm) => (row.admin ? 'rw' : realmRight(row, realm, shared)),
    ownsChunk: () => false,
  };
}

/** The member itself, for what it does in the background. */
export const THE_MEMBER: Caller = {
  session: 0 as SessionId,
  subject: '',
  credential: { uid: 0, gid: 0, groups: [] },
  realmRight: () => 'rw',
  ownsChunk: () => false,
};
