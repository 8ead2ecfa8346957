/** What somebody without a certificate can cost the coordinator (T3): the real server, real TLS, HTTP/2 by hand. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { fromServiceError } from '@collective/protocol/errors/grpc-status';
import { AdminClient, EnrolmentClient } from '@collective/protocol/gen/admin';
import {
  channelCredentials,
  dialOptions,
  enrolmentCredentials,
  STRANGER_MESSAGE_BYTES_MAX,
} from '@collective/protocol/tls/grpc-credentials';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { type ExpectedServer, spiffeId } from '@collective/protocol/tls/spiffe-id';
import type { Trust } from '@collective/protocol/tls/trust-files';
import type { TrustSet } from '@collective/protocol/tls/trust-set';
import { issueLocally } from '../bootstrap.ts';
import { ALICE, MovableClock, openScratchMember, type ScratchMember } from '../membership/scratch-member.ts';
import { EmbeddedCa } from '../membership/signer/embedded-ca.ts';
import { putFirstUser } from '../membership/subjects.ts';
import { GrpcServer, type GrpcServerParts, STRANGER_CALLS_BURST } from './grpc-server.ts';
import { scratchAdmin, scratchTrash } from './scratch-admin.ts';

const clock = new SystemClock();
const folder = await mkdtemp(join(tmpdir(), 'collective-strangers-'));
after(() => rm(folder, { recursive: true, force: true }));
const ca = await EmbeddedCa.open({ folder, trustDomain: ALICE, clock, random: new SystemRandom() });
const expected: ExpectedServer = { trustDomain: ALICE, role: 'coordinator' };
const RESOURCE_EXHAUSTED = '8';
const ENROL = '/collective.v1.Enrolment/Enrol';

/** Boot time moves on only when told to; timers and wall time are real. */
class StillClock extends MovableClock {
  #bootMs = 0;

  moveBoot(byMs: number): void {
    this.#bootMs += byMs;
  }

  override bootMs(): number {
    return this.#bootMs;
  }
}

interface Serving extends AsyncDisposable {
  readonly port: number;
  readonly member: ScratchMember;
}

async function serve(given: Partial<GrpcServerParts> = {}): Promise<Serving> {
  const stack = new AsyncDisposableStack();
  const member = stack.use(await openScratchMember(ca));
  await member.engine.run((tx) => putFirstUser(tx, spiffeId(ALICE, 'user', 'ann')));
  const never = (): Promise<never> => Promise.reject(new CollectiveError('internal', 'Not called'));
  const parts = {
    trust: fixed(await issueLocally(ca, spiffeId(ALICE, 'coordinator'))),
    clock,
    log: silentLog,
    admin: scratchAdmin(member),
    trash: scratchTrash(member),
    enrolment: member.enrolment,
    acceptSession: never,
    acceptNode: never,
    ...given,
  };
  const server = stack.use(await GrpcServer.listen(parts, { host: '127.0.0.1', port: 0 }));
  return { port: server.port, member, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const fixed = (current: TrustSet): Trust => ({ current, onChange: () => () => undefined });

async function enrol(port: number, token: string, csr: Buffer): Promise<string> {
  const credentials = enrolmentCredentials(ca.bundlePem(), expected, clock);
  const client = new EnrolmentClient(`127.0.0.1:${port}`, credentials, dialOptions(expected));
  return await new Promise<string>((resolve, reject) => {
    client.enrol({ token, csr }, (error, value) =>
      error === null ? resolve(value.subject) : reject(fromServiceError(error, 'Enrol')),
    );
  }).finally(() => client.close());
}

async function newToken(member: ScratchMember): Promise<{ token: string; csr: Buffer }> {
  const wish = {
    role: 'node',
    name: 'node-7',
    ttlSeconds: 60,
    admin: false,
    trusted: false,
    realms: [],
    uid: undefined,
  };
  const { token } = await member.enrolment.createToken(wish);
  return { token, csr: (await makeCsr(spiffeId(ALICE, 'node', 'node-7'))).csr };
}

async function memberSeenByPeer(port: number): Promise<string> {
  const set = await issueLocally(ca, spiffeId(ALICE, 'user', 'ann'));
  const credentials = channelCredentials(fixed(set), expected, clock);
  const client = new AdminClient(`127.0.0.1:${port}`, credentials, dialOptions(expected));
  return await new Promise<string>((resolve, reject) => {
    client.getStatus({}, (error, value) => (error === null ? resolve(value.member) : reject(error)));
  }).finally(() => client.close());
}

async function strangerSession(port: number): Promise<ClientHttp2Session> {
  const session = connect(`https://127.0.0.1:${port}`, { ca: ca.bundlePem(), servername: 'coordinator.alice.home' });
  session.on('error', () => undefined);
  await once(session, 'remoteSettings');
  return session;
}

function openCall(session: ClientHttp2Session, path: string): ClientHttp2Stream {
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  const stream = session.request(headers, { endStream: false });
  stream.on('error', () => undefined);
  return stream;
}

/** The gRPC status that a call was ended with. */
async function statusOf(stream: ClientHttp2Stream): Promise<string> {
  const [headers] = (await once(stream, 'response')) as [Record<string, string>];
  if (headers['grpc-status'] !== undefined) return headers['grpc-status'];
  stream.resume();
  const [trailers] = (await once(stream, 'trailers')) as [Record<string, string>];
  return trailers['grpc-status'] ?? 'none';
}

const limits = { timeout: 60_000 };

test(
  'T3: a request that is too large is refused by the length that it announces, before it has come',
  limits,
  async () => {
    await using server = await serve();
    const session = await strangerSession(server.port);
    for (const path of [ENROL, '/collective.v1.Admin/GetStatus', '/collective.v1.Files/Session']) {
      const stream = openCall(session, path);
      const head = Buffer.alloc(5);
      head.writeUInt32BE(STRANGER_MESSAGE_BYTES_MAX + 1, 1);
      // The message itself is never sent.
      stream.write(head);
      const status = await statusOf(stream);
      // A session's stream is refused for its caller before it is read at all.
      assert.equal(status, path.endsWith('Session') ? '16' : RESOURCE_EXHAUSTED, path);
    }
    session.destroy();
    const { token, csr } = await newToken(server.member);
    await assert.rejects(enrol(server.port, token, Buffer.alloc(64 * 1024)), hasCode('overloaded'));
    await assert.rejects(enrol(server.port, token, Buffer.alloc(5_000)), hasCode('csr_refused'));
    assert.equal(await enrol(server.port, token, csr), 'spiffe://alice.home/node/node-7', 'the token is as it was');
  },
);

test('T3: a small request that unpacks to a large one is refused', limits, async () => {
  await using server = await serve();
  const { gzipSync } = await import('node:zlib');
  const packed = gzipSync(Buffer.alloc(4 * 1024 * 1024));
  assert.ok(packed.length < STRANGER_MESSAGE_BYTES_MAX);
  const session = await strangerSession(server.port);
  const headers = { ':method': 'POST', ':path': ENROL, 'content-type': 'application/grpc', 'grpc-encoding': 'gzip' };
  const stream = session.request(headers);
  const head = Buffer.alloc(5);
  head.writeUInt8(1, 0);
  head.writeUInt32BE(packed.length, 1);
  stream.end(Buffer.concat([head, packed]));
  assert.equal(await statusOf(stream), RESOURCE_EXHAUSTED);
  session.destroy();
});

test(
  'T3: connections that are held open keep nobody out: the oldest strangers give way, peers never',
  limits,
  async () => {
    // Few, so that all are there before the first has grown too old to stay.
    const strangersMax = 4;
    await using server = await serve({ strangersMax });
    const held: ClientHttp2Session[] = [];
    for (let i = 0; i < strangersMax; i++) held.push(await strangerSession(server.port));
    const [oldest, second] = held;
    assert.ok(oldest !== undefined && second !== undefined);
    assert.equal(await memberSeenByPeer(server.port), 'alice');
    assert.deepEqual([oldest.destroyed, second.destroyed], [false, false]);
    const gone = once(oldest, 'close');
    const { token, csr } = await newToken(server.member);
    assert.equal(await enrol(server.port, token, csr), 'spiffe://alice.home/node/node-7');
    await gone;
    assert.equal(second.destroyed, false);
    for (const session of held) session.destroy();
  },
);

test(
  'T3: a stranger that calls too often is refused for a while, a peer from the same address is not',
  limits,
  async () => {
    const still = new StillClock();
    await using server = await serve({ clock: still });
    const { token, csr } = await newToken(server.member);
    const session = await strangerSession(server.port);
    const call = async (): Promise<string> => {
      const stream = openCall(session, ENROL);
      stream.end(Buffer.alloc(5));
      return await statusOf(stream);
    };
    for (let i = 0; i < STRANGER_CALLS_BURST; i++) assert.equal(await call(), '16', 'a token of no characters');
    for (let i = 0; i < 10; i++) assert.equal(await call(), RESOURCE_EXHAUSTED);
    await assert.rejects(enrol(server.port, token, csr), hasCode('overloaded'));
    assert.equal(await memberSeenByPeer(server.port), 'alice');
    // Five a second.
    still.moveBoot(200);
    assert.deepEqual([await call(), await call()], ['16', RESOURCE_EXHAUSTED]);
    session.destroy();
  },
);

test('T3: a stranger has few streams at a time, and not for long', limits, async () => {
  await using server = await serve();
  const session = await strangerSession(server.port);
  assert.equal(session.remoteSettings.maxConcurrentStreams, 4);
  const startedMs = clock.bootMs();
  const stream = openCall(session, ENROL);
  await Promise.all([once(session, 'close'), once(stream, 'close')]);
  const heldMs = clock.bootMs() - startedMs;
  assert.ok(heldMs > 8_000 && heldMs < 40_000, `${heldMs} ms`);
});

test('T3: what does not speak HTTP/2, or says nothing, ends nothing but itself', limits, async () => {
  await using server = await serve();
  const plain = connectTcp(server.port, '127.0.0.1');
  plain.on('error', () => undefined);
  plain.write('GET / HTTP/1.1\r\n\r\n');
  plain.resume();
  const silent = connectTcp(server.port, '127.0.0.1');
  silent.on('error', () => undefined);
  silent.resume();
  const silentGone = once(silent, 'close');
  await once(plain, 'close');
  assert.equal(await memberSeenByPeer(server.port), 'alice');
  await silentGone;
});

function hasCode(code: string): (thrown: unknown) => boolean {
  return (thrown) => {
    assert.ok(thrown instanceof CollectiveError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    return true;
  };
}
