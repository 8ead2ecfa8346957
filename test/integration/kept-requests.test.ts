/** T5: a member whose authority is elsewhere: the real coordinator keeps requests, the test signs them as an operator does. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { SystemClock } from '@collective/base/system-clock';
import {
  type Admin,
  ContextStore,
  connect,
  connectAdmin,
  contextLocation,
  enrol,
  type KeptCertificateRequest,
} from '@collective/client';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { MemoryTrust } from '@collective/protocol/tls/memory-trust';
import { requestRenewal } from '@collective/protocol/tls/request-renewal';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { readTrustPems, writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { TcpProxy } from '../tcp-proxy.ts';
import { CliWorld, until } from './cli-world.ts';
import { MountedMember } from './mounted-member.ts';
import { domainOf, signal } from './raw-session.ts';

const DOMAIN = domainOf('alice.photos.test');
const DAY_MS = 86_400_000;
const WITHIN_MS = 30_000;
/** A coordinator tells a caller after eight seconds to ask again, and cuts strangers off after ten. */
const SLOW_MS = 12_000;
const PATIENCE_MS = 90_000;
const clock = new SystemClock();

describe('a member whose authority is elsewhere', () => {
  let authority: ScratchAuthority;
  let member: MountedMember;
  let world: CliWorld;
  let admin: Admin;
  let caFile: string;

  before(async () => {
    authority = await ScratchAuthority.create(DOMAIN);
    member = await MountedMember.start(authority, { nodes: 1 });
    world = await CliWorld.create();
    admin = member.operator.admin;
    caFile = join(world.work, 'trust.pem');
    await writeFile(caFile, authority.bundlePem);
  });
  after(async () => {
    await world?.[Symbol.asyncDispose]();
    await member?.[Symbol.asyncDispose]();
  });
  afterEach((t) => member?.printLogs(t));

  const coordinator = (): string => `127.0.0.1:${member.coordinatorPort}`;

  const tokenFor = async (role: 'client' | 'user', name: string): Promise<string> =>
    (await admin.createToken({ role, name, ttlSeconds: 600 }, { signal: signal() })).token;

  const enrolWith = async (
    token: string,
    name: string,
    folder = name,
    stop = signal(),
    at = coordinator(),
  ): Promise<unknown> =>
    await enrol({
      coordinator: at,
      trustDomain: DOMAIN,
      caPem: authority.bundlePem,
      token,
      role: 'client',
      name,
      credentials: join(member.folder, folder),
      signal: stop,
    });

  /** Of a subject; all that is kept for it is answered. */
  const signFor = async (subject: string, afterMs = 0): Promise<readonly KeptCertificateRequest[]> => {
    const kept = await keptFor(subject);
    await sleep(clock, afterMs);
    for (const { id, csr } of kept) {
      const certificatePem = await authority.sign(csr);
      assert.equal(await admin.certificateRequests.answer(id, { certificatePem }, { signal: signal() }), true);
    }
    return kept;
  };

  const keptFor = async (subject: string): Promise<readonly KeptCertificateRequest[]> => {
    let kept: readonly KeptCertificateRequest[] = [];
    await until(
      async () => {
        const { requests } = await admin.certificateRequests.list({}, { signal: signal() });
        kept = requests.filter((one) => one.subject.endsWith(`/${subject}`));
        return kept.length > 0;
      },
      `a request of ${subject} is kept`,
      WITHIN_MS,
    );
    return kept;
  };

  const serialIn = async (folder: string): Promise<string> =>
    new X509Certificate((await readTrustPems(folder)).certificatePem).serialNumber;

  test('T5: a token lets a person in by `collective init`, however long it takes to be signed, and `auth renew` renews', async () => {
    const token = await tokenFor('user', 'bea');
    const flags = ['--coordinator', coordinator(), '--ca-cert', caFile, '--user', 'bea', '--current'];
    const entering = world.run(['init', 'alice', ...flags, '--token', token]);
    await signFor('user/bea', SLOW_MS);
    const entered = await entering;
    assert.equal(entered.exit, 0, entered.err);
    assert.match(await world.ok(['auth', 'whoami']), /user\/bea/);

    const folder = new ContextStore(contextLocation(world.env)).credentialsOf('alice');
    const before = await serialIn(folder);
    const renewing = world.run(['auth', 'renew']);
    await signFor('user/bea');
    assert.equal((await renewing).exit, 0);
    assert.notEqual(await serialIn(folder), before);
    assert.match(await world.ok(['auth', 'whoami']), /user\/bea/);
  });

  test('T5: no token for an administrator lies in the data of a coordinator that cannot sign', async () => {
    await assert.rejects(access(join(member.folder, 'data', 'bootstrap-token')), { code: 'ENOENT' });
    await assert.rejects(access(join(member.folder, 'data', 'ca')), { code: 'ENOENT' });
  });

  test('T5: an approval outlives a coordinator that is killed: the same request gets its certificate, another key none', async () => {
    const token = await tokenFor('client', 'laptop');
    const stop = new AbortController();
    const entering = enrolWith(token, 'laptop', 'laptop', stop.signal);
    const given = assert.rejects(entering, /client is gone/);
    const [before] = await keptFor('client/laptop');
    stop.abort(new Error('the client is gone'));
    await given;
    await member.coordinator.kill();
    await member.coordinator.start();
    await fails('token_invalid', enrolWith(token, 'laptop', 'thief'));
    const again = enrolWith(token, 'laptop');
    const [after] = await signFor('client/laptop');
    assert.equal(after?.id, before?.id);
    await again;
    await using session = await connect(member.connectOptions(join(member.folder, 'laptop')), { signal: signal() });
    assert.equal((await session.admin.whoAmI()).subject, `spiffe://${DOMAIN}/client/laptop`);
    await fails('token_invalid', enrolWith(token, 'laptop', 'thief'));
  });

  test('T5: who waits while the coordinator is killed and comes back need not ask again', async () => {
    const token = await tokenFor('client', 'patient');
    const entering = enrolWith(token, 'patient', 'patient', AbortSignal.timeout(PATIENCE_MS));
    await keptFor('client/patient');
    // It is told once that its request waits; from then on it knows that there is something to wait for.
    await sleep(clock, SLOW_MS);
    await member.coordinator.kill();
    await member.coordinator.start();
    await signFor('client/patient');
    await entering;
  });

  /** Once it knows that its request waits, the connection breaks, and nobody answers its next dial, as behind a coordinator that moves. */
  const acrossSilence = async (subject: string, ask: (at: string) => Promise<unknown>): Promise<void> => {
    await using proxy = await TcpProxy.to(member.coordinatorPort);
    const asking = ask(`127.0.0.1:${proxy.port}`);
    await keptFor(subject);
    await sleep(clock, SLOW_MS);
    proxy.silence();
    proxy.cut();
    await sleep(clock, SLOW_MS);
    proxy.speak();
    await signFor(subject);
    await asking;
  };

  test('T5: who waits need not ask again after a dial that nobody answered', async () => {
    const token = await tokenFor('client', 'stranded');
    await acrossSilence('client/stranded', (at) =>
      enrolWith(token, 'stranded', 'stranded', AbortSignal.timeout(PATIENCE_MS), at),
    );
  });

  test('T5: nor need who renews a certificate', async () => {
    const identity = await authority.peer('user', 'ann');
    const { csr } = await makeCsr(identity.id);
    const trust = new MemoryTrust(identity);
    await acrossSilence('user/ann', (coordinator) => requestRenewal({ trust, clock, coordinator, csr }));
  });

  test('T3, T5: requests are for the operator alone', async () => {
    const credentials = join(member.folder, 'ann');
    await writeTrustFiles(credentials, await authority.peer('user', 'ann'));
    using ann = await connectAdmin(member.connectOptions(credentials));
    await fails('permission_denied', ann.admin.certificateRequests.list());
    await fails('permission_denied', ann.admin.certificateRequests.answer('any', { refused: 'no' }));
    assert.equal(await admin.certificateRequests.answer('unknown', { refused: 'no' }), false);
  });

  test('T3, T5: a session renews its certificate by itself when two thirds of its life are over', async () => {
    const credentials = join(member.folder, 'ann-old');
    const dates = { notBefore: new Date(Date.now() - 25 * DAY_MS), notAfter: new Date(Date.now() + 5 * DAY_MS) };
    await writeTrustFiles(credentials, await authority.peer('user', 'ann', dates));
    const before = await serialIn(credentials);
    await using session = await connect(member.connectOptions(credentials), { signal: signal() });
    await signFor('user/ann');
    await until(async () => (await serialIn(credentials)) !== before, 'the certificate is new', WITHIN_MS);
    assert.equal((await session.admin.whoAmI()).name, 'ann');
  });

  test('T5: a request that will not be signed is refused with the reason', async () => {
    const token = await tokenFor('client', 'unwanted');
    const entering = assert.rejects(enrolWith(token, 'unwanted'), /csr_refused|not on Sundays/);
    const [one] = await keptFor('client/unwanted');
    await admin.certificateRequests.answer(one?.id ?? '', { refused: 'not on Sundays' });
    await entering;
  });

  test('T3a, T5: a subject that is removed while it waits gets nothing', async () => {
    const token = await tokenFor('client', 'removed');
    const entering = fails('token_invalid', enrolWith(token, 'removed'));
    const [one] = await keptFor('client/removed');
    await admin.removeSubject({ role: 'client', name: 'removed' }, { signal: signal() });
    const certificatePem = await authority.sign(one?.csr ?? Buffer.alloc(0));
    assert.equal(await admin.certificateRequests.answer(one?.id ?? '', { certificatePem }), false);
    await entering;
    await assert.rejects(readFile(join(member.folder, 'removed', 'tls.crt')), { code: 'ENOENT' });
  });

  test('T5: a coordinator that stops does not wait for those who wait', async () => {
    const token = await tokenFor('client', 'late');
    const entering = enrolWith(token, 'late').catch((thrown: unknown) => thrown);
    await keptFor('client/late');
    const { mark: after } = await admin.certificateRequests.list({}, { signal: signal() });
    const listening = admin.certificateRequests.list({ after, waitSeconds: 60 }).catch(() => undefined);
    const { exit } = await member.coordinator.end();
    assert.equal(exit, 0, 'its stop did not take too long');
    await Promise.all([entering, listening]);
    await member.coordinator.start();
  });
});

async function fails(code: ErrorCode, attempt: Promise<unknown>): Promise<void> {
  await assert.rejects(attempt, (thrown: unknown) => {
    assert.ok(thrown instanceof CollectiveError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    return true;
  });
}
