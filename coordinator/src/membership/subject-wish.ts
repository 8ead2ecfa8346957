/** What somebody is to be allowed (T3a), as it is asked for with a token or for a subject: checked, and realms found by their paths. */
import { CollectiveError } from '@collective/base/errors';
import { ROOT_REALM } from '@collective/base/ids';
import type { TokenRealm } from '@collective/protocol/gen/admin';
import type { SpiffeId } from '@collective/protocol/tls/spiffe-id';
import type { Transaction } from '../engine/transaction.ts';
import { realmAt } from '../ops/realm-settings.ts';
import type { SubjectRow } from '../tables/gen/tables.ts';

const UID_MAX = 0xffff_fffe;

export interface SubjectWish {
  readonly admin: boolean;
  readonly trusted: boolean;
  /** Squashed to this one; unset: one of its own. */
  readonly uid?: number | undefined;
  /** None: the root realm, read and write. */
  readonly realms: readonly TokenRealm[];
}

/** Throws `invalid_argument` for what contradicts itself. `what` is done with it. */
export function checkWish({ uid, trusted }: SubjectWish, what: string): void {
  if (uid !== undefined && (uid < 1 || uid > UID_MAX))
    throw new CollectiveError(
      'invalid_argument',
      `${what} with uid ${uid}: squashed subjects have 1 to ${UID_MAX}; --trusted gives a subject the uids of its own machine`,
    );
  if (uid !== undefined && trusted)
    throw new CollectiveError('invalid_argument', `${what} that is trusted and has a uid: it is one or the other`);
}

/** Throws `not_found` for a path that is no realm. */
export function wishedRow(
  tx: Transaction,
  { uri }: SpiffeId,
  { admin, trusted, uid, realms }: SubjectWish,
): Omit<SubjectRow, 'created'> {
  const given =
    realms.length === 0
      ? [{ realm: ROOT_REALM, readOnly: false }]
      : realms.map(({ path, readOnly }) => ({ realm: realmAt(tx, path).realm, readOnly }));
  return { uri, admin, trusted, uid: uid ?? 0, gid: 0, realms: given };
}
