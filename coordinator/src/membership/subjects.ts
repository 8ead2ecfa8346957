/**
 * Who is known to the member and what each may do (T3a): a row a subject, written at enrolment. The first user of an
 * embedded member is administrator and trusted; `/operator` administers without access to files and needs no row. Files
 * belong to uids, so a subject keeps its uid when it enrols again.
 */
import { CollectiveError } from '@collective/base/errors';
import { ROOT_REALM } from '@collective/base/ids';
import type { Identity } from '@collective/protocol/gen/admin';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import { memberOf, parseSpiffeId, type SpiffeId } from '@collective/protocol/tls/spiffe-id';
import type { Transaction } from '../engine/transaction.ts';
import { realmPath } from '../ops/realm-path.ts';
import type { SubjectRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { RANGES, REALMS, SUBJECTS } from '../tables/tables.ts';

/** Uids that squashed subjects get: above those of people and of system services. */
const SQUASHED_UID_FIRST = 100_000;
const SQUASHED_UID_LAST = 0x7fff_fffe;
/** Subjects of one member; they are listed in one answer. */
export const SUBJECTS_MAX = 10_000;

/** Writes or rewrites the row of a subject. A squashed one without a uid keeps the one that it has, or gets a new one. */
export function putSubject(tx: Transaction, wanted: Omit<SubjectRow, 'created'>): SubjectRow {
  const known = tx.get(SUBJECTS, wanted.uri);
  const uid = wanted.trusted ? 0 : wanted.uid || (known?.trusted === false && known.uid) || newUid(tx);
  const row: SubjectRow = { ...wanted, uid, gid: wanted.gid || uid, created: known?.created ?? tx.now };
  if (known === undefined && allSubjects(tx).length >= SUBJECTS_MAX)
    throw new CollectiveError('overloaded', `Enrol ${wanted.uri}: this member has ${SUBJECTS_MAX} subjects, its bound`);
  tx.put(SUBJECTS, row, wanted.uri);
  return row;
}

/** An embedded member's first user, whose certificate was made without a token. A row that exists is left as it is. */
export function putFirstUser(tx: Transaction, user: SpiffeId): void {
  if (tx.get(SUBJECTS, user.uri) !== undefined) return;
  putSubject(tx, {
    uri: user.uri,
    admin: true,
    trusted: true,
    uid: 0,
    gid: 0,
    realms: [{ realm: ROOT_REALM, readOnly: false }],
  });
}

export function allSubjects(tx: Transaction): SubjectRow[] {
  return tx.scan(SUBJECTS, SUBJECTS.prefix, prefixEnd(SUBJECTS.prefix), SUBJECTS_MAX).map(({ value }) => value);
}

/** Throws `permission_denied` unless the peer may administer the member. */
export function requireAdmin(tx: Transaction, peer: PeerIdentity, whatFor: string): void {
  if (peer.role === 'operator') return;
  if ((peer.role === 'user' || peer.role === 'client') && tx.get(SUBJECTS, peer.uri)?.admin) return;
  throw new CollectiveError('permission_denied', `${whatFor} as ${peer.uri}: only an administrator of the member may`);
}

/** Throws `permission_denied` for a person or program that the member does not know, or not any more: a signature alone opens nothing. */
export function requireKnown(tx: Transaction, peer: PeerIdentity, whatFor: string): void {
  if (peer.role !== 'user' && peer.role !== 'client') return;
  if (tx.get(SUBJECTS, peer.uri) === undefined)
    throw new CollectiveError(
      'permission_denied',
      `${whatFor} as ${peer.uri}: this member does not know that identity; enrol it with a token`,
    );
}

/** What a peer is told about itself; a peer without a row has no rights of its own. */
export function identityOf(tx: Transaction, peer: Pick<PeerIdentity, 'uri' | 'role'>): Identity {
  const row = tx.get(SUBJECTS, peer.uri);
  return wireIdentity(
    tx,
    row ?? {
      uri: peer.uri,
      admin: peer.role === 'operator',
      trusted: false,
      uid: 0,
      gid: 0,
      realms: [],
      created: undefined,
    },
  );
}

export function wireIdentity(tx: Transaction, row: SubjectRow): Identity {
  const { role, name, trustDomain } = parseSpiffeId(row.uri);
  return {
    subject: row.uri,
    role,
    name,
    admin: row.admin,
    trusted: row.trusted,
    uid: row.uid,
    gid: row.gid,
    realms: row.realms.map(({ realm, readOnly }) => {
      const found = tx.get(REALMS, realm as typeof ROOT_REALM);
      return { realm, readOnly, path: found === undefined ? '' : realmPath(tx, found) };
    }),
    member: memberOf(trustDomain),
    trustDomain,
  };
}

/** Never given twice: a uid's files outlive its subject. */
function newUid(tx: Transaction): number {
  const uid = Math.max(SQUASHED_UID_FIRST, tx.get(RANGES, 'uid')?.reservedTo ?? 0);
  if (uid > SQUASHED_UID_LAST) throw new CollectiveError('overloaded', 'Give a subject a uid of its own: all are used');
  tx.put(RANGES, { reservedTo: uid + 1 }, 'uid');
  return uid;
}
