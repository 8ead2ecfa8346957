/** T5 in a cluster: tokens become certificates although no coordinator holds the key of the authority. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { SystemClock } from '@collective/base/system-clock';
import {
  type Admin,
  type AdminConnection,
  connect,
  connectAdmin,
  enrol,
  type KeptCertificateRequest,
  renewCertificate,
} from '@collective/client';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { type PeerRole, parseTrustDomain, type SpiffeId, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { readTrustPems, TrustFiles } from '@collective/protocol/tls/trust-files';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { until } from '../until.ts';
import { hasCondition, type KubeObject } from './api-client.ts';
import { LyingCoordinator } from './lying-coordinator.ts';
import { DOMAIN, MemberWorld, NAMESPACE, OPERATOR_AGENT } from './member-world.ts';
import { quiet } from './quiet.ts';

const WITHIN_MS = 60_000;
const GONE_WITHIN_MS = 30_000;
/** Longer than one call of the operator to a coordinator is held. */
const QUIET_MS = 25_000;
/** The operator looks at a member at rest every 45 s. */
const BEFORE_NEXT_LOOK_MS = 20_000;
const ROTATED_WITHIN_MS = 180_000;
/** Keys that one subject asks for at once; the bound is four. */
const FLOOD = 40;
const trustDomain = parseTrustDomain(`alice.${DOMAIN}`);
const ADDRESS = `alice-coordinator.${NAMESPACE}.svc:7420`;
const clock = new SystemClock();

const running = new AsyncDisposableStack();
let world: MemberWorld;
let operator: AdminConnection;
let admin: Admin;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
  await world.applyMember('alice');
  await world.ready('alice');
  operator = running.use(await world.admin('alice'));
  admin = operator.admin;
});
after(() => running.disposeAsync());

test('T5: a token becomes a certificate that stores and reads, and leaves no object behind', async () => {
  const credentials = folderOf('laptop');
  const { subject } = await enrolWith(await tokenFor('client', 'laptop'), 'client', 'laptop');
  assert.equal(subject, `spiffe://${trustDomain}/client/laptop`);
  await using session = await connect(optionsOf(credentials), { signal: AbortSignal.timeout(WITHIN_MS) });
  await session.files.write('/from-outside', seededBytes(7, 100_000));
  assert.equal(await sha256Of(session.files.read('/from-outside')), await sha256Of(seededBytes(7, 100_000)));
  await untilNoRequests();
  await until(async () => (await eventsOf('CertificateGiven')).length > 0, 'an event tells of it', WITHIN_MS);
  assert.match((await eventsOf('CertificateGiven'))[0]?.note ?? '', /client\/laptop$/);
});

test('T5: a node outside of the cluster gets a leaf that serves', async () => {
  await enrolWith(await tokenFor('node', 'attic'), 'node', 'attic');
  const leaf = new X509Certificate((await readTrustPems(folderOf('attic'))).certificatePem);
  assert.match(leaf.subjectAltName ?? '', new RegExp(`DNS:attic\\.node\\.${trustDomain}`));
  assert.equal(leaf.keyUsage?.length, 2);
});

test('T3, T5: who has a certificate renews it: a client that enrolled, and a user whose context was imported from its Secret', async () => {
  for (const credentials of [folderOf('laptop'), await world.identityFolder('alice-user-ann', 'alice')]) {
    using connection = await connectAdmin(optionsOf(credentials));
    using trust = await TrustFiles.load(credentials, { clock });
    const { leaf: old } = trust.current;
    await renewCertificate({ trust, admin: connection.admin, signal: AbortSignal.timeout(WITHIN_MS) });
    const { leaf } = trust.current;
    assert.equal(leaf.subjectAltName, old.subjectAltName);
    assert.notEqual(leaf.serialNumber, old.serialNumber);
    assert.ok(!leaf.publicKey.equals(old.publicKey), 'with a new key');
    assert.ok((await connection.admin.whoAmI()).subject.startsWith(`spiffe://${trustDomain}/`));
  }
});

test('T5: of two requests for one token the first gets a certificate and the other is refused, before and after', async () => {
  const token = await tokenFor('client', 'first');
  await enrolWith(token, 'client', 'first');
  await fails('token_invalid', enrolWith(token, 'client', 'first', 'second'));
  const both = await tokenFor('client', 'both');
  const ends = await Promise.allSettled(['a', 'b'].map((folder) => enrolWith(both, 'client', 'both', folder)));
  assert.deepEqual(ends.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
});

test('T5: a coordinator that is killed loses no approval, and an operator that comes later signs it', async () => {
  const token = await tokenFor('client', 'patient');
  await world.stopOperator();
  const gone = new AbortController();
  const given = assert.rejects(enrolWith(token, 'client', 'patient', 'patient', gone.signal), /client is gone/);
  await untilKept('client/patient');
  gone.abort(new Error('the client is gone'));
  await given;
  await world.kubelet.kill('alice-coordinator-0');
  const [kept] = await untilKept('client/patient');
  assert.ok(kept !== undefined);
  await fails('token_invalid', enrolWith(token, 'client', 'patient', 'thief'));
  const again = enrolWith(token, 'client', 'patient');
  await world.startOperator();
  await again;
  await using session = await connect(optionsOf(folderOf('patient')), { signal: AbortSignal.timeout(WITHIN_MS) });
  assert.equal((await session.admin.whoAmI()).name, 'patient');
});

test('T3a, T5: a subject that was removed gets no certificate, and its renewal is refused', async () => {
  await world.stopOperator();
  const token = await tokenFor('client', 'removed');
  const entering = fails('token_invalid', enrolWith(token, 'client', 'removed'));
  await untilKept('client/removed');
  await admin.removeSubject({ role: 'client', name: 'removed' });
  await world.startOperator();
  await entering;
  await untilNoRequests();
  using laptop = await connectAdmin(optionsOf(folderOf('laptop')));
  await admin.removeSubject({ role: 'client', name: 'laptop' });
  const { csr } = await makeCsr(spiffeId(trustDomain, 'client', 'laptop'));
  await fails('permission_denied', laptop.admin.renewCertificate(csr));
});

test('T5: a subject that asks without end is held back, and keeps nobody else out', async () => {
  await enrolWith(await tokenFor('client', 'greedy'), 'client', 'greedy');
  const from = world.server.auditEvents().length;
  using greedy = await connectAdmin(optionsOf(folderOf('greedy')));
  const asked = Array.from({ length: FLOOD }, async () => {
    const { csr } = await makeCsr(spiffeId(trustDomain, 'client', 'greedy'));
    return await greedy.admin.renewCertificate(csr, { signal: AbortSignal.timeout(WITHIN_MS) });
  });
  const entering = tokenFor('client', 'modest').then((token) => enrolWith(token, 'client', 'modest'));
  const ends = await Promise.allSettled(asked);
  await entering;
  const refused = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as CollectiveError] : []));
  assert.ok(refused.length >= FLOOD - 4, `${refused.length} of ${FLOOD} were refused`);
  for (const { code } of refused) assert.equal(code, 'overloaded');
  await untilNoRequests();
  const names = world.server
    .auditEvents()
    .slice(from)
    .filter(({ verb, objectRef }) => verb === 'patch' && objectRef?.resource === 'certificaterequests')
    .map(({ objectRef }) => objectRef?.name ?? '')
    .filter((name) => name.startsWith('alice-csr-'));
  assert.ok(new Set(names).size <= 5, [...new Set(names)].join());
});

test('T5: whatever a coordinator says that it has approved, nobody becomes coordinator, operator or another member by it', async () => {
  const own = await TrustFiles.load(await world.identityFolder('alice-coordinator-tls', 'alice'), { clock });
  running.use(own);
  const asking = await TrustFiles.load(await world.identityFolder('alice-operator-tls', 'alice'), { clock });
  running.use(asking);
  await using liar = await LyingCoordinator.start({
    own,
    operator: asking,
    expected: { trustDomain, role: 'coordinator' },
    behind: world.kubelet.resolve(ADDRESS),
  });
  const from = world.server.auditEvents().length;
  const bob = parseTrustDomain(`bob.${DOMAIN}`);
  const lies: readonly { claimed: SpiffeId; asked?: SpiffeId; says: RegExp }[] = [
    { claimed: spiffeId(trustDomain, 'coordinator'), says: /certificate of a coordinator is not given/ },
    { claimed: spiffeId(trustDomain, 'operator'), says: /certificate of a operator is not given/ },
    { claimed: spiffeId(bob, 'user', 'ann'), says: /another trust domain/ },
    {
      claimed: spiffeId(trustDomain, 'user', 'eve'),
      asked: spiffeId(trustDomain, 'coordinator'),
      says: /it asks for the name/,
    },
  ];
  for (const [index, { claimed, asked }] of lies.entries())
    liar.claim({ id: `lie-${index}`, subject: claimed.uri, csr: (await makeCsr(asked ?? claimed)).csr });
  world.detours.set(ADDRESS, `127.0.0.1:${liar.port}`);
  try {
    await world.server.admin.patch(world.member('alice'), { metadata: { annotations: { look: 'now' } } });
    await until(() => liar.answers.length >= lies.length, 'all of them are answered', WITHIN_MS);
  } finally {
    world.detours.delete(ADDRESS);
  }
  for (const [index, { says }] of lies.entries()) {
    const answer = liar.answers.find(({ id }) => id === `lie-${index}`)?.answer;
    assert.equal(answer?.$case, 'refused');
    assert.match(answer?.value ?? '', says);
  }
  const made = world.server
    .auditEvents()
    .slice(from)
    .filter(({ verb, objectRef }) => verb === 'patch' && objectRef?.resource === 'certificaterequests');
  assert.deepEqual(made, []);
  await until(async () => (await eventsOf('RequestRefused')).length >= lies.length, 'events tell of it', WITHIN_MS);
});

test('T4, T5: neither the key of the authority nor a token for an administrator lies with the coordinator', async () => {
  const claim = await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-coordinator'));
  const paths = await readdir(world.kubelet.volumeFolder(claim?.metadata.uid ?? ''), { recursive: true });
  const names = paths.map((path) => basename(path));
  assert.ok(names.includes('metadata.db'), paths.join());
  for (const name of ['bootstrap-token', 'ca', 'ca.key']) assert.ok(!names.includes(name), name);
});

test('K1, T5: an operator that listens for requests asks the apiserver nothing, and hears of one at once', async () => {
  await world.whenMember('alice', (alice) => hasCondition(alice, 'ReplicationHealthy'), 'is at rest', WITHIN_MS);
  await quiet(world.server, { userAgent: OPERATOR_AGENT, forMs: QUIET_MS, withinMs: 6 * QUIET_MS });
  const token = await tokenFor('client', 'sudden');
  await enrolWith(token, 'client', 'sudden', 'sudden', AbortSignal.timeout(BEFORE_NEXT_LOOK_MS));
});

test('T5, T6: a client that enrolled follows the next authority by itself, while its session stays open', async () => {
  const credentials = folderOf('sudden');
  await using session = await connect(optionsOf(credentials), { signal: AbortSignal.timeout(WITHIN_MS) });
  const before = await readTrustPems(credentials);
  await world.server.admin.patch(world.member('alice'), {
    metadata: { annotations: { 'collective.storage/rotate-ca': '1' } },
  });
  const leafNow = async (): Promise<X509Certificate> =>
    new X509Certificate((await readTrustPems(credentials)).certificatePem);
  const { issuer } = new X509Certificate(before.certificatePem);
  await until(async () => (await leafNow()).issuer !== issuer, 'its leaf is of the next authority', ROTATED_WITHIN_MS);
  await session.files.write('/after-the-rotation', seededBytes(8, 1_000));
  await untilNoRequests();
});

function folderOf(name: string): string {
  return join(world.server.folder, `enrolled-${name}`);
}

function optionsOf(credentials: string) {
  return { coordinator: world.kubelet.resolve(ADDRESS), trustDomain, credentials, connectWithinMs: 20_000 };
}

async function tokenFor(role: 'client' | 'user' | 'node', name: string): Promise<string> {
  return (await admin.createToken({ role, name, ttlSeconds: 600 })).token;
}

async function enrolWith(
  token: string,
  role: Extract<PeerRole, 'user' | 'client' | 'node'>,
  name: string,
  folder = name,
  signal = AbortSignal.timeout(WITHIN_MS),
): Promise<{ readonly subject: string }> {
  const trust = await world.server.admin.find(world.object('v1', 'ConfigMap', 'alice-trust'));
  const caPem = ((trust?.data ?? {}) as Readonly<Record<string, string>>)['trust.pem'] ?? '';
  const coordinator = world.kubelet.resolve(ADDRESS);
  return await enrol({ coordinator, trustDomain, caPem, token, role, name, credentials: folderOf(folder), signal });
}

async function untilKept(subject: string): Promise<readonly KeptCertificateRequest[]> {
  let kept: readonly KeptCertificateRequest[] = [];
  await until(
    async () => {
      world.kubelet.throwIfFailed();
      // While the coordinator starts it does not answer.
      const { requests } = await admin.certificateRequests.list().catch(() => ({ requests: [] }));
      kept = requests.filter((one) => one.subject.endsWith(`/${subject}`));
      return kept.length > 0;
    },
    `a request of ${subject} is kept`,
    WITHIN_MS,
  );
  return kept;
}

async function untilNoRequests(): Promise<void> {
  const left = async (): Promise<readonly KubeObject[]> =>
    (await world.server.admin.list('cert-manager.io/v1', 'CertificateRequest', NAMESPACE)).filter(({ metadata }) =>
      metadata.name.startsWith('alice-csr-'),
    );
  await until(async () => (await left()).length === 0, 'no CertificateRequest of ours is left', GONE_WITHIN_MS);
}

async function eventsOf(reason: string): Promise<readonly { readonly note?: string }[]> {
  const events = await world.server.admin.list('events.k8s.io/v1', 'Event', NAMESPACE);
  return events.filter((event) => event.reason === reason) as readonly { readonly note?: string }[];
}

async function fails(code: ErrorCode, attempt: Promise<unknown>): Promise<void> {
  await assert.rejects(attempt, (thrown: unknown) => {
    assert.ok(thrown instanceof CollectiveError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    return true;
  });
}
