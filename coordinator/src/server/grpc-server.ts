/**
 * The coordinator's one port: identifies who calls, checks the role, and hands streams and requests to those who serve them.
 * No rules of the file system live here. A call without a verified certificate of this member gets no further, with one
 * exception: `Enrol` (T3).
 *
 * Two gRPC servers offer the same services behind one `FrontDoor`: one for peers, one with small bounds for strangers.
 */
import { once } from 'node:events';
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import { toServiceError, toStatus } from '@collective/protocol/errors/grpc-status';
import {
  AdminService as AdminDefinition,
  type AdminServer,
  EnrolmentService as EnrolmentDefinition,
  type EnrolmentServer,
} from '@collective/protocol/gen/admin';
import {
  type CoordinatorMessage,
  type MembershipServer,
  MembershipService,
  type NodeMessage,
} from '@collective/protocol/gen/node';
import {
  type ClientMessage,
  type FilesServer,
  FilesService,
  type ServerMessage,
} from '@collective/protocol/gen/session';
import { serverLink } from '@collective/protocol/link/grpc-link';
import type { Link } from '@collective/protocol/link/link';
import { guardConnection } from '@collective/protocol/tls/connection-guard';
import { callPeer, serverOptions, strangerOptions } from '@collective/protocol/tls/grpc-credentials';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { Trust } from '@collective/protocol/tls/trust-files';
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js';
import type { Enrolment } from '../membership/enrolment.ts';
import type { AdminService } from './admin-service.ts';
import { CallRate } from './call-rate.ts';
import { FrontDoor } from './front-door.ts';
import { checkRole, type Method } from './method-roles.ts';
import type { TrashService } from './trash-service.ts';

/** Calls under way at the end have so long, then connections are cut. */
const SHUTDOWN_WITHIN_MS = 2_000;
/** Of peers whose root was dropped: calls under way end within this time. */
const DROPPED_ROOT_WITHIN_MS = 5_000;
/** Who asked for a long answer takes each piece of it within so long. */
const TAKEN_WITHIN_MS = 60_000;
/** Calls of one network without a certificate. Nodes of a cluster that enrol together may share an address. */
export const STRANGER_CALLS_BURST = 50;
const STRANGER_CALLS_PER_SECOND = 5;
const STRANGER_NETWORKS_MAX = 1_024;

type ConnectionInjector = ReturnType<Server['createConnectionInjector']>;

export interface GrpcServerParts {
  readonly trust: Trust;
  readonly clock: Clock;
  readonly log: Log;
  readonly admin: AdminService;
  readonly trash: TrashService;
  readonly enrolment: Enrolment;
  /** Connections without a certificate at a time. */
  readonly strangersMax?: number;
  /** Serves a session stream until it ends. */
  acceptSession(link: Link<ServerMessage, ClientMessage>, peer: PeerIdentity): Promise<void>;
  /** Serves a node's link until it ends or the signal is aborted. */
  acceptNode(link: Link<CoordinatorMessage, NodeMessage>, peer: PeerIdentity, signal: AbortSignal): Promise<void>;
}

export class GrpcServer implements AsyncDisposable {
  readonly #parts: GrpcServerParts;
  readonly #peers: Server;
  readonly #strangers: Server;
  readonly #stopping = new AbortController();
  readonly #streams = new Set<Promise<void>>();
  readonly #waysIn = new Map<string, ConnectionInjector>();
  readonly #stopFollowing: () => void;
  #door: FrontDoor | undefined;

  /** Throws `address_in_use`. Port 0 takes a free one. */
  static async listen(parts: GrpcServerParts, { host, port }: { host: string; port: number }): Promise<GrpcServer> {
    const server = new GrpcServer(parts);
    await server.#listen(host, port);
    return server;
  }

  private constructor(parts: GrpcServerParts) {
    this.#parts = parts;
    this.#peers = new Server(serverOptions());
    this.#strangers = new Server({ ...strangerOptions(), interceptors: [refuseTooMany(parts.clock)] });
    this.#offerServices(this.#peers);
    this.#offerServices(this.#strangers);
    this.#stopFollowing = parts.trust.onChange(({ roots }) =>
      this.#drainDropped(new Set(roots.map(({ fingerprint256 }) => fingerprint256))),
    );
  }

  #offerServices(server: Server): void {
    const { admin, trash, enrolment, acceptSession, acceptNode } = this.#parts;
    server.addService(FilesService, {
      session: (call) => this.#stream('Files/Session', call, acceptSession),
    } satisfies FilesServer);
    server.addService(MembershipService, {
      link: (call) => this.#stream('Membership/Link', call, acceptNode),
    } satisfies MembershipServer);
    server.addService(AdminDefinition, {
      getStatus: this.#unary('Admin/GetStatus', (_request, peer) => admin.getStatus(peer)),
      whoAmI: this.#unary('Admin/WhoAmI', (_request, peer) => admin.whoAmI(peer)),
      createToken: this.#unary('Admin/CreateToken', (request, peer) => admin.createToken(request, peer)),
      listSubjects: this.#unary('Admin/ListSubjects', (_request, peer) => admin.listSubjects(peer)),
      putSubject: this.#unary('Admin/PutSubject', (request, peer) => admin.putSubject(request, peer)),
      removeSubject: this.#unary('Admin/RemoveSubject', (request, peer) => admin.removeSubject(request, peer)),
      createRealm: this.#unary('Admin/CreateRealm', (request, peer) => admin.createRealm(request, peer)),
      setRealm: this.#unary('Admin/SetRealm', (request, peer) => admin.setRealm(request, peer)),
      deleteRealm: this.#unary('Admin/DeleteRealm', (request, peer) => admin.deleteRealm(request, peer)),
      listJobs: this.#unary('Admin/ListJobs', (_request, peer) => admin.listJobs(peer)),
      listRealms: this.#unary('Admin/ListRealms', (_request, peer) => admin.listRealms(peer)),
      setNodeDuty: this.#unary('Admin/SetNodeDuty', (request, peer) => admin.setNodeDuty(request, peer)),
      getNodeHolding: this.#unary('Admin/GetNodeHolding', (request, peer) => admin.getNodeHolding(request, peer)),
      removeNode: this.#unary('Admin/RemoveNode', (request, peer) => admin.removeNode(request, peer)),
      scrubNode: this.#unary('Admin/ScrubNode', (request, peer) => admin.scrubNode(request, peer)),
      rebalanceNodes: this.#unary('Admin/RebalanceNodes', (request, peer) => admin.rebalanceNodes(request, peer)),
      getRebalance: this.#unary('Admin/GetRebalance', (_request, peer) => admin.getRebalance(peer)),
      listEvents: this.#unary('Admin/ListEvents', (request, peer) => admin.listEvents(request, peer)),
      settleLosses: this.#unary('Admin/SettleLosses', (request, peer) => admin.settleLosses(request, peer)),
      getMaintenance: this.#unary('Admin/GetMaintenance', (_request, peer) => admin.getMaintenance(peer)),
      setMaintenance: this.#unary('Admin/SetMaintenance', (request, peer) => admin.setMaintenance(request, peer)),
      getGarbage: this.#unary('Admin/GetGarbage', (_request, peer) => admin.getGarbage(peer)),
      listGarbage: this.#unary('Admin/ListGarbage', (request, peer) => admin.listGarbage(request, peer)),
      collectGarbage: this.#unary('Admin/CollectGarbage', (request, peer) => admin.collectGarbage(request, peer)),
      listOrphans: this.#unary('Admin/ListOrphans', (request, peer) => admin.listOrphans(request, peer)),
      createBackup: (call) =>
        void this.#pieces('Admin/CreateBackup', call, (_request, peer, signal) => admin.createBackup(peer, signal)),
      reportBackup: this.#unary('Admin/ReportBackup', (request, peer) => admin.reportBackup(request, peer)),
      listTrash: this.#unary('Admin/ListTrash', (request, peer) => trash.list(request, peer)),
      restoreTrash: this.#unary('Admin/RestoreTrash', (request, peer) => trash.restore(request, peer)),
      emptyTrash: this.#unary('Admin/EmptyTrash', (request, peer) => trash.empty(request, peer)),
      renewCertificate: this.#unary('Admin/RenewCertificate', (request, peer, signal) =>
        admin.renewCertificate(request, peer, signal),
      ),
      listCertificateRequests: this.#unary('Admin/ListCertificateRequests', (request, _peer, signal) =>
        admin.listCertificateRequests(request, signal),
      ),
      answerCertificateRequest: this.#unary('Admin/AnswerCertificateRequest', (request) =>
        admin.answerCertificateRequest(request),
      ),
    } satisfies AdminServer);
    server.addService(EnrolmentDefinition, {
      // The one call without a peer: the token says who it is.
      enrol: (call, callback) =>
        void this.#answer('Enrolment/Enrol', callback, () =>
          enrolment.enrol(call.request.token, call.request.csr, this.#wanted('Enrolment/Enrol', call)),
        ),
    } satisfies EnrolmentServer);
  }

  get port(): number {
    return this.#door?.port ?? 0;
  }

  get connectionsByRoot(): { root: string; count: number }[] {
    return this.#door?.connectionsByRoot ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopFollowing();
    this.#stopping.abort(new CollectiveError('shutting_down', 'Serve calls: the coordinator is stopping'));
    const ended = Promise.all([this.#door?.close(), shutDown(this.#peers), shutDown(this.#strangers)]);
    const late = Promise.withResolvers<void>();
    const timer = this.#parts.clock.setTimer(SHUTDOWN_WITHIN_MS, () => late.resolve());
    await Promise.race([ended, late.promise]);
    timer.cancel();
    this.#peers.forceShutdown();
    this.#strangers.forceShutdown();
    await this.#door?.[Symbol.asyncDispose]();
    await Promise.allSettled(this.#streams);
  }

  async #listen(host: string, port: number): Promise<void> {
    const { trust, log, strangersMax } = this.#parts;
    // TLS ends at the door: what comes behind it has been deciphered.
    const strangers = this.#strangers.createConnectionInjector(ServerCredentials.createInsecure());
    try {
      this.#door = await FrontDoor.open({
        trust,
        log,
        host,
        port,
        strangersMax,
        peer: (socket, root) => this.#wayIn(root).injectConnection(socket),
        stranger: (socket) => strangers.injectConnection(socket),
      });
    } catch (error) {
      this.#peers.forceShutdown();
      this.#strangers.forceShutdown();
      throw error;
    }
  }

  /** Peers come in by the root of their leaf: when it is dropped, their connections end in order, unary calls and all (T6). */
  #wayIn(root: string): ConnectionInjector {
    const known = this.#waysIn.get(root);
    if (known !== undefined) return known;
    const way = this.#peers.createConnectionInjector(ServerCredentials.createInsecure());
    this.#waysIn.set(root, way);
    return way;
  }

  #drainDropped(roots: ReadonlySet<string>): void {
    for (const [root, way] of this.#waysIn) {
      if (roots.has(root)) continue;
      this.#waysIn.delete(root);
      way.drain(DROPPED_ROOT_WITHIN_MS);
    }
  }

  #unary<Request, Response>(
    method: Method,
    serve: (request: Request, peer: PeerIdentity, signal: AbortSignal) => Promise<Response>,
  ): handleUnaryCall<Request, Response> {
    return (call: ServerUnaryCall<Request, Response>, callback) =>
      void this.#answer(method, callback, () =>
        serve(call.request, this.#identify(method, call), this.#wanted(method, call)),
      );
  }

  /** Aborted when nobody waits for the answer any more, or we stop. */
  #wanted(method: string, call: { on(event: 'cancelled', listener: () => void): unknown }): AbortSignal {
    const giveUp = new AbortController();
    call.on('cancelled', () => giveUp.abort(new CollectiveError('interrupted', `Answer ${method}: it was called off`)));
    return AbortSignal.any([giveUp.signal, this.#stopping.signal]);
  }

  async #answer<Response>(
    method: string,
    callback: sendUnaryData<Response>,
    serve: () => Promise<Response>,
  ): Promise<void> {
    try {
      callback(null, await serve());
    } catch (thrown) {
      this.#note(method, thrown);
      callback(toServiceError(thrown, `Answer ${method}`));
    }
  }

  /** A long answer in pieces. A caller that takes nothing for a while is given up: what it reads from is held up by it. */
  async #pieces<Request, Piece>(
    method: Method,
    call: ServerWritableStream<Request, Piece>,
    serve: (request: Request, peer: PeerIdentity, signal: AbortSignal) => AsyncIterable<Piece>,
  ): Promise<void> {
    const signal = this.#wanted(method, call);
    try {
      for await (const piece of serve(call.request, this.#identify(method, call), signal)) {
        signal.throwIfAborted();
        if (!call.write(piece)) await this.#drained(method, call, signal);
      }
      call.end();
    } catch (thrown) {
      this.#note(method, thrown);
      call.emit('error', toServiceError(thrown, `Answer ${method}`));
    }
  }

  async #drained<Request, Piece>(
    method: Method,
    call: ServerWritableStream<Request, Piece>,
    signal: AbortSignal,
  ): Promise<void> {
    const waited = new AbortController();
    const tooLate = sleep(this.#parts.clock, TAKEN_WITHIN_MS, AbortSignal.any([signal, waited.signal])).then(() => {
      throw new CollectiveError('deadline_exceeded', `Answer ${method}: nothing was taken for ${TAKEN_WITHIN_MS} ms`);
    });
    try {
      await Promise.race([once(call, 'drain'), tooLate]);
    } finally {
      waited.abort();
      tooLate.catch(ignoreLate);
    }
  }

  #stream<Out, In>(
    method: Method,
    call: ServerDuplexStream<In, Out>,
    serve: (link: Link<Out, In>, peer: PeerIdentity, signal: AbortSignal) => Promise<void>,
  ): void {
    const link = serverLink<Out, In>(call, `${method} of ${call.getPeer()}`);
    let peer: PeerIdentity;
    try {
      this.#stopping.signal.throwIfAborted();
      peer = this.#identify(method, call);
    } catch (thrown) {
      this.#note(method, thrown);
      link.refuse(thrown);
      return;
    }
    const { trust, clock, log } = this.#parts;
    // In order, so that the peer simply connects again, then with its new certificate.
    const close = (reason: CollectiveError): void => {
      log.info({ peer: peer.uri, method, err: reason }, 'link closed');
      link.close();
    };
    const unguard = guardConnection({ peer, trust, clock, close });
    const onStop = (): void => link.close();
    this.#stopping.signal.addEventListener('abort', onStop, { once: true });
    const served = this.#serve(method, link, () => serve(link, peer, this.#stopping.signal)).finally(() => {
      unguard();
      this.#stopping.signal.removeEventListener('abort', onStop);
      this.#streams.delete(served);
    });
    this.#streams.add(served);
  }

  async #serve(
    method: Method,
    link: { close(): void; refuse(error: unknown): void },
    serve: () => Promise<void>,
  ): Promise<void> {
    try {
      await serve();
      link.close();
    } catch (thrown) {
      this.#note(method, thrown);
      link.refuse(thrown);
    }
  }

  #identify(method: Method, call: { getAuthContext(): { sslPeerCertificate?: { raw: Buffer } } | null }): PeerIdentity {
    const peer = callPeer(call, this.#parts.trust, this.#parts.clock);
    checkRole(method, peer);
    return peer;
  }

  /** What a caller did wrong is the caller's to read; what we did wrong is ours. */
  #note(method: string, thrown: unknown): void {
    const error = toCollectiveError(thrown, `Answer ${method}`);
    if (error.code === 'internal') this.#parts.log.error({ method, err: error }, 'call failed');
    else if (
      error.code === 'unauthenticated' ||
      error.code === 'permission_denied' ||
      error.code === 'token_invalid' ||
      error.code === 'csr_refused'
    )
      this.#parts.log.warn({ method, err: error }, 'call refused');
  }
}

function ignoreLate(): void {
  // The piece was taken.
}

function shutDown(server: Server): Promise<void> {
  return new Promise((resolve) => server.tryShutdown(() => resolve()));
}

/** Before anything of the request is read, and without a line in the log. */
function refuseTooMany(clock: Clock): ServerInterceptor {
  const rate = new CallRate({
    clock,
    burst: STRANGER_CALLS_BURST,
    perSecond: STRANGER_CALLS_PER_SECOND,
    networksMax: STRANGER_NETWORKS_MAX,
  });
  return (method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) => {
        if (rate.allows(call.getConnectionInfo().remoteAddress ?? '')) {
          next();
          return;
        }
        const what = `Answer ${method.path}: too many calls without a certificate come from there`;
        call.sendStatus(toStatus(new CollectiveError('overloaded', what), what));
      },
    });
}
