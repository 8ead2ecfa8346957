/** Administration: unary calls for people and tools (M1). Translates the wire's shapes into those of the public API. */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { chunkIdFromBytes } from '@collective/base/ids';
import { fromServiceError } from '@collective/protocol/errors/grpc-status';
import {
  type AdminClient,
  type BackupPiece,
  type Realms,
  ReplicationHealth,
  SetMaintenanceRequest,
  SetRealmRequest,
  type Subjects,
  type GarbageCollection as WireCollection,
  type Events as WireEvents,
  GarbageStatus as WireGarbage,
  type GarbagePage as WireGarbagePage,
  type NodeHolding as WireHolding,
  type Identity as WireIdentity,
  type Job as WireJob,
  type Jobs as WireJobs,
  type NodeStatus as WireNode,
  type OrphanPage as WireOrphanPage,
  type Realm as WireRealm,
  type RebalanceStatus as WireRebalance,
  type Status as WireStatus,
  TrustStatus as WireTrust,
} from '@collective/protocol/gen/admin';
import { NodeState } from '@collective/protocol/gen/common';
import { RENEW_WITHIN_MS } from '@collective/protocol/tls/request-renewal';
import { untilSigned } from '@collective/protocol/tls/until-signed';
import type { ClientUnaryCall, ServiceError } from '@grpc/grpc-js';
import type {
  Admin,
  CallOptions,
  CreatedToken,
  EventPage,
  EventQuery,
  GarbageChunk,
  GarbageStatus,
  Identity,
  IssuedCertificate,
  Job,
  MaintenanceSettings,
  MemberStatus,
  NodeDuty,
  NodeHealth,
  NodeHolding,
  NodeStatus,
  OrphanChunk,
  Realm,
  RealmChange,
  RealmRequest,
  RebalanceStatus,
  TokenRequest,
} from './api.ts';
import { MemberCertificateRequests } from './certificate-requests.ts';
import type { CertificateRequests } from './certificate-requests-api.ts';
import type { RemovedSubject, SubjectName, SubjectWish } from './subject-api.ts';
import { MemberTrash } from './trash.ts';
import type { Trash } from './trash-api.ts';
import { type JobWait, waitForJob } from './wait-for-job.ts';

export const ADMIN_CALL_WITHIN_MS = 15_000;
/** The coordinator looks at every chunk: some seconds a million. */
const WALK_WITHIN_MS = 300_000;
/** How often it is asked whether a collection is done. */
const COLLECTION_LOOK_MS = 300;
/** How often it is asked how far a scrub is: nodes report every two seconds. */
const SCRUB_LOOK_MS = 500;
const SCRUB_TOLD_WITHIN_MS = 10_000;

const NODE_STATES: Readonly<Record<number, NodeHealth>> = {
  [NodeState.READY]: 'ready',
  [NodeState.AWAY]: 'away',
  [NodeState.FULL]: 'full',
};

export interface AdminPorts {
  readonly clock: Clock;
  /** Asked for each call: it is another one after the identity has changed. */
  readonly client: () => AdminClient;
  /** May replace the error of a failed call by a better one. */
  readonly explain?: Explain;
  /** Of calls that need no long work; default 15 s. */
  readonly callWithinMs?: number;
}

export class MemberAdmin implements Admin {
  readonly #ports: AdminPorts;
  readonly trash: Trash;
  readonly certificateRequests: CertificateRequests;

  constructor(ports: AdminPorts) {
    this.#ports = ports;
    this.trash = new MemberTrash(ports.client, (what, options, begin) => this.#call(what, options, begin));
    this.certificateRequests = new MemberCertificateRequests(ports.client, (what, options, begin) =>
      this.#call(what, options, begin),
    );
  }

  async status(options: CallOptions = {}): Promise<MemberStatus> {
    return statusOf(await this.#call('Ask for the status', options, (done) => this.#client.getStatus({}, done)));
  }

  async nodes(options: CallOptions = {}): Promise<readonly NodeStatus[]> {
    return (await this.status(options)).nodes;
  }

  async whoAmI(options: CallOptions = {}): Promise<Identity> {
    return identityOf(await this.#call('Ask who I am', options, (done) => this.#client.whoAmI({}, done)));
  }

  async createToken(request: TokenRequest, options: CallOptions = {}): Promise<CreatedToken> {
    const wire = {
      role: request.role,
      name: request.name,
      ttlSeconds: request.ttlSeconds,
      admin: request.admin ?? false,
      realms: (request.realms ?? []).map(({ path, readOnly }) => ({ path, readOnly: readOnly ?? false })),
      uid: request.uid,
      trusted: request.trusted ?? false,
    };
    const what = `Create a token for ${request.role}/${request.name}`;
    return await this.#call(what, options, (done) => this.#client.createToken(wire, done));
  }

  async subjects(options: CallOptions = {}): Promise<readonly Identity[]> {
    const { subjects } = await this.#call('List subjects', options, (done: Done<Subjects>) =>
      this.#client.listSubjects({}, done),
    );
    return subjects.map(identityOf);
  }

  async putSubject(wish: SubjectWish, options: CallOptions = {}): Promise<Identity> {
    const { role, name, admin = false, trusted = false, uid, realms = [] } = wish;
    const given = realms.map(({ path, readOnly = false }) => ({ path, readOnly }));
    const wire = { role, name, admin, trusted, uid, realms: given };
    const what = `Write the subject ${role}/${name}`;
    return identityOf(await this.#call(what, options, (done) => this.#client.putSubject(wire, done)));
  }

  async removeSubject({ role, name }: SubjectName, options: CallOptions = {}): Promise<RemovedSubject> {
    const what = `Remove the subject ${role}/${name}`;
    return await this.#call(what, options, (done) => this.#client.removeSubject({ role, name }, done));
  }

  async createRealm(request: RealmRequest, options: CallOptions = {}): Promise<Realm> {
    const wire = {
      path: request.path,
      quotaBytes: request.quotaBytes ?? 0,
      quotaInodes: request.quotaInodes ?? 0,
      replicas: request.replicas ?? 0,
      minReplicas: request.minReplicas ?? 0,
      compressionOff: request.compression === false,
      trashSeconds: request.trashSeconds,
      trashYields: request.trashYields ?? false,
      sharesRights: request.sharesRights,
    };
    const what = `Create realm ${request.path}`;
    return realmOf(await this.#call(what, options, (done) => this.#client.createRealm(wire, done)));
  }

  async setRealm(path: string, change: RealmChange, options: CallOptions = {}): Promise<Realm> {
    const { compression, ...same } = change;
    const wire = SetRealmRequest.fromPartial({
      ...same,
      path,
      compressionOff: compression === undefined ? undefined : !compression,
    });
    return realmOf(await this.#call(`Change realm ${path}`, options, (done) => this.#client.setRealm(wire, done)));
  }

  async realms(options: CallOptions = {}): Promise<readonly Realm[]> {
    const { realms } = await this.#call('List realms', options, (done: Done<Realms>) =>
      this.#client.listRealms({}, done),
    );
    return realms.map(realmOf);
  }

  async dissolveRealm(path: string, options: CallOptions = {}): Promise<Job> {
    const what = `Dissolve realm ${path}`;
    return jobOf(await this.#call(what, options, (done: Done<WireJob>) => this.#client.deleteRealm({ path }, done)));
  }

  async jobs(options: CallOptions = {}): Promise<readonly Job[]> {
    const { jobs } = await this.#call('List jobs', options, (done: Done<WireJobs>) => this.#client.listJobs({}, done));
    return jobs.map(jobOf);
  }

  async waitForJob(id: number, options: JobWait = {}): Promise<Job> {
    const { signal } = options;
    return await waitForJob(this.#clock, () => this.jobs({ signal }), id, options);
  }

  async setNodeDuty(name: string, duty: NodeDuty, options: CallOptions = {}): Promise<NodeHolding> {
    const what = `Set the duty of node ${name}`;
    const walk = { ...options, withinMs: WALK_WITHIN_MS };
    return holdingOf(await this.#call(what, walk, (done) => this.#client.setNodeDuty({ name, duty }, done)));
  }

  async nodeHolding(
    name: string,
    { rough = false, ...options }: CallOptions & { rough?: boolean } = {},
  ): Promise<NodeHolding> {
    const what = `Ask what lies on node ${name}`;
    const walk = { ...options, withinMs: WALK_WITHIN_MS };
    return holdingOf(await this.#call(what, walk, (done) => this.#client.getNodeHolding({ name, rough }, done)));
  }

  async removeNode(
    name: string,
    {
      force = false,
      loseLastCopies = false,
      ...options
    }: CallOptions & { force?: boolean; loseLastCopies?: boolean } = {},
  ): Promise<NodeHolding> {
    const walk = { ...options, withinMs: WALK_WITHIN_MS };
    const request = { name, force, loseLastCopies };
    return holdingOf(await this.#call(`Remove node ${name}`, walk, (done) => this.#client.removeNode(request, done)));
  }

  async scrubNode(
    name: string,
    {
      wait = false,
      onProgress,
      ...options
    }: CallOptions & { wait?: boolean; onProgress?: (node: NodeStatus) => void } = {},
  ): Promise<NodeStatus> {
    const what = `Scrub node ${name}`;
    const before = beganMs(await this.#node(name, what, options));
    await this.#call(what, options, (done) => this.#client.scrubNode({ name }, done));
    const toldMs = this.#clock.bootMs();
    for (;;) {
      const node = await this.#node(name, what, options);
      onProgress?.(node);
      // The node's own clock, which somebody may have set back.
      const isTold = beganMs(node) !== before;
      if (isTold && (!wait || node.scrub?.passBegan === undefined)) return node;
      const isLate = !isTold && this.#clock.bootMs() - toldMs > SCRUB_TOLD_WITHIN_MS;
      if (isLate && !wait) return node;
      if (isLate) throw new CollectiveError('deadline_exceeded', `${what}: it has not reported that it began`);
      if (node.state === 'away')
        throw new CollectiveError('unavailable', `${what}: it is away; a pass goes on where it was when it is back`);
      await sleep(this.#clock, SCRUB_LOOK_MS, options.signal);
    }
  }

  async rebalance(options: CallOptions = {}): Promise<RebalanceStatus> {
    return rebalanceOf(await this.#rebalance(options));
  }

  async rebalanceNodes({
    wait = false,
    dryRun = false,
    onProgress,
    ...options
  }: Parameters<Admin['rebalanceNodes']>[0] = {}): Promise<RebalanceStatus> {
    const what = 'Rebalance the nodes';
    const walk = { ...options, withinMs: WALK_WITHIN_MS };
    const begun = await this.#call(what, walk, (done: Done<WireRebalance>) =>
      this.#client.rebalanceNodes({ dryRun }, done),
    );
    if (dryRun || !wait) return rebalanceOf(begun);
    for (;;) {
      await sleep(this.#clock, COLLECTION_LOOK_MS, options.signal);
      const status = await this.#rebalance(options);
      if (status.epoch?.generation !== begun.epoch?.generation || status.epoch?.start !== begun.epoch?.start)
        throw new CollectiveError('unavailable', `${what}: the coordinator was started anew meanwhile; ask again`);
      onProgress?.(rebalanceOf(status));
      if (status.finished >= begun.asked) return rebalanceOf(status);
    }
  }

  #rebalance(options: CallOptions): Promise<WireRebalance> {
    return this.#call('Ask for the rebalance', options, (done) => this.#client.getRebalance({}, done));
  }

  async #node(name: string, what: string, options: CallOptions): Promise<NodeStatus> {
    const node = (await this.nodes(options)).find((each) => each.name === name);
    if (node === undefined) throw new CollectiveError('not_found', `${what}: no node of that name has registered`);
    return node;
  }

  async events({ before = 0, limit = 100, kind = '' }: EventQuery = {}, options: CallOptions = {}): Promise<EventPage> {
    const { events, end } = await this.#call('List events', options, (done: Done<WireEvents>) =>
      this.#client.listEvents({ before, limit, kind }, done),
    );
    return { events: events.flatMap(({ number, event }) => (event === undefined ? [] : [{ ...event, number }])), end };
  }

  async maintenance(options: CallOptions = {}): Promise<MaintenanceSettings> {
    return await this.#call('Ask for the maintenance settings', options, (done) =>
      this.#client.getMaintenance({}, done),
    );
  }

  async setMaintenance(change: Partial<MaintenanceSettings>, options: CallOptions = {}): Promise<MaintenanceSettings> {
    return await this.#call('Change the maintenance settings', options, (done) =>
      this.#client.setMaintenance(SetMaintenanceRequest.fromPartial(change), done),
    );
  }

  async garbage(options: CallOptions = {}): Promise<GarbageStatus> {
    return garbageOf(await this.#garbage(options));
  }

  async *dueGarbage(
    { graceSeconds }: { readonly graceSeconds?: number } = {},
    options: CallOptions = {},
  ): AsyncGenerator<GarbageChunk, void, undefined> {
    for (let after: Buffer = Buffer.alloc(0); ; ) {
      const page = await this.#call('List garbage', options, (done: Done<WireGarbagePage>) =>
        this.#client.listGarbage({ graceSeconds, after }, done),
      );
      yield* page.garbage.map((each) => ({ ...each, chunk: chunkIdFromBytes(each.chunk) }));
      if (page.next.length === 0) return;
      after = page.next;
    }
  }

  async collectGarbage(
    { graceSeconds, wait = false, onProgress }: Parameters<Admin['collectGarbage']>[0] = {},
    options: CallOptions = {},
  ): Promise<GarbageStatus> {
    const what = 'Collect garbage';
    const { number, epoch } = await this.#call(what, options, (done: Done<WireCollection>) =>
      this.#client.collectGarbage({ graceSeconds }, done),
    );
    for (;;) {
      const status = await this.#garbage(options);
      if (status.epoch?.generation !== epoch?.generation || status.epoch?.start !== epoch?.start)
        throw new CollectiveError('unavailable', `${what}: the coordinator was started anew meanwhile; ask again`);
      if (!wait || status.finished >= number) return garbageOf(status);
      onProgress?.(garbageOf(status));
      await sleep(this.#clock, COLLECTION_LOOK_MS, options.signal);
    }
  }

  async *orphans(options: CallOptions = {}): AsyncGenerator<OrphanChunk, void, undefined> {
    for (let after: Buffer = Buffer.alloc(0); ; ) {
      const page = await this.#call('List orphans', options, (done: Done<WireOrphanPage>) =>
        this.#client.listOrphans({ after }, done),
      );
      yield* page.orphans.map((each) => ({ ...each, chunk: chunkIdFromBytes(each.chunk) }));
      if (page.next.length === 0) return;
      after = page.next;
    }
  }

  #garbage(options: CallOptions): Promise<WireGarbage> {
    return this.#call('Ask for the garbage', options, (done) => this.#client.getGarbage({}, done));
  }

  async *backup({ signal }: CallOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const what = 'Make a backup';
    signal?.throwIfAborted();
    const call = this.#client.createBackup({});
    const onAbort = (): void => call.cancel();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const { data } of call as AsyncIterable<BackupPiece>) yield data;
    } catch (thrown) {
      signal?.throwIfAborted();
      throw await (this.#ports.explain ?? unexplained)(Promise.reject(fromServiceError(thrown, what))).catch(
        (error: unknown) => error,
      );
    } finally {
      signal?.removeEventListener('abort', onAbort);
      call.cancel();
    }
  }

  async settleLosses(
    { blocks }: { readonly blocks: number },
    options: CallOptions = {},
  ): Promise<{ readonly settled: number; readonly left: number }> {
    return await this.#call('Settle what was lost', options, (done) => this.#client.settleLosses({ blocks }, done));
  }

  async reportBackup({ position }: { readonly position: number }, options: CallOptions = {}): Promise<void> {
    await this.#call('Report a backup', options, (done) => this.#client.reportBackup({ position }, done));
  }

  /** At 2/3 of its life a peer renews over its own certificate (T3). */
  async renewCertificate(csr: Uint8Array, options: CallOptions = {}): Promise<IssuedCertificate> {
    const ask = (): Promise<IssuedCertificate> =>
      this.#call('Renew the certificate', options, (done) =>
        this.#client.renewCertificate({ csr: Buffer.from(csr) }, done),
      );
    return await untilSigned(ask, { clock: this.#clock, withinMs: RENEW_WITHIN_MS, signal: options.signal });
  }

  get #client(): AdminClient {
    return this.#ports.client();
  }

  get #clock(): Clock {
    return this.#ports.clock;
  }

  #call<T>(what: string, options: CallOptions & { withinMs?: number }, begin: Begin<T>): Promise<T> {
    const { clock, explain = unexplained, callWithinMs = ADMIN_CALL_WITHIN_MS } = this.#ports;
    return explain(unaryCall(clock, what, options.signal, begin, options.withinMs ?? callWithinMs));
  }
}

export type Done<T> = (error: ServiceError | null, answer: T) => void;
export type Explain = <T>(attempt: Promise<T>) => Promise<T>;

function unexplained<T>(attempt: Promise<T>): Promise<T> {
  return attempt;
}

export type Begin<T> = (done: Done<T>) => ClientUnaryCall;

/** One unary call with a deadline; an abort cancels it. */
export async function unaryCall<T>(
  clock: Clock,
  what: string,
  signal: AbortSignal | undefined,
  begin: Begin<T>,
  withinMs = ADMIN_CALL_WITHIN_MS,
): Promise<T> {
  signal?.throwIfAborted();
  const stop = new AbortController();
  let call: ClientUnaryCall | undefined;
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  try {
    const answer = new Promise<T>((resolve, reject) => {
      call = begin((error, value) => (error === null ? resolve(value) : reject(fromServiceError(error, what))));
    });
    const tooLate = sleep(clock, withinMs, either).then(() => {
      throw new CollectiveError('deadline_exceeded', `${what}: no answer within ${withinMs} ms`);
    });
    return await Promise.race([answer, tooLate]);
  } finally {
    stop.abort();
    call?.cancel();
  }
}

function statusOf(wire: WireStatus): MemberStatus {
  return {
    ...wire,
    epoch: wire.epoch ?? { generation: 0, start: 0 },
    nodes: wire.nodes.map(nodeOf),
    replication: wire.replication ?? ReplicationHealth.fromPartial({}),
    garbage: garbageOf(wire.garbage ?? WireGarbage.fromPartial({})),
    trust: wire.trust ?? WireTrust.fromPartial({}),
  };
}

/** Of the newest pass that is known of a node; 0: none. */
function beganMs({ scrub }: NodeStatus): number {
  const { seconds = 0, nanos = 0 } = scrub?.passBegan ?? scrub?.lastBegan ?? {};
  return seconds * 1000 + nanos / 1e6;
}

function holdingOf(wire: WireHolding): NodeHolding {
  return { ...wire, state: NODE_STATES[wire.state] ?? 'unknown' };
}

function nodeOf(wire: WireNode): NodeStatus {
  return { ...wire, state: NODE_STATES[wire.state] ?? 'unknown' };
}

function garbageOf({ epoch: _epoch, asked: _asked, finished: _finished, ...status }: WireGarbage): GarbageStatus {
  return status;
}

function rebalanceOf({ epoch: _epoch, asked: _asked, finished: _finished, ...status }: WireRebalance): RebalanceStatus {
  return status;
}

function identityOf(wire: WireIdentity): Identity {
  return wire;
}

function realmOf(wire: WireRealm): Realm {
  return wire;
}

function jobOf({ kind, state, ...same }: WireJob): Job {
  return { ...same, kind: kind as Job['kind'], state: state as Job['state'] };
}
