import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { connect as connectTls, createServer } from 'node:tls';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { connect, connectAdmin, enrol, type Member } from '@collective/client';
import { encodeControlFrame } from '@collective/protocol/bulk/frame';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { fromServiceError } from '@collective/protocol/errors/grpc-status';
import { AdminClient, EnrolmentClient, type Identity, type IssuedCertificate } from '@collective/protocol/gen/admin';
import { BulkHello, MembershipClient, NodeMessage } from '@collective/protocol/gen/node';
import { clientLink } from '@collective/protocol/link/grpc-link';
import { channelCredentials, dialOptions, enrolmentCredentials } from '@collective/protocol/tls/grpc-credentials';
import {
  ScratchAuthority as Authority,
  type ScratchAuthority,
  type ScratchLeaf,
  scratchCsr,
} from '@collective/protocol/tls/scratch-authority';
import type { ExpectedServer } from '@collective/protocol/tls/spiffe-id';
import { readTrustPems, type Trust } from '@collective/protocol/tls/trust-files';
import type { TrustPems } from '@collective/protocol/tls/trust-set';
import { until } from './cli-world.ts';
import { bulkTo, clock, domainOf, forgedTrust, RawSession, signal, stolenAuthority, trustOf } from './raw-session.ts';
import { RunningMember } from './running-member.ts';

const DAY_MS = 86_400_000;
const ANN = 'spiffe://alice.home/user/ann';
const url = (value: string) => ({ type: 'url' as const, value });
const dns = (value: string) => ({ type: 'dns' as const, value });

describe('forged identities at the ports of real processes', () => {
  let alice: RunningMember;
  let bob: RunningMember;
  let ann: Member;
  let bundlePem: string;
  /** Alice's own key in the wrong hands: what even a right signature must not open. */
  let alicesKey: ScratchAuthority;
  let bobsKey: ScratchAuthority;
  let bobUnbound: ScratchAuthority;
  let namedAlice: ScratchAuthority;
  let expected: ExpectedServer;

  before(async () => {
    [alice, bob] = await Promise.all([RunningMember.start(), RunningMember.start({ member: 'bob', launched: false })]);
    ann = await alice.connect();
    ({ bundlePem } = await readTrustPems(join(alice.folder, 'ann')));
    alicesKey = await stolenAuthority(alice);
    bobsKey = await stolenAuthority(bob);
    bobUnbound = await Authority.create(domainOf('bob.home'), { unconstrained: true });
    namedAlice = await Authority.create(domainOf('alice.home'));
    expected = { trustDomain: domainOf('alice.home'), role: 'coordinator' };
  });
  after(async () => {
    await alice?.[Symbol.asyncDispose]();
    await bob?.[Symbol.asyncDispose]();
  });
  afterEach((t) => alice?.printLogs(t));

  const asAnn = async (by: ScratchAuthority, change: Partial<ScratchLeaf> = {}): Promise<TrustPems> =>
    await by.leaf({ names: [url(ANN)], serverAuth: false, ...change });

  const strangers: { name: string; explained?: ErrorCode; shown: () => Promise<TrustPems> }[] = [
    { name: "T1: bob's own user", shown: () => readTrustPems(join(bob.folder, 'ann')) },
    { name: "T1: bob's node", shown: () => readTrustPems(join(bob.folder, 'node-1', 'tls')) },
    { name: "T1: bob's coordinator", shown: () => readTrustPems(join(bob.folder, 'coordinator', 'tls')) },
    { name: "T1: alice's name, signed by bob's authority", shown: () => asAnn(bobsKey) },
    { name: "T1: alice's name, signed by bob's authority without name constraints", shown: () => asAnn(bobUnbound) },
    { name: "T1: alice's name, signed by an authority that is only called like hers", shown: () => asAnn(namedAlice) },
    {
      name: 'an expired certificate of alice',
      shown: () =>
        asAnn(alicesKey, { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() - 1_000) }),
    },
    {
      name: 'a certificate of alice that is not valid yet',
      shown: () => asAnn(alicesKey, { notBefore: new Date(Date.now() + DAY_MS) }),
      // The client knows better than the refusal why: one of the two clocks is wrong.
      explained: 'clock_wrong',
    },
    { name: 'T1: two URIs', shown: () => asAnn(alicesKey, { names: [url(ANN), url('spiffe://alice.home/user/bea')] }) },
    { name: 'T1: no URI', shown: () => asAnn(alicesKey, { names: [dns('ann.alice.home')] }) },
    {
      name: "T2: a user's certificate with the coordinator's DNS name",
      shown: () => asAnn(alicesKey, { names: [url(ANN), dns('coordinator.alice.home')] }),
    },
  ];

  test('what is shown below would be let in if alice had signed it for ann', async () => {
    const trust = forgedTrust(await asAnn(alicesKey), bundlePem, ANN);
    using session = await RawSession.open(alice, trust);
    assert.equal(session.attached.trustDomain, 'alice.home');
    assert.deepEqual((await whoAmI(trust)).subject, ANN);
    (await bulkTo(alice, 'node-1', trust)).close();
  });

  for (const { name, shown, explained = 'unauthenticated' } of strangers) {
    test(`the coordinator and a node refuse ${name}`, async () => {
      const trust = forgedTrust(await shown(), bundlePem, ANN);
      await failsWith(explained, RawSession.open(alice, trust), 'Files/Session');
      await failsWith('unauthenticated', whoAmI(trust), 'Admin/WhoAmI');
      await failsWith('unauthenticated', register(trust), 'Membership/Link');
      await refusedByNode(trust);
    });
  }

  test('T3: without a certificate only Enrol is answered, and a node answers nothing at all', async () => {
    const client = new AdminClient(
      `127.0.0.1:${alice.coordinatorPort}`,
      enrolmentCredentials(bundlePem, expected, clock),
      dialOptions(expected),
    );
    try {
      const answer = new Promise((resolve, reject) =>
        client.whoAmI({}, (error, value) => (error ? reject(fromServiceError(error, 'whoAmI')) : resolve(value))),
      );
      await failsWith('unauthenticated', answer, 'Admin/WhoAmI');
    } finally {
      client.close();
    }
    const { nodePorts } = alice;
    const options = { host: '127.0.0.1', port: nodePorts.get('node-1') ?? 0, servername: 'node-1.node.alice.home' };
    const socket = connectTls({ ...options, ca: bundlePem });
    let bytes = 0;
    socket.on('data', (piece: Buffer) => {
      bytes += piece.length;
    });
    socket.on('error', () => undefined);
    socket.on('secureConnect', () => socket.write(hello()));
    await until(() => socket.closed, 'the node has closed the connection', 10_000);
    assert.equal(bytes, 0);
  });

  test('T3: each role keeps to its own calls', async () => {
    const node = await trustOf(join(alice.folder, 'node-1', 'tls'));
    const coordinator = await trustOf(join(alice.folder, 'coordinator', 'tls'));
    const user = await trustOf(join(alice.folder, 'ann'));
    for (const [trust, who] of [
      [node, 'a node'],
      [coordinator, 'a coordinator'],
    ] as const)
      await failsWith('permission_denied', RawSession.open(alice, trust), `${who} opens a session`);
    await failsWith('permission_denied', register(user), 'a user registers as a node');
    await failsWith('permission_denied', register(coordinator), 'a coordinator registers as a node');
    using connected = await connectAdmin(alice.connectOptions({ credentials: join(alice.folder, 'node-1', 'tls') }));
    const token = connected.admin.createToken({ role: 'user', name: 'eve', ttlSeconds: 60 });
    await failsWith('permission_denied', token, 'a node makes a token');
    await failsWith('permission_denied', bulkTo(alice, 'node-1', coordinator), 'a coordinator opens a bulk connection');
    // Nothing of this has taken the place of the real node.
    const { nodes } = await alice.status();
    assert.deepEqual(
      nodes.map(({ name, state }) => `${name} ${state}`),
      ['node-1 ready', 'node-2 ready'],
    );
  });

  test("the SDK refuses what cannot work before it says anything: bob's credentials, expired ones", async () => {
    await failsWith('wrong_member', connect(alice.connectOptions({ credentials: join(bob.folder, 'ann') })), 'connect');
    const folder = join(alice.folder, 'expired');
    await mkdir(folder);
    const dates = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() - 1_000) };
    const { certificatePem, keyPem } = await asAnn(alicesKey, dates);
    await writeFile(join(folder, 'tls.crt'), certificatePem);
    await writeFile(join(folder, 'tls.key'), keyPem, { mode: 0o600 });
    await writeFile(join(folder, 'trust.pem'), bundlePem);
    await failsWith('unauthenticated', connect(alice.connectOptions({ credentials: folder })), 'connect');
  });

  const impostors: { name: string; leaf: () => Promise<TrustPems> }[] = [
    {
      name: "T2: a user's certificate with the coordinator's DNS name",
      leaf: () => alicesKey.leaf({ names: [url(ANN), dns('coordinator.alice.home')] }),
    },
    {
      name: "T2: a node's certificate with the coordinator's DNS name",
      leaf: () => alicesKey.leaf({ names: [url('spiffe://alice.home/node/node-1'), dns('coordinator.alice.home')] }),
    },
    { name: "T2: a node's own certificate", leaf: () => readTrustPems(join(alice.folder, 'node-1', 'tls')) },
    { name: "T1: bob's coordinator", leaf: () => readTrustPems(join(bob.folder, 'coordinator', 'tls')) },
    {
      name: "T1: alice's coordinator, signed by bob's authority",
      leaf: () => bobUnbound.leaf({ names: [url('spiffe://alice.home/coordinator'), dns('coordinator.alice.home')] }),
    },
    {
      name: 'an expired certificate of the coordinator',
      leaf: () =>
        alicesKey.leaf({
          names: [url('spiffe://alice.home/coordinator'), dns('coordinator.alice.home')],
          notBefore: new Date(Date.now() - DAY_MS),
          notAfter: new Date(Date.now() - 1_000),
        }),
    },
  ];

  for (const { name, leaf } of impostors) {
    test(`a client tells nothing to a server that shows ${name}`, async () => {
      await using server = await Impostor.listen(await leaf());
      const options = alice.connectOptions({ coordinator: `127.0.0.1:${server.port}` });
      await failsWith('unauthenticated', connect(options, { signal: signal() }), 'connect');
      using connected = await connectAdmin(options);
      await failsWith('unauthenticated', connected.admin.whoAmI({ signal: signal() }), 'whoAmI');
      const asked = enrol({
        coordinator: options.coordinator,
        trustDomain: alice.trustDomain,
        caPem: bundlePem,
        token: 'col1-a-secret-that-must-not-leave',
        role: 'user',
        name: 'bea',
        credentials: join(alice.folder, 'bea-at-impostor'),
        signal: signal(),
      });
      await failsWith('unauthenticated', asked, 'enrol');
      assert.ok(server.connections > 0, 'it was dialled');
      assert.ok(!server.heard.includes('secret'), 'the token did not reach it');
      assert.ok(!/collective\.v1/.test(server.heard), `no call reached it: ${JSON.stringify(server.heard)}`);
    });
  }

  test("T2: a client puts nothing on a server that poses as a node: a user's certificate with its DNS name, another node", async () => {
    const trust = await trustOf(join(alice.folder, 'ann'));
    for (const pems of [
      await alicesKey.leaf({ names: [url(ANN), dns('node-1.node.alice.home')] }),
      await readTrustPems(join(alice.folder, 'node-2', 'tls')),
      await readTrustPems(join(bob.folder, 'node-1', 'tls')),
    ]) {
      await using server = await Impostor.listen(pems);
      const target = { name: 'node-1', host: '127.0.0.1', port: server.port };
      await failsWith('unauthenticated', new TlsBulkConnector({ trust, clock }).connect(target, signal()), 'connect');
      assert.equal(server.heard, '');
    }
  });

  const csrs: { name: string; role: 'user' | 'node'; csr: (id: string) => Promise<Buffer> }[] = [
    { name: 'two URIs', role: 'user', csr: (id) => scratchCsr({ names: [url(id), url(ANN)] }) },
    { name: "another subject's URI", role: 'user', csr: () => scratchCsr({ names: [url(ANN)] }) },
    {
      name: "the coordinator's URI",
      role: 'user',
      csr: () => scratchCsr({ names: [url('spiffe://alice.home/coordinator')] }),
    },
    {
      name: "another member's URI",
      role: 'user',
      csr: () => scratchCsr({ names: [url('spiffe://bob.home/user/bea')] }),
    },
    {
      name: "the coordinator's DNS name",
      role: 'user',
      csr: (id) => scratchCsr({ names: [url(id), dns('coordinator.alice.home')] }),
    },
    {
      name: 'an IP address',
      role: 'user',
      csr: (id) => scratchCsr({ names: [url(id), { type: 'ip', value: '127.0.0.1' }] }),
    },
    {
      name: 'an e-mail address',
      role: 'user',
      csr: (id) => scratchCsr({ names: [url(id), { type: 'email', value: 'a@alice.home' }] }),
    },
    { name: 'a common name', role: 'user', csr: (id) => scratchCsr({ names: [url(id)], subject: 'CN=coordinator' }) },
    { name: 'a key that is not Ed25519', role: 'user', csr: (id) => scratchCsr({ names: [url(id)], curve: 'P-256' }) },
    { name: 'no name', role: 'user', csr: () => scratchCsr({ names: [] }) },
    { name: 'no request at all', role: 'user', csr: async () => Buffer.from('no request') },
    {
      name: "another node's DNS name",
      role: 'node',
      csr: (id) => scratchCsr({ names: [url(id), dns('node-1.node.alice.home')] }),
    },
    {
      name: 'localhost',
      role: 'node',
      csr: (id) => scratchCsr({ names: [url(id), dns('node-9.node.alice.home'), dns('localhost')] }),
    },
  ];

  test('T5: Enrol refuses requests that ask for more than their token: two URIs, an IP, a foreign name, ...; the token stays good for the right one', async () => {
    for (const [role, name] of [
      ['user', 'bea'],
      ['node', 'node-9'],
    ] as const) {
      const { token, subject } = await ann.admin.createToken({ role, name, ttlSeconds: 60 });
      for (const { name: what, csr } of csrs.filter((one) => one.role === role))
        await failsWith('csr_refused', enrolRaw(token, await csr(subject)), what);
      const names = role === 'node' ? [url(subject), dns('node-9.node.alice.home')] : [url(subject)];
      assert.equal((await enrolRaw(token, await scratchCsr({ names }))).subject, subject);
    }
  });

  test('T3: an enrolment token is good for one key, for a while, and for one of many that try at the same moment', async () => {
    const { token, subject } = await ann.admin.createToken({ role: 'user', name: 'cal', ttlSeconds: 60 });
    const csrs = await Promise.all(Array.from({ length: 8 }, () => scratchCsr({ names: [url(subject)] })));
    const tries = await Promise.allSettled(csrs.map((csr) => enrolRaw(token, csr)));
    const winners = csrs.filter((_csr, i) => tries[i]?.status === 'fulfilled');
    assert.equal(winners.length, 1, 'one of eight has a certificate');
    for (const one of tries)
      if (one.status === 'rejected') assert.equal((one.reason as CollectiveError).code, 'token_invalid');
    const [winner = Buffer.alloc(0)] = winners;
    const csr = await scratchCsr({ names: [url(subject)] });
    await failsWith('token_invalid', enrolRaw(token, csr), 'used twice');
    assert.equal((await enrolRaw(token, winner)).subject, subject, 'the winner may have lost its answer');
    await alice.coordinator.kill();
    await alice.coordinator.start();
    await failsWith('token_invalid', enrolRaw(token, csr), 'used again after a restart');
    assert.equal((await enrolRaw(token, winner)).subject, subject, 'lost in the restart');
    await failsWith('token_invalid', enrolRaw(`${token.slice(0, -1)}!`, csr), 'a token with another character');
    await failsWith('token_invalid', enrolRaw('', csr), 'no token');

    const short = await ann.admin.createToken({ role: 'user', name: 'dan', ttlSeconds: 1 });
    const endsMs = (short.expires?.seconds ?? 0) * 1000 + 1000;
    await until(() => Date.now() > endsMs, 'the token has expired', 10_000);
    const late = enrolRaw(short.token, await scratchCsr({ names: [url(short.subject)] }));
    await failsWith('token_invalid', late, 'expired');
  });

  async function whoAmI(trust: Trust): Promise<Identity> {
    const address = `127.0.0.1:${alice.coordinatorPort}`;
    const client = new AdminClient(address, channelCredentials(trust, expected, clock), dialOptions(expected));
    try {
      return await new Promise((resolve, reject) =>
        client.whoAmI({}, (error, value) => (error ? reject(fromServiceError(error, 'whoAmI')) : resolve(value))),
      );
    } finally {
      client.close();
    }
  }

  /** Says it is a node and waits for the welcome. */
  async function register(trust: Trust): Promise<unknown> {
    const address = `127.0.0.1:${alice.coordinatorPort}`;
    const client = new MembershipClient(address, channelCredentials(trust, expected, clock), dialOptions(expected));
    const link = clientLink(client.link(), 'Register', clock);
    try {
      link.send(NodeMessage.create({ message: { $case: 'register', value: { disk: 'forged', wireVersion: 1 } } }));
      return await link.receive(signal());
    } finally {
      link.close();
      client.close();
    }
  }

  /** In TLS 1.3 a client learns only after its own part of the handshake that it was refused: by a close without a word. */
  async function refusedByNode(trust: Trust): Promise<void> {
    await assert.rejects(
      bulkTo(alice, 'node-1', trust).then(() => assert.fail('the node welcomed it')),
      (thrown) => {
        assert.ok(thrown instanceof CollectiveError, String(thrown));
        assert.ok(['unauthenticated', 'unavailable'].includes(thrown.code), thrown.message);
        return true;
      },
    );
  }

  async function enrolRaw(token: string, csr: Buffer): Promise<IssuedCertificate> {
    const address = `127.0.0.1:${alice.coordinatorPort}`;
    const client = new EnrolmentClient(
      address,
      enrolmentCredentials(bundlePem, expected, clock),
      dialOptions(expected),
    );
    try {
      return await new Promise((resolve, reject) =>
        client.enrol({ token, csr }, (error, value) =>
          error ? reject(fromServiceError(error, 'enrol')) : resolve(value),
        ),
      );
    } finally {
      client.close();
    }
  }
});

/** A TLS server that keeps every byte that it is told. */
class Impostor implements AsyncDisposable {
  connections = 0;
  heard = '';
  readonly #server: ReturnType<typeof createServer>;

  static async listen({ certificatePem, keyPem }: TrustPems): Promise<Impostor> {
    const impostor = new Impostor(certificatePem, keyPem);
    await new Promise<void>((resolve) => impostor.#server.listen(0, '127.0.0.1', resolve));
    return impostor;
  }

  private constructor(cert: string, key: string) {
    this.#server = createServer({ cert, key, ALPNProtocols: ['h2'], requestCert: true, rejectUnauthorized: false });
    this.#server.on('connection', () => this.connections++);
    this.#server.on('tlsClientError', () => undefined);
    this.#server.on('secureConnection', (socket) => {
      socket.on('data', (piece: Buffer) => {
        this.heard += piece.toString('latin1');
      });
      socket.on('error', () => undefined);
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function hello(): Buffer {
  const payload = BulkHello.encode({ wireVersion: 1, features: [], program: 'raw' }).finish();
  return encodeControlFrame('HELLO', 0, payload);
}

async function failsWith(code: ErrorCode, promise: Promise<unknown>, what: string): Promise<void> {
  await assert.rejects(
    promise.then((value) => assert.fail(`${what} was answered: ${JSON.stringify(value)?.slice(0, 200)}`)),
    (thrown) => {
      assert.ok(thrown instanceof CollectiveError, `${what}: ${String(thrown)}`);
      assert.equal(thrown.code, code, `${what}: ${thrown.message}`);
      return true;
    },
  );
}
