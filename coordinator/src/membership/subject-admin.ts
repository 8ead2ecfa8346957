/**
 * Subjects that an administrator writes and removes (T3a): in Kubernetes the operator, from what a Member says of its users.
 * A changed right counts at once: sessions of the subject attach again and come with it. A removed subject's certificate
 * opens nothing any more, although the authority signed it: sessions end, and tokens and kept requests for the name are void.
 */
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import type { Identity, PutSubjectRequest, RemovedSubject, RemoveSubjectRequest } from '@collective/protocol/gen/admin';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import { type SpiffeId, spiffeId } from '@collective/protocol/tls/spiffe-id';
import type { Engine, Transaction } from '../engine/transaction.ts';
import type { EventLog } from '../events/event-log.ts';
import type { SubjectRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { SUBJECTS, TOKENS } from '../tables/tables.ts';
import { TOKENS_MAX } from './enrolment.ts';
import { removeRequestsOf } from './signer/request-rows.ts';
import { checkWish, wishedRow } from './subject-wish.ts';
import { allSubjects, putSubject, requireAdmin, wireIdentity } from './subjects.ts';

export interface SubjectAdminParts {
  readonly engine: Engine;
  readonly trustDomain: TrustDomain;
  readonly events: Pick<EventLog, 'record'>;
  /** Its sessions attach again. */
  rightsChanged(uri: string): void;
  /** Resolves with how many there were, when they have ended. */
  endSessionsOf(uri: string): Promise<number>;
}

export class SubjectAdmin {
  readonly #parts: SubjectAdminParts;

  constructor(parts: SubjectAdminParts) {
    this.#parts = parts;
  }

  /** Safe to repeat. A squashed subject without a wished uid keeps the one that it has. */
  async put(request: PutSubjectRequest, peer: PeerIdentity): Promise<Identity> {
    const { engine, events, rightsChanged } = this.#parts;
    const id = this.#idOf(request, 'Write the subject');
    checkWish(request, `Write the subject ${id.uri}`);
    const { identity, changed } = await engine.run((tx) => {
      requireAdmin(tx, peer, `Write the subject ${id.uri}`);
      const before = tx.get(SUBJECTS, id.uri);
      if (before?.admin && !request.admin) this.#requireAnotherAdmin(tx, id, peer);
      const wanted = wishedRow(tx, id, request);
      if (before !== undefined && isAlike(before, wanted))
        return { identity: wireIdentity(tx, before), changed: false };
      return { identity: wireIdentity(tx, putSubject(tx, wanted)), changed: true };
    });
    if (changed) {
      rightsChanged(id.uri);
      events.record('subject-written', `${peer.uri} wrote what ${id.uri} may do`, { subject: id.uri, by: peer.uri });
    }
    return identity;
  }

  /** Safe to repeat: one that is not there is removed already. */
  async remove(request: RemoveSubjectRequest, peer: PeerIdentity): Promise<RemovedSubject> {
    const { engine, events, endSessionsOf } = this.#parts;
    const id = this.#idOf(request, 'Remove the subject');
    const existed = await engine.run((tx) => {
      requireAdmin(tx, peer, `Remove the subject ${id.uri}`);
      const row = tx.get(SUBJECTS, id.uri);
      if (row?.admin) this.#requireAnotherAdmin(tx, id, peer);
      for (const { key, value } of tx.scan(TOKENS, TOKENS.prefix, prefixEnd(TOKENS.prefix), TOKENS_MAX))
        if (value.uri === id.uri) tx.remove(TOKENS, key.slice(TOKENS.prefix.length));
      removeRequestsOf(tx, id.uri);
      if (row !== undefined) tx.remove(SUBJECTS, id.uri);
      return row !== undefined;
    });
    const sessions = await endSessionsOf(id.uri);
    if (existed) events.record('subject-removed', `${peer.uri} removed ${id.uri}`, { subject: id.uri, by: peer.uri });
    return { existed, sessions };
  }

  /** Somebody must be left who can let others in; the operator always can. */
  #requireAnotherAdmin(tx: Transaction, { uri }: SpiffeId, peer: PeerIdentity): void {
    if (peer.role === 'operator' || allSubjects(tx).some((row) => row.admin && row.uri !== uri)) return;
    throw new CollectiveError('invalid_argument', `Take the administration from ${uri}: nobody else has it`);
  }

  #idOf({ role, name }: { role: string; name: string }, what: string): SpiffeId {
    if (role !== 'user' && role !== 'client')
      throw new CollectiveError('invalid_argument', `${what} ${role}/${name}: subjects are users and clients`);
    return spiffeId(this.#parts.trustDomain, role, name);
  }
}

function isAlike(row: SubjectRow, wanted: Omit<SubjectRow, 'created'>): boolean {
  const rights = (realms: SubjectRow['realms']): string => JSON.stringify(realms.map((r) => [r.realm, r.readOnly]));
  const sameUid = wanted.trusted || wanted.uid === 0 || wanted.uid === row.uid;
  return (
    row.admin === wanted.admin &&
    row.trusted === wanted.trusted &&
    sameUid &&
    rights(row.realms) === rights(wanted.realms)
  );
}
