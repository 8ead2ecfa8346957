/** Who may call what, over real gRPC and mutual TLS: one test a breach (T1, T2, T3, T4, T6). */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, trustDomainOf } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { fromServiceError } from '@collective/protocol/errors/grpc-status';
import {
  AdminClient,
  EnrolmentClient,
  type IssuedCertificate,
  PutSubjectRequest,
  SetMaintenanceRequest,
  SetRealmRequest,
} from '@collective/protocol/gen/admin';
import { MembershipClient, type NodeMessage } from '@collective/protocol/gen/node';
import { type ClientMessage, FilesClient, type ServerMessage } from '@collective/protocol/gen/session';
import { clientLink } from '@collective/protocol/link/grpc-link';
import type { Link } from '@collective/protocol/link/link';
import { channelCredentials, dialOptions, enrolmentCredentials } from '@collective/protocol/tls/grpc-credentials';
import { keepRenewed } from '@collective/protocol/tls/keep-renewed';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { type ExpectedServer, type PeerRole, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { type Trust, TrustFiles, writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { parseTrustSet, type TrustSet } from '@collective/protocol/tls/trust-set';
import { type ChannelCredentials, credentials, type ServiceError } from '@grpc/grpc-js';
import { issueLocally } from '../bootstrap.ts';
import { ALICE, MovableClock, openScratchMember, type ScratchMember } from '../membership/scratch-member.ts';
import { EmbeddedCa } from '../membership/signer/embedded-ca.ts';
import { putFirstUser } from '../membership/subjects.ts';
import { countLosses } from '../ops/losses.ts';
import type { AdminParts } from './admin-service.ts';
import { GrpcServer } from './grpc-server.ts';
import { METHOD_ROLES, type Method } from './method-roles.ts';
import { scratchAdmin, scratchTrash } from './scratch-admin.ts';

const clock = new SystemClock();
const folder = await mkdtemp(join(tmpdir(), 'collective-server-'));
after(() => rm(folder, { recursive: true, force: true }));

const bob = trustDomainOf('bob' as MemberName, 'home');
const ca = await EmbeddedCa.open({ folder: join(folder, 'ca'), trustDomain: ALICE, clock, random: new SystemRandom() });
const scratch = await ScratchAuthority.create(ALICE);
const bobCa = await ScratchAuthority.create(bob);
const expected: ExpectedServer = { trustDomain: ALICE, role: 'coordinator' };
const NAMES: Readonly<Record<PeerRole, string>> = {
  coordinator: '',
  node: 'node-1',
  client: 'backup',
  user: 'ann',
  operator: '',
};
const day = 86_400_000;

/** A Trust whose set can be exchanged, as a reload of files does. */
class SettableTrust implements Trust {
  current: TrustSet;
  readonly #listeners = new Set<(set: TrustSet) => void>();

  constructor(current: TrustSet) {
    this.current = current;
  }

  onChange(listener: (set: TrustSet) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(current: TrustSet): void {
    this.current = current;
    for (const listener of this.#listeners) listener(current);
  }
}

/** The coordinator's roots: the member's own authority and the scratch one, which signs what a real one would not. */
async function coordinatorSet(
  signer: 'ca' | 'scratch' = 'ca',
  bundlePem = ca.bundlePem() + scratch.bundlePem,
): Promise<TrustSet> {
  const set =
    signer === 'ca' ? await issueLocally(ca, spiffeId(ALICE, 'coordinator')) : await scratch.peer('coordinator');
  return parseTrustSet({ ...set, bundlePem }, 'the coordinator');
}

async function peerSet(role: PeerRole, name = NAMES[role]): Promise<TrustSet> {
  return withBothRoots(await issueLocally(ca, spiffeId(ALICE, role, name)));
}

function withBothRoots(set: { certificatePem: string; keyPem: string }): TrustSet {
  return parseTrustSet(
    { certificatePem: set.certificatePem, keyPem: set.keyPem, bundlePem: ca.bundlePem() + scratch.bundlePem },
    'a peer',
  );
}

interface Serving extends AsyncDisposable {
  readonly server: GrpcServer;
  readonly port: number;
  readonly trust: SettableTrust;
  readonly member: ScratchMember;
  readonly sessions: PeerIdentity[];
}

/** The real server; sessions and nodes are echoed, as nothing behind the port is under test here. */
async function serve(initial?: TrustSet, parts: Partial<AdminParts> = {}): Promise<Serving> {
  const stack = new AsyncDisposableStack();
  const member = stack.use(await openScratchMember(ca));
  await member.engine.run((tx) => putFirstUser(tx, spiffeId(ALICE, 'user', 'ann')));
  const trust = new SettableTrust(initial ?? (await coordinatorSet()));
  const sessions: PeerIdentity[] = [];
  const admin = scratchAdmin(member, {
    createRealm: () => Promise.reject(new CollectiveError('exists', 'Create a realm')),
    ...parts,
  });
  const server = stack.use(
    await GrpcServer.listen(
      {
        trust,
        clock,
        log: silentLog,
        admin,
        trash: scratchTrash(member),
        enrolment: member.enrolment,
        acceptSession: async (link, peer) => {
          sessions.push(peer);
          for (let m = await link.receive(); m !== undefined; m = await link.receive())
            link.send({ message: { $case: 'detached', value: {} } });
        },
        acceptNode: async (link) => {
          for (let m = await link.receive(); m !== undefined; m = await link.receive())
            link.send({ message: undefined });
        },
      },
      { host: '127.0.0.1', port: 0 },
    ),
  );
  return { server, port: server.port, trust, member, sessions, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const anonymous = (): ChannelCredentials => enrolmentCredentials(ca.bundlePem(), expected, clock);
const as = (set: TrustSet): ChannelCredentials => channelCredentials(new SettableTrust(set), expected, clock);

/** Calls the method, and answers the code that it failed with, or 'ok'. */
async function codeOf(port: number, method: Method, credentials: ChannelCredentials): Promise<string> {
  try {
    await call(port, method, credentials);
    return 'ok';
  } catch (thrown) {
    return thrown instanceof CollectiveError ? thrown.code : String(thrown);
  }
}

async function call(port: number, method: Method, creds: ChannelCredentials): Promise<unknown> {
  const address = `127.0.0.1:${port}`;
  const options = dialOptions(expected);
  if (method === 'Files/Session') {
    const client = new FilesClient(address, creds, options);
    const link = clientLink(client.session(), method, clock);
    return await firstAnswer(link, client, detach);
  }
  if (method === 'Membership/Link') {
    const client = new MembershipClient(address, creds, options);
    return await firstAnswer(clientLink(client.link(), method, clock), client, {
      message: undefined,
    } satisfies NodeMessage);
  }
  const client = new AdminClient(address, creds, options);
  const done = Promise.withResolvers<unknown>();
  const answer = (error: ServiceError | null, value: unknown): void =>
    error === null ? done.resolve(value) : done.reject(fromServiceError(error, method));
  const { csr } = await makeCsr(spiffeId(ALICE, 'node', 'node-1'));
  const calls: Record<Exclude<Method, 'Files/Session' | 'Membership/Link'>, () => unknown> = {
    'Admin/GetStatus': () => client.getStatus({}, answer),
    'Admin/WhoAmI': () => client.whoAmI({}, answer),
    'Admin/CreateToken': () =>
      client.createToken(
        { role: 'user', name: 'ben', ttlSeconds: 60, admin: false, trusted: false, realms: [], uid: undefined },
        answer,
      ),
    'Admin/ListSubjects': () => client.listSubjects({}, answer),
    'Admin/PutSubject': () => client.putSubject(PutSubjectRequest.fromPartial({ role: 'user', name: 'bea' }), answer),
    'Admin/RemoveSubject': () => client.removeSubject({ role: 'user', name: 'bea' }, answer),
    'Admin/CreateRealm': () =>
      client.createRealm(
        {
          path: '/x',
          quotaBytes: 0,
          quotaInodes: 0,
          replicas: 0,
          minReplicas: 0,
          compressionOff: false,
          trashSeconds: undefined,
          trashYields: false,
        },
        answer,
      ),
    'Admin/SetRealm': () => client.setRealm(SetRealmRequest.fromPartial({ path: '/x' }), answer),
    'Admin/DeleteRealm': () => client.deleteRealm({ path: '/x' }, answer),
    'Admin/ListJobs': () => client.listJobs({}, answer),
    'Admin/ListRealms': () => client.listRealms({}, answer),
    'Admin/SetNodeDuty': () => client.setNodeDuty({ name: 'node-1', duty: 'draining' }, answer),
    'Admin/GetNodeHolding': () => client.getNodeHolding({ name: 'node-1', rough: false }, answer),
    'Admin/RemoveNode': () => client.removeNode({ name: 'node-1', force: false, loseLastCopies: false }, answer),
    'Admin/ScrubNode': () => client.scrubNode({ name: 'node-1' }, answer),
    'Admin/RebalanceNodes': () => client.rebalanceNodes({ dryRun: true }, answer),
    'Admin/GetRebalance': () => client.getRebalance({}, answer),
    'Admin/ListEvents': () => client.listEvents({ before: 0, limit: 10, kind: '' }, answer),
    'Admin/GetMaintenance': () => client.getMaintenance({}, answer),
    'Admin/SetMaintenance': () => client.setMaintenance(SetMaintenanceRequest.fromPartial({}), answer),
    'Admin/GetGarbage': () => client.getGarbage({}, answer),
    'Admin/ListGarbage': () => client.listGarbage({ graceSeconds: 0, after: Buffer.alloc(0) }, answer),
    'Admin/CollectGarbage': () => client.collectGarbage({ graceSeconds: undefined }, answer),
    'Admin/ListOrphans': () => client.listOrphans({ after: Buffer.alloc(0) }, answer),
    'Admin/CreateBackup': () => {
      const pieces = client.createBackup({});
      pieces.on('error', (error: ServiceError) => answer(error, undefined));
      pieces.on('data', () => undefined).on('end', () => answer(null, undefined));
    },
    'Admin/SettleLosses': () => client.settleLosses({ blocks: 1 }, answer),
    'Admin/ReportBackup': () => client.reportBackup({ position: 7 }, answer),
    'Admin/ListTrash': () => client.listTrash({ path: '', limit: 0, before: 0 }, answer),
    'Admin/RestoreTrash': () =>
      client.restoreTrash({ id: 9, path: '', to: '', at: undefined, resume: Buffer.alloc(0) }, answer),
    'Admin/EmptyTrash': () => client.emptyTrash({ path: '', olderThanSeconds: 0, resume: Buffer.alloc(0) }, answer),
    'Admin/ListCertificateRequests': () => client.listCertificateRequests({ after: '', waitSeconds: 0 }, answer),
    'Admin/AnswerCertificateRequest': () =>
      client.answerCertificateRequest({ id: 'r', answer: { $case: 'refused', value: 'no' } }, answer),
    'Admin/RenewCertificate': () => client.renewCertificate({ csr }, answer),
  };
  calls[method]();
  return await done.promise.finally(() => client.close());
}

const detach: ClientMessage = { message: { $case: 'detach', value: {} } };

async function firstAnswer<Out, In>(
  link: Link<Out, In>,
  client: { close(): void },
  message: Out,
): Promise<In | undefined> {
  try {
    link.send(message);
    return await link.receive();
  } finally {
    link.close();
    client.close();
  }
}

const METHODS = Object.keys(METHOD_ROLES) as Method[];

for (const role of ['node', 'client', 'user', 'operator', 'coordinator'] as const) {
  test(`T3: a ${role} may call what its role allows and nothing else`, { timeout: 30_000 }, async () => {
    await using server = await serve();
    const creds = as(await peerSet(role));
    for (const method of METHODS) {
      const allowed = (METHOD_ROLES[method] as readonly PeerRole[]).includes(role);
      const code = await codeOf(server.port, method, creds);
      if (!allowed) assert.equal(code, 'permission_denied', method);
      else assert.ok(code === expectedCode(role, method), `${method}: ${code}`);
    }
  });
}

/** What an allowed call comes to: ann is an administrator, backup is not enrolled, the request to renew is node-1's. */
function expectedCode(role: PeerRole, method: Method): string {
  const mayAdminister = role === 'user' || role === 'operator';
  switch (method) {
    case 'Admin/CreateToken':
    case 'Admin/ListSubjects':
    case 'Admin/PutSubject':
    case 'Admin/RemoveSubject':
    case 'Admin/ListEvents':
    case 'Admin/GetMaintenance':
    case 'Admin/SetMaintenance':
    case 'Admin/GetGarbage':
    case 'Admin/ListGarbage':
    case 'Admin/CollectGarbage':
    case 'Admin/ListOrphans':
    case 'Admin/CreateBackup':
    case 'Admin/ReportBackup':
    case 'Admin/SettleLosses':
      return mayAdminister ? 'ok' : 'permission_denied';
    case 'Admin/SetNodeDuty':
    case 'Admin/GetNodeHolding':
    case 'Admin/RemoveNode':
    case 'Admin/ScrubNode':
      return mayAdminister ? 'not_found' : 'permission_denied';
    case 'Admin/RebalanceNodes':
    case 'Admin/GetRebalance':
    case 'Admin/ListJobs':
      return mayAdminister ? 'ok' : 'permission_denied';
    case 'Admin/DeleteRealm':
    case 'Admin/SetRealm':
      return mayAdminister ? 'not_found' : 'permission_denied';
    case 'Admin/CreateRealm':
      return mayAdminister ? 'exists' : 'permission_denied';
    case 'Admin/ListTrash':
    case 'Admin/EmptyTrash':
      return role === 'user' ? 'ok' : 'permission_denied';
    case 'Admin/RestoreTrash':
      return role === 'user' ? 'not_found' : 'permission_denied';
    case 'Admin/GetStatus':
      // Nobody has let this client in: that the authority signed its certificate opens nothing.
      return role === 'client' ? 'permission_denied' : 'ok';
    case 'Admin/RenewCertificate':
      if (role === 'node') return 'ok';
      return role === 'client' ? 'permission_denied' : 'csr_refused';
    default:
      return 'ok';
  }
}

test('D9: a backup counts as made when who took it says that it is kept, not when it was asked for or sent', async () => {
  const recorded: string[] = [];
  const aborted = async (signal: AbortSignal): Promise<void> => {
    if (!signal.aborted) await once(signal, 'abort');
  };
  const ended = Promise.withResolvers<void>();
  await using server = await serve(undefined, {
    events: { page: async () => ({ events: [], end: true }), record: (kind) => void recorded.push(kind) },
    createBackup: async function* (signal) {
      try {
        yield Buffer.from('head');
        yield Buffer.from('rows');
        await aborted(signal);
      } finally {
        ended.resolve();
      }
    },
  });
  const creds = as(await peerSet('user'));
  const client = new AdminClient(`127.0.0.1:${server.port}`, creds, dialOptions(expected));
  const pieces = client.createBackup({});
  const cancelled = once(pieces, 'error');
  const [piece] = await once(pieces, 'data');
  assert.equal(piece.data.toString(), 'head');
  pieces.cancel();
  await cancelled;
  await ended.promise;
  client.close();
  assert.deepEqual(recorded, []);
  await call(server.port, 'Admin/ReportBackup', creds);
  assert.deepEqual(recorded, ['backup-made']);
});

test('D3: an administrator settles what was lost as far as it was seen, and who did is told', async () => {
  const recorded: unknown[] = [];
  await using server = await serve(undefined, {
    events: { page: async () => ({ events: [], end: true }), record: (...event) => void recorded.push(event[2]) },
  });
  await server.member.engine.run((tx) => countLosses(tx, 3));
  const creds = as(await peerSet('user'));
  assert.deepEqual(await call(server.port, 'Admin/SettleLosses', creds), { settled: 1, left: 2 });
  assert.deepEqual(recorded, [{ by: 'spiffe://alice.home/user/ann', blocks: '1' }]);
});

const strangers: { name: string; credentials: () => Promise<ChannelCredentials> }[] = [
  { name: 'without a certificate', credentials: async () => anonymous() },
  { name: "with bob's own certificate", credentials: async () => asForeign(await bobCa.peer('user', 'bob')) },
  {
    name: "with alice's name signed by bob's authority",
    credentials: async () =>
      asForeign(await bobCa.leaf({ names: [{ type: 'url', value: 'spiffe://alice.home/user/ann' }] })),
  },
  {
    name: 'with an expired certificate',
    credentials: async () =>
      asForeign(
        await scratch.peer('user', 'ann', {
          notBefore: new Date(Date.now() - 9 * day),
          notAfter: new Date(Date.now() - 1_000),
        }),
      ),
  },
  {
    name: 'with two URIs',
    credentials: async () =>
      asForeign(
        await scratch.leaf({
          names: ['user/ann', 'user/root'].map((path) => ({ type: 'url', value: `spiffe://alice.home/${path}` })),
        }),
      ),
  },
  {
    name: 'with a role that does not exist',
    credentials: async () =>
      asForeign(await scratch.leaf({ names: [{ type: 'url', value: 'spiffe://alice.home/root' }] })),
  },
];

/** The client itself would refuse to use these; grpc-js does what it is told. */
function asForeign({ certificatePem, keyPem }: { certificatePem: string; keyPem: string }): ChannelCredentials {
  return credentials.createSsl(Buffer.from(ca.bundlePem()), Buffer.from(keyPem), Buffer.from(certificatePem));
}

for (const { name, credentials: make } of strangers) {
  test(`T3: whoever comes ${name} gets nowhere`, { timeout: 30_000 }, async () => {
    await using server = await serve();
    const creds = await make();
    for (const method of METHODS) assert.equal(await codeOf(server.port, method, creds), 'unauthenticated', method);
    assert.deepEqual(server.sessions, []);
  });
}

test('T3: without a certificate there is one call: Enrol, and only a token makes it work', {
  timeout: 30_000,
}, async () => {
  await using server = await serve();
  const { token } = await server.member.enrolment.createToken({
    role: 'node',
    name: 'node-7',
    ttlSeconds: 60,
    admin: false,
    trusted: false,
    realms: [],
    uid: undefined,
  });
  const id = spiffeId(ALICE, 'node', 'node-7');
  const { csr, keyPem } = await makeCsr(id);
  await assert.rejects(enrol(server.port, 'col1-wrong', csr), isCode('token_invalid'));
  const issued = await enrol(server.port, token, csr);
  await enrol(server.port, token, csr);
  await assert.rejects(enrol(server.port, token, (await makeCsr(id)).csr), isCode('token_invalid'));
  assert.equal(await codeOf(server.port, 'Membership/Link', as(withBothRoots({ ...issued, keyPem }))), 'ok');
});

async function enrol(port: number, token: string, csr: Buffer): Promise<IssuedCertificate> {
  const client = new EnrolmentClient(`127.0.0.1:${port}`, anonymous(), dialOptions(expected));
  return await new Promise<IssuedCertificate>((resolve, reject) => {
    client.enrol({ token, csr }, (error, value) =>
      error === null ? resolve(value) : reject(fromServiceError(error, 'Enrol')),
    );
  }).finally(() => client.close());
}

test("T2: a client does not talk to a user that poses as the coordinator by a DNS name, nor to bob's coordinator", {
  timeout: 30_000,
}, async () => {
  const names = [
    { type: 'url' as const, value: 'spiffe://alice.home/user/eve' },
    { type: 'dns' as const, value: 'coordinator.alice.home' },
  ];
  const poser = await scratch.leaf({ names });
  await using server = await serve(withBothRoots(poser));
  assert.equal(await codeOf(server.port, 'Admin/WhoAmI', as(await peerSet('user'))), 'unavailable');
  assert.equal(await codeOf(server.port, 'Files/Session', as(await peerSet('user'))), 'unavailable');
  server.trust.set(await bobCa.peer('coordinator'));
  assert.equal(await codeOf(server.port, 'Admin/WhoAmI', as(await peerSet('user'))), 'unavailable');
  server.trust.set(await coordinatorSet());
  assert.equal(await codeOf(server.port, 'Admin/WhoAmI', as(await peerSet('user'))), 'ok');
});

test('T4: a reload changes what new connections see, and drops none that stands', { timeout: 30_000 }, async () => {
  await using server = await serve();
  const user = await peerSet('user');
  const client = new FilesClient(`127.0.0.1:${server.port}`, as(user), dialOptions(expected));
  const link = clientLink<ClientMessage, ServerMessage>(client.session(), 'Session', clock);
  link.send(detach);
  assert.ok(await link.receive());
  const before = await leafSerial(server.port, user);
  server.trust.set(await coordinatorSet());
  const after = await leafSerial(server.port, user);
  assert.notEqual(after, before);
  link.send(detach);
  assert.ok(await link.receive());
  assert.equal(server.sessions.length, 1);
  link.close();
  client.close();
});

/** Serial number of the certificate that a new connection is shown. */
async function leafSerial(port: number, user: TrustSet): Promise<string> {
  const client = new AdminClient(`127.0.0.1:${port}`, as(user), dialOptions(expected));
  return await new Promise<string>((resolve, reject) => {
    const running = client.whoAmI({}, (error) =>
      error === null ? resolve(running.getAuthContext()?.sslPeerCertificate?.serialNumber ?? '') : reject(error),
    );
  }).finally(() => client.close());
}

test('T6: when a root is dropped, links of its peers end in order and others go on', { timeout: 30_000 }, async () => {
  await using server = await serve();
  const stays = await openSession(server.port, await peerSet('user'));
  const goes = await openSession(server.port, withBothRoots(await scratch.peer('user', 'ann')));
  server.trust.set(await coordinatorSet('ca', ca.bundlePem()));
  assert.equal(await goes.link.receive(), undefined);
  stays.link.send(detach);
  assert.ok(await stays.link.receive());
  for (const { link, client } of [stays, goes]) {
    link.close();
    client.close();
  }
});

test('T6: when a root is dropped, connections for unary calls end as well, and are counted until then', {
  timeout: 30_000,
}, async () => {
  await using serving = await serve();
  const ask = (client: AdminClient): Promise<unknown> =>
    new Promise((resolve, reject) =>
      client.whoAmI({}, (error, answer) => (error === null ? resolve(answer) : reject(fromServiceError(error, 'ask')))),
    );
  const dial = (set: TrustSet): AdminClient =>
    new AdminClient(`127.0.0.1:${serving.port}`, as(set), dialOptions(expected));
  const stays = dial(await peerSet('user'));
  const set = withBothRoots(await scratch.peer('user', 'ann'));
  const goes = dial(set);
  await ask(stays);
  await ask(goes);
  const byRoot = (): Map<string, number> =>
    new Map(serving.server.connectionsByRoot.map(({ root, count }) => [root, count]));
  assert.deepEqual([byRoot().size, byRoot().get(set.rootFingerprint256)], [2, 1]);
  serving.trust.set(await coordinatorSet('ca', ca.bundlePem()));
  while (byRoot().has(set.rootFingerprint256)) await sleep(clock, 10, AbortSignal.timeout(20_000));
  assert.equal(byRoot().size, 1);
  await ask(stays);
  await assert.rejects(ask(goes), isCode('unauthenticated'));
  for (const client of [stays, goes]) client.close();
});

test('T6: a link ends in order before the certificate of its peer expires', { timeout: 60_000 }, async () => {
  await using server = await serve();
  // The link ends 30 s before: what is left of this is for opening it.
  const soon = withBothRoots(await scratch.peer('user', 'ann', { notAfter: new Date(Date.now() + 40_000) }));
  const { link, client } = await openSession(server.port, soon);
  assert.equal(await link.receive(), undefined);
  assert.ok(Date.now() < soon.notAfterMs);
  client.close();
});

async function openSession(
  port: number,
  set: TrustSet,
): Promise<{ link: Link<ClientMessage, ServerMessage>; client: FilesClient }> {
  const client = new FilesClient(`127.0.0.1:${port}`, as(set), dialOptions(expected));
  const link = clientLink<ClientMessage, ServerMessage>(client.session(), 'Session', clock);
  link.send(detach);
  assert.ok(await link.receive());
  return { link, client };
}

test('T3: a node whose certificate is past two thirds of its life renews it over its own', {
  timeout: 30_000,
}, async () => {
  await using server = await serve();
  const old = await scratch.peer('node', 'node-1', {
    notBefore: new Date(Date.now() - 25 * day),
    notAfter: new Date(Date.now() + 5 * day),
  });
  const trustFolder = join(folder, 'renewing');
  await writeTrustFiles(trustFolder, withBothRoots(old));
  using trust = await TrustFiles.load(trustFolder, { clock });
  const client = new AdminClient(
    `127.0.0.1:${server.port}`,
    channelCredentials(trust, expected, clock),
    dialOptions(expected),
  );
  const changed = new Promise<TrustSet>((resolve) => trust.onChange(resolve));
  const renewal = keepRenewed({
    trust,
    clock,
    log: silentLog,
    request: (csr) =>
      new Promise((resolve, reject) =>
        client.renewCertificate({ csr }, (error, issued) => (error === null ? resolve(issued) : reject(error))),
      ),
  });
  const renewed = await changed;
  assert.equal(renewed.id.uri, old.id.uri);
  assert.notEqual(renewed.keyPem, old.keyPem);
  assert.ok(renewed.notAfterMs > Date.now() + 80 * day);
  await renewal.stop();
  client.close();
});

test('a port that is taken is address_in_use', { timeout: 30_000 }, async () => {
  await using server = await serve();
  await using member = await openScratchMember(ca, new MovableClock());
  const never = (): Promise<never> => Promise.reject(new CollectiveError('internal', 'Not called'));
  const parts = {
    trust: server.trust,
    clock,
    log: silentLog,
    admin: scratchAdmin(member),
    trash: scratchTrash(member),
    enrolment: member.enrolment,
    acceptSession: never,
    acceptNode: never,
  };
  await assert.rejects(GrpcServer.listen(parts, { host: '127.0.0.1', port: server.port }), isCode('address_in_use'));
});

test('a stop ends open links in order and within two seconds', { timeout: 30_000 }, async () => {
  const server = await serve();
  const { link, client } = await openSession(server.port, await peerSet('user'));
  const startedMs = clock.bootMs();
  const ended = link.receive();
  await server[Symbol.asyncDispose]();
  assert.equal(await ended, undefined);
  // The two seconds, and what a slow machine takes beside them.
  assert.ok(clock.bootMs() - startedMs < 20_000);
  client.close();
});

function isCode(code: string): (thrown: unknown) => boolean {
  return (thrown) => thrown instanceof CollectiveError && thrown.code === code;
}
