/** Unary calls for people and tools (M1): checks who may, asks the parts that know, translates nothing but shapes. */
import type {
  BackupPiece,
  CreatedToken,
  CreateRealmRequest,
  CreateTokenRequest,
  Identity,
  IssuedCertificate,
  Realm,
  Realms,
  RenewCertificateRequest,
  Status,
  Subjects,
} from '@collective/protocol/gen/admin';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { Engine } from '../engine/transaction.ts';
import type { Enrolment } from '../membership/enrolment.ts';
import { allSubjects, identityOf, requireAdmin, wireIdentity } from '../membership/subjects.ts';
import { SUBJECTS } from '../tables/tables.ts';

export interface AdminParts {
  readonly engine: Engine;
  readonly enrolment: Enrolment;
  status(): Promise<Status>;
  createRealm(request: CreateRealmRequest): Promise<Realm>;
  listRealms(): Promise<Realm[]>;
  createBackup(signal: AbortSignal): AsyncIterable<Buffer>;
}

export class AdminService {
  readonly #parts: AdminParts;

  constructor(parts: AdminParts) {
    this.#parts = parts;
  }

  getStatus(): Promise<Status> {
    return this.#parts.status();
  }

  whoAmI(peer: PeerIdentity): Promise<Identity> {
    return this.#parts.engine.run((tx) => identityOf(tx, peer));
  }

  createToken(request: CreateTokenRequest, peer: PeerIdentity): Promise<CreatedToken> {
    return this.#parts.enrolment.createToken(request, (tx) => requireAdmin(tx, peer, 'Create a token'));
  }

  listSubjects(peer: PeerIdentity): Promise<Subjects> {
    return this.#parts.engine.run((tx) => {
      requireAdmin(tx, peer, 'List subjects');
      return { subjects: allSubjects(tx).map((row) => wireIdentity(tx, row)) };
    });
  }

  async createRealm(request: CreateRealmRequest, peer: PeerIdentity): Promise<Realm> {
    await this.#parts.engine.run((tx) => requireAdmin(tx, peer, `Create realm '${request.path}'`));
    return await this.#parts.createRealm(request);
  }

  /** An administrator sees all realms, others those that they were given. */
  async listRealms(peer: PeerIdentity): Promise<Realms> {
    const row = await this.#parts.engine.run((tx) => tx.get(SUBJECTS, peer.uri));
    const realms = await this.#parts.listRealms();
    if (row?.admin || peer.role === 'operator') return { realms };
    const given = new Set(row?.realms.map(({ realm }) => realm));
    return { realms: realms.filter(({ realm }) => given.has(realm)) };
  }

  /** Holds everything that the coordinator knows, names and rights of all: for administrators. */
  async *createBackup(peer: PeerIdentity, signal: AbortSignal): AsyncGenerator<BackupPiece, void, undefined> {
    await this.#parts.engine.run((tx) => requireAdmin(tx, peer, 'Make a backup'));
    for await (const data of this.#parts.createBackup(signal)) yield { data };
  }

  renewCertificate({ csr }: RenewCertificateRequest, peer: PeerIdentity): Promise<IssuedCertificate> {
    return this.#parts.enrolment.renew(peer, csr);
  }
}
