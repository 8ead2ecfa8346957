import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { type AdminConnection, connectAdmin, connect as connectMember, enrol, type Member } from '@collective/client';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { MemoryTrust } from '@collective/protocol/tls/memory-trust';
import type { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { spiffeId } from '@collective/protocol/tls/spiffe-id';
import { readTrustPems, writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { TcpProxy } from '../tcp-proxy.ts';
import { until } from './cli-world.ts';
import { freePorts } from './free-ports.ts';
import { domainOf, signal, stolenAuthority } from './raw-session.ts';
import { RunningMember } from './running-member.ts';

const OPERATOR = 'spiffe://alice.home/operator';

describe('the operator with an identity in memory', () => {
  let member: RunningMember;
  let authority: ScratchAuthority;
  let trust: MemoryTrust;

  before(async () => {
    member = await RunningMember.start();
    authority = await stolenAuthority(member);
    trust = new MemoryTrust(await authority.peer('operator'));
  });
  after(() => member?.[Symbol.asyncDispose]());
  afterEach((t) => member?.printLogs(t));

  const connect = (port = member.coordinatorPort, change = {}): Promise<AdminConnection> =>
    connectAdmin({ coordinator: `127.0.0.1:${port}`, trustDomain: member.trustDomain, trust, ...change });

  test('T3a, T4: it administers without files, and a replaced identity is shown from the next call on', async () => {
    using connection = await connect();
    const { admin } = connection;
    const me = await admin.whoAmI({ signal: signal() });
    assert.deepEqual([me.subject, me.admin, me.realms], [OPERATOR, true, []]);
    assert.deepEqual(
      (await admin.status({ signal: signal() })).nodes.map(({ name }) => name),
      ['node-1', 'node-2'],
    );
    await fails('permission_denied', admin.trash.list()[Symbol.asyncIterator]().next());

    // A long answer goes on over the connection that it began on.
    const backup = admin.backup({ signal: signal() })[Symbol.asyncIterator]();
    assert.ok((await backup.next()).value);
    const asking = Array.from({ length: 20 }, () => admin.whoAmI({ signal: signal() }));
    assert.ok(trust.replace(await authority.peer('operator')));
    for (const { subject } of await Promise.all(asking)) assert.equal(subject, OPERATOR);
    let pieces = 1;
    while (!(await backup.next()).done) pieces++;
    assert.ok(pieces > 1, 'the backup came to its end');
    assert.equal((await admin.whoAmI({ signal: signal() })).subject, OPERATOR);
  });

  test('T3a: a dial that nobody answers costs the call that waited for it, and not those after it', async () => {
    await using proxy = await TcpProxy.to(member.coordinatorPort);
    using connection = await connect(proxy.port, { callWithinMs: 2_000 });
    const { admin } = connection;
    proxy.silence();
    await fails('deadline_exceeded', admin.whoAmI());
    proxy.speak();
    assert.equal((await admin.whoAmI()).subject, OPERATOR);
  });

  test('T3a: it writes subjects: the same again changes nothing, a changed right counts at once for open sessions', async () => {
    using connection = await connect();
    const { admin } = connection;
    await admin.createRealm({ path: '/photos' }, { signal: signal() });
    const bea = { role: 'user', name: 'bea', uid: 4242 } as const;
    const first = await admin.putSubject({ ...bea, realms: [{ path: '/photos', readOnly: true }] });
    assert.deepEqual([first.subject, first.uid, first.admin], ['spiffe://alice.home/user/bea', 4242, false]);
    assert.deepEqual(await admin.putSubject({ ...bea, realms: [{ path: '/photos', readOnly: true }] }), first);
    const { uid } = await admin.putSubject({ role: 'client', name: 'backup', realms: [{ path: '/photos' }] });
    assert.ok(uid >= 100_000, `a uid of its own: ${uid}`);
    await fails('not_found', admin.putSubject({ ...bea, realms: [{ path: '/nowhere' }] }));
    await fails('invalid_argument', admin.putSubject({ ...bea, trusted: true }));
    const ann = await member.connect();
    await ann.files.setAttributes('/photos', { mode: 0o777 });

    await using session = await connectAs('bea');
    await fails('read_only', session.files.write('/photos/a', Buffer.from('a')));
    const second = await admin.putSubject({ role: 'user', name: 'bea', realms: [{ path: '/photos' }] });
    assert.equal(second.uid, 4242, 'files belong to uids: it keeps its own');
    await until(
      async () => {
        try {
          await session.files.write('/photos/a', Buffer.from('a'));
          return true;
        } catch (thrown) {
          if (thrown instanceof CollectiveError && thrown.code === 'read_only') return false;
          throw thrown;
        }
      },
      'the session has the new right',
      20_000,
      () => 'read only',
    );
    await fails('permission_denied', session.admin.putSubject({ ...bea, admin: true }));
  });

  test('T3a: a removed subject is refused although its certificate is valid: session, status, renewal, token', async () => {
    using connection = await connect();
    const { admin } = connection;
    const cleo = { role: 'user', name: 'cleo' } as const;
    await admin.putSubject(cleo);
    const { token } = await admin.createToken({ ...cleo, ttlSeconds: 600 });
    await using session = await connectAs('cleo');
    assert.deepEqual(await admin.removeSubject(cleo), { existed: true, sessions: 1 });
    assert.deepEqual(await admin.removeSubject(cleo), { existed: false, sessions: 0 });
    await assert.rejects(session.files.readAll('/nothing', { signal: AbortSignal.timeout(3_000) }));
    await fails('permission_denied', connectAs('cleo'));
    using hers = await connectAdmin(member.connectOptions({ credentials: join(member.folder, 'cleo') }));
    await fails('permission_denied', hers.admin.status());
    await fails('permission_denied', hers.admin.createToken({ ...cleo, ttlSeconds: 600 }));
    const { csr } = await makeCsr(spiffeId(domainOf('alice.home'), 'user', 'cleo'));
    await fails('permission_denied', hers.admin.renewCertificate(csr));
    await fails('token_invalid', enrolWith(token, join(member.folder, 'cleo-again')));
    using ann = await connectAdmin(member.connectOptions());
    await fails('invalid_argument', ann.admin.removeSubject({ role: 'user', name: 'ann' }));
    assert.ok((await admin.subjects()).every(({ subject }) => subject !== 'spiffe://alice.home/user/cleo'));
  });

  const connectAs = async (name: string): Promise<Member> => {
    const credentials = join(member.folder, name);
    await writeTrustFiles(credentials, await authority.peer('user', name));
    return await connectMember(member.connectOptions({ credentials }), { signal: signal() });
  };

  const enrolWith = async (token: string, credentials: string): Promise<unknown> =>
    await enrol({
      ...member.connectOptions(),
      caPem: authority.bundlePem,
      token,
      role: 'user',
      name: 'cleo',
      credentials,
      signal: signal(),
    });

  test('T3: a member that cannot be reached fails within the deadline of the call, and says why', async () => {
    const [port] = await freePorts(1);
    using connection = await connect(port, { callWithinMs: 20_000 });
    await fails('unavailable', connection.admin.status());
    member.coordinator.freeze();
    try {
      using frozen = await connect(member.coordinatorPort, { callWithinMs: 500 });
      await fails('deadline_exceeded', frozen.admin.whoAmI());
      await assert.rejects(
        frozen.admin.whoAmI({ signal: AbortSignal.abort(new Error('no time')) }),
        /no time/,
        'and with the signal of the caller',
      );
    } finally {
      member.coordinator.thaw();
    }
  });

  test("T1: another member's identity is refused before anything is dialled", async () => {
    const folder = join(member.folder, 'ann');
    const ann = new MemoryTrust(await readTrustPems(folder));
    await fails('wrong_member', connectAdmin({ coordinator: 'localhost:1', trustDomain: 'bob.home', trust: ann }));
  });
});

async function fails(code: ErrorCode, attempt: Promise<unknown>): Promise<void> {
  await assert.rejects(attempt, (thrown: unknown) => {
    assert.ok(thrown instanceof CollectiveError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    return true;
  });
}
