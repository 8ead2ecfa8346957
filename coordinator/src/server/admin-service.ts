/** Unary calls for people and tools (M1): checks who may, asks the parts that know, translates nothing but shapes. */
import { CollectiveError } from '@collective/base/errors';
import type {
  AnswerCertificateRequestRequest,
  AnsweredCertificateRequest,
  BackupPiece,
  CertificateRequests,
  CollectGarbageRequest,
  CreatedToken,
  CreateRealmRequest,
  CreateTokenRequest,
  DeleteRealmRequest,
  Events,
  GarbageCollection,
  GarbagePage,
  GarbageStatus,
  GetNodeHoldingRequest,
  Identity,
  IssuedCertificate,
  Job,
  Jobs,
  ListCertificateRequestsRequest,
  ListEventsRequest,
  ListGarbageRequest,
  ListOrphansRequest,
  NodeHolding,
  OrphanPage,
  PutSubjectRequest,
  Realm,
  Realms,
  RebalanceNodesRequest,
  RebalanceStatus,
  RemovedSubject,
  RemoveNodeRequest,
  RemoveSubjectRequest,
  RenewCertificateRequest,
  ReportBackupRequest,
  ReportedBackup,
  ScrubBegun,
  ScrubNodeRequest,
  SetMaintenanceRequest,
  SetNodeDutyRequest,
  SetRealmRequest,
  SettledLosses,
  SettleLossesRequest,
  Status,
  Subjects,
  Maintenance as WireMaintenance,
} from '@collective/protocol/gen/admin';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { Engine } from '../engine/transaction.ts';
import { EVENTS_PAGE_MAX, type EventLog } from '../events/event-log.ts';
import type { Maintenance } from '../jobs/maintenance.ts';
import type { Enrolment } from '../membership/enrolment.ts';
import type { NodeDuties } from '../membership/node-duties.ts';
import type { KeptRequests } from '../membership/signer/kept-requests.ts';
import type { SubjectAdmin } from '../membership/subject-admin.ts';
import { allSubjects, identityOf, requireAdmin, requireKnown, wireIdentity } from '../membership/subjects.ts';
import type { Caller } from '../ops/context.ts';
import { settleLosses } from '../ops/losses.ts';
import { allJobs, jobOnWire } from '../ops/realm-moves.ts';
import { THE_MEMBER } from '../session/realm-rights.ts';
import { SUBJECTS } from '../tables/tables.ts';
import type { GarbageAdmin } from './garbage-admin.ts';
import type { RebalanceAdmin } from './rebalance-admin.ts';

export interface AdminParts {
  readonly engine: Engine;
  readonly enrolment: Enrolment;
  readonly requests: Pick<KeptRequests, 'list' | 'answer'>;
  readonly subjects: Pick<SubjectAdmin, 'put' | 'remove'>;
  status(): Promise<Status>;
  createRealm(request: CreateRealmRequest, caller: Caller): Promise<Realm>;
  /** Answers the number of the job. */
  dissolveRealm(path: string, caller: Caller): Promise<number>;
  setRealm(request: SetRealmRequest): Promise<Realm>;
  listRealms(): Promise<Realm[]>;
  createBackup(signal: AbortSignal): AsyncIterable<Buffer>;
  readonly events: Pick<EventLog, 'page' | 'record'>;
  readonly maintenance: Pick<Maintenance, 'current' | 'change'>;
  readonly duties: Pick<NodeDuties, 'set' | 'holding' | 'roughHolding' | 'remove' | 'scrub'>;
  readonly rebalance: Pick<RebalanceAdmin, 'status' | 'plan' | 'begin'>;
  readonly garbage: Pick<GarbageAdmin, 'status' | 'list' | 'collect' | 'orphans'>;
}

export class AdminService {
  readonly #parts: AdminParts;

  constructor(parts: AdminParts) {
    this.#parts = parts;
  }

  async getStatus(peer: PeerIdentity): Promise<Status> {
    await this.#parts.engine.run((tx) => requireKnown(tx, peer, 'Ask for the status'));
    return await this.#parts.status();
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

  putSubject(request: PutSubjectRequest, peer: PeerIdentity): Promise<Identity> {
    return this.#parts.subjects.put(request, peer);
  }

  removeSubject(request: RemoveSubjectRequest, peer: PeerIdentity): Promise<RemovedSubject> {
    return this.#parts.subjects.remove(request, peer);
  }

  async createRealm(request: CreateRealmRequest, peer: PeerIdentity): Promise<Realm> {
    await this.#parts.engine.run((tx) => requireAdmin(tx, peer, `Create realm '${request.path}'`));
    return await this.#parts.createRealm(request, asMember(peer));
  }

  async setRealm(request: SetRealmRequest, peer: PeerIdentity): Promise<Realm> {
    await this.#parts.engine.run((tx) => requireAdmin(tx, peer, `Change realm '${request.path}'`));
    const realm = await this.#parts.setRealm(request);
    this.#parts.events.record('realm-changed', `The settings of realm ${realm.path} were changed by ${peer.uri}`, {
      path: realm.path,
      by: peer.uri,
    });
    return realm;
  }

  async deleteRealm({ path }: DeleteRealmRequest, peer: PeerIdentity): Promise<Job> {
    await this.#parts.engine.run((tx) => requireAdmin(tx, peer, `Dissolve realm '${path}'`));
    const job = await this.#parts.dissolveRealm(path, asMember(peer));
    const found = (await this.#jobs()).find(({ id }) => id === job);
    if (found === undefined) throw new CollectiveError('internal', `Dissolve realm '${path}': its job is not there`);
    return found;
  }

  async listJobs(peer: PeerIdentity): Promise<Jobs> {
    await this.#parts.engine.run((tx) => requireAdmin(tx, peer, 'List jobs'));
    return { jobs: await this.#jobs() };
  }

  #jobs(): Promise<Job[]> {
    return this.#parts.engine.run((tx) => allJobs({ tx }).map(jobOnWire));
  }

  /** An administrator sees all realms, others those that they were given. */
  async listRealms(peer: PeerIdentity): Promise<Realms> {
    const row = await this.#parts.engine.run((tx) => tx.get(SUBJECTS, peer.uri));
    const realms = await this.#parts.listRealms();
    if (row?.admin || peer.role === 'operator') return { realms };
    const given = new Set(row?.realms.map(({ realm }) => realm));
    return { realms: realms.filter(({ realm }) => given.has(realm)) };
  }

  async setNodeDuty({ name, duty }: SetNodeDutyRequest, peer: PeerIdentity): Promise<NodeHolding> {
    await this.#requireAdmin(peer, `Set the duty of node ${name}`);
    return await this.#parts.duties.set(name, duty, peer.uri);
  }

  async getNodeHolding({ name, rough }: GetNodeHoldingRequest, peer: PeerIdentity): Promise<NodeHolding> {
    await this.#requireAdmin(peer, `Ask what lies on node ${name}`);
    return await (rough ? this.#parts.duties.roughHolding(name) : this.#parts.duties.holding(name));
  }

  async removeNode({ name, force, loseLastCopies }: RemoveNodeRequest, peer: PeerIdentity): Promise<NodeHolding> {
    await this.#requireAdmin(peer, `Remove node ${name}`);
    return await this.#parts.duties.remove(name, { force, loseLastCopies }, peer.uri);
  }

  async scrubNode({ name }: ScrubNodeRequest, peer: PeerIdentity): Promise<ScrubBegun> {
    await this.#requireAdmin(peer, `Scrub node ${name}`);
    // It only begins, so who asks need not be waited for: the order has a time of its own.
    await this.#parts.duties.scrub(name, peer.uri, new AbortController().signal);
    return {};
  }

  async rebalanceNodes({ dryRun }: RebalanceNodesRequest, peer: PeerIdentity): Promise<RebalanceStatus> {
    await this.#requireAdmin(peer, 'Rebalance the nodes');
    return await (dryRun ? this.#parts.rebalance.plan() : this.#parts.rebalance.begin(peer.uri));
  }

  async getRebalance(peer: PeerIdentity): Promise<RebalanceStatus> {
    await this.#requireAdmin(peer, 'Look at the rebalance of the nodes');
    return this.#parts.rebalance.status();
  }

  async listEvents({ before, limit, kind }: ListEventsRequest, peer: PeerIdentity): Promise<Events> {
    await this.#requireAdmin(peer, 'List events');
    const most = Math.min(Math.max(limit, 1), EVENTS_PAGE_MAX);
    const { events, end } = await this.#parts.events.page({ before: before || undefined, limit: most, kind });
    return {
      events: events.map(({ number, details, ...event }) => ({ number, event: { ...event, details: { ...details } } })),
      end,
    };
  }

  async settleLosses({ blocks }: SettleLossesRequest, peer: PeerIdentity): Promise<SettledLosses> {
    const { settled, left } = await this.#parts.engine.run((tx) => {
      requireAdmin(tx, peer, 'Settle what was lost');
      return settleLosses(tx, blocks);
    });
    if (settled > 0)
      this.#parts.events.record('losses-settled', `${peer.uri} has seen to ${settled} blocks that were lost`, {
        by: peer.uri,
        blocks: String(settled),
      });
    return { settled, left };
  }

  async getMaintenance(peer: PeerIdentity): Promise<WireMaintenance> {
    await this.#requireAdmin(peer, 'Look at the maintenance settings');
    return { ...this.#parts.maintenance.current };
  }

  async setMaintenance(request: SetMaintenanceRequest, peer: PeerIdentity): Promise<WireMaintenance> {
    await this.#requireAdmin(peer, 'Change the maintenance settings');
    const change = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
    const settings = await this.#parts.maintenance.change(change);
    this.#parts.events.record('maintenance-set', `${peer.uri} changed how the member looks after itself`, {
      by: peer.uri,
      ...Object.fromEntries(Object.entries(change).map(([name, value]) => [name, String(value)])),
    });
    return { ...settings };
  }

  async getGarbage(peer: PeerIdentity): Promise<GarbageStatus> {
    await this.#requireAdmin(peer, 'Look at the garbage');
    return await this.#parts.garbage.status();
  }

  async listGarbage(request: ListGarbageRequest, peer: PeerIdentity): Promise<GarbagePage> {
    await this.#requireAdmin(peer, 'List garbage');
    return await this.#parts.garbage.list(request);
  }

  async collectGarbage(request: CollectGarbageRequest, peer: PeerIdentity): Promise<GarbageCollection> {
    await this.#requireAdmin(peer, 'Collect garbage');
    return this.#parts.garbage.collect(request);
  }

  async listOrphans(request: ListOrphansRequest, peer: PeerIdentity): Promise<OrphanPage> {
    await this.#requireAdmin(peer, 'List orphans');
    return await this.#parts.garbage.orphans(request);
  }

  /** Holds everything that the coordinator knows, names and rights of all: for administrators. */
  async *createBackup(peer: PeerIdentity, signal: AbortSignal): AsyncGenerator<BackupPiece, void, undefined> {
    await this.#requireAdmin(peer, 'Make a backup');
    for await (const data of this.#parts.createBackup(signal)) yield { data };
  }

  /** Only now is it a backup: what was sent may have found no room, and what was not taken nobody has. */
  async reportBackup({ position }: ReportBackupRequest, peer: PeerIdentity): Promise<ReportedBackup> {
    await this.#requireAdmin(peer, 'Report a backup');
    this.#parts.events.record('backup-made', `${peer.uri} made a backup of the metadata`, {
      by: peer.uri,
      position: String(position),
    });
    return {};
  }

  renewCertificate(
    { csr }: RenewCertificateRequest,
    peer: PeerIdentity,
    signal: AbortSignal,
  ): Promise<IssuedCertificate> {
    return this.#parts.enrolment.renew(peer, csr, signal);
  }

  async listCertificateRequests(
    { after, waitSeconds }: ListCertificateRequestsRequest,
    signal: AbortSignal,
  ): Promise<CertificateRequests> {
    const { requests, mark } = await this.#parts.requests.list({ after, waitMs: waitSeconds * 1_000 }, signal);
    return { requests: [...requests], mark };
  }

  async answerCertificateRequest({ id, answer }: AnswerCertificateRequestRequest): Promise<AnsweredCertificateRequest> {
    if (answer === undefined)
      throw new CollectiveError('invalid_argument', `Answer the request ${id}: there is no certificate and no refusal`);
    const given = answer.$case === 'certificatePem' ? { certificatePem: answer.value } : { refused: answer.value };
    return { wasWaiting: await this.#parts.requests.answer(id, given) };
  }

  #requireAdmin(peer: PeerIdentity, whatFor: string): Promise<void> {
    return this.#parts.engine.run((tx) => requireAdmin(tx, peer, whatFor));
  }
}

/** What an administrator asks of the member as a whole is done with its rights, and told to be asked by them. */
function asMember({ uri }: PeerIdentity): Caller {
  return { ...THE_MEMBER, subject: uri };
}
