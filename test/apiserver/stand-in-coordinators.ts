/**
 * What answers in the place of many coordinators where no pod runs: a gRPC server for each, with the member's own certificate and on
 * an address of its own, that says of itself what a coordinator in good order says. The operator's way there is the real one
 * (mTLS, a connection a member); what a coordinator does to find its answer is not part of it.
 */
import assert from 'node:assert/strict';
import { promisify } from 'node:util';
import {
  AdminService,
  type CertificateRequests,
  Identity,
  type ListCertificateRequestsRequest,
  NodeStatus,
  type PutSubjectRequest,
  ReplicationHealth,
  Status,
} from '@collective/protocol/gen/admin';
import { NodeState } from '@collective/protocol/gen/common';
import { serverCredentials } from '@collective/protocol/tls/grpc-credentials';
import { MemoryTrust } from '@collective/protocol/tls/memory-trust';
import type { TrustPems } from '@collective/protocol/tls/trust-set';
import { Server, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';

const PORT = 7420;
const CAPACITY_BYTES = 1e9;
const FIRST_UID = 100_000;
const VERSION = '0.1.0';

/** As many as there are addresses beside one apiserver. */
const MEMBERS_MAX = 250;

/** The address of the loopback on which the coordinator of the n-th member listens, from 0 on: no other apiserver has these. */
export function standInAddress(apiserverPort: number, at: number): string {
  assert.ok(at < MEMBERS_MAX, `there are addresses for ${MEMBERS_MAX} members`);
  return `127.${apiserverPort >> 8}.${apiserverPort & 0xff}.${at + 1}`;
}

export class StandInCoordinators implements AsyncDisposable {
  readonly #coordinators = new Map<string, StandIn>();
  /** Calls that were answered, of all. */
  #calls = 0;

  get calls(): number {
    return this.#calls;
  }

  /** Once a member; the files are those that its pod would mount. */
  async start(member: string, address: string, files: TrustPems): Promise<void> {
    if (this.#coordinators.has(member)) return;
    const coordinator = new StandIn(member, new MemoryTrust(files, `the identity of ${member}`), () => this.#calls++);
    this.#coordinators.set(member, coordinator);
    await coordinator.listen(address);
  }

  /** Nodes that have said where they are. */
  setNodes(member: string, nodes: readonly string[]): void {
    this.#coordinators.get(member)?.setNodes(nodes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const coordinator of this.#coordinators.values()) coordinator.end();
  }
}

class StandIn {
  readonly #member: string;
  readonly #trust: MemoryTrust;
  readonly #server = new Server();
  readonly #subjects = new Map<string, Identity>();
  #nodes: readonly string[] = [];

  constructor(member: string, trust: MemoryTrust, called: () => void) {
    this.#member = member;
    this.#trust = trust;
    type Answer<Request, Reply> = (call: ServerUnaryCall<Request, Reply>, done: sendUnaryData<Reply>) => void;
    const answer =
      <Request, Reply>(of: (request: Request) => Reply): Answer<Request, Reply> =>
      ({ request }, done) => {
        called();
        done(null, of(request));
      };
    // What is not here is not asked of a member in good order; asked all the same, it is answered UNIMPLEMENTED.
    this.#server.addService(AdminService, {
      getStatus: answer(() => this.#status()),
      listSubjects: answer(() => ({ subjects: [...this.#subjects.values()] })),
      putSubject: answer((request: PutSubjectRequest) => this.#put(request)),
      listCertificateRequests: (
        { request }: ServerUnaryCall<ListCertificateRequestsRequest, CertificateRequests>,
        done: sendUnaryData<CertificateRequests>,
      ) => {
        called();
        this.#hold(request, done);
      },
    });
  }

  async listen(address: string): Promise<void> {
    const bind = promisify(this.#server.bindAsync.bind(this.#server));
    await bind(`${address}:${PORT}`, serverCredentials(this.#trust));
  }

  setNodes(nodes: readonly string[]): void {
    this.#nodes = nodes;
  }

  end(): void {
    this.#server.forceShutdown();
  }

  /** Nobody enrols: who waits for news waits as long as it said. */
  #hold({ waitSeconds }: ListCertificateRequestsRequest, done: sendUnaryData<CertificateRequests>): void {
    setTimeout(() => done(null, { requests: [], mark: 'nothing' }), waitSeconds * 1_000).unref();
  }

  #status(): Status {
    const { bundleHash, rootFingerprint256: root, roots, id } = this.#trust.current;
    return Status.fromPartial({
      member: this.#member,
      trustDomain: id.trustDomain,
      version: VERSION,
      epoch: { generation: 1, start: 1 },
      nodes: this.#nodes.map((name) =>
        NodeStatus.fromPartial({
          name,
          state: NodeState.READY,
          duty: 'active',
          version: VERSION,
          capacityBytes: CAPACITY_BYTES,
          freeBytes: CAPACITY_BYTES,
        }),
      ),
      capacityBytes: CAPACITY_BYTES * this.#nodes.length,
      directories: 1,
      replication: ReplicationHealth.fromPartial({}),
      trust: {
        bundleHash,
        roots: roots.map(({ fingerprint256 }) => fingerprint256),
        signingRoot: root,
        peers: this.#nodes.map((name) => ({
          peer: `spiffe://${id.trustDomain}/node/${name}`,
          kind: 'node',
          bundleHash,
          root,
          connected: true,
          count: 1,
        })),
      },
    });
  }

  #put({ role, name, admin, trusted, uid, realms }: PutSubjectRequest): Identity {
    const given = realms.length === 0 ? [{ path: '/', readOnly: false }] : realms;
    const subject = Identity.fromPartial({
      role,
      name,
      admin,
      trusted,
      uid: uid ?? this.#subjects.get(name)?.uid ?? FIRST_UID + this.#subjects.size,
      realms: given.map(({ path, readOnly }) => ({ realm: 1, path, readOnly })),
    });
    this.#subjects.set(name, subject);
    return subject;
  }
}
