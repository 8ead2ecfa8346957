/** T6 against the real cert-manager: an authority is followed by the next while peers talk to each other without pause. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fingerprintOf } from '@collective/operator/ca/secret-data';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import { RESOURCES } from '@collective/operator/kube/resources';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { parseBundle } from '@collective/protocol/tls/trust-set';
import { CertManager } from './cert-manager.ts';
import { CertifiedMember, TRUST_DOMAIN } from './certified-member.ts';
import { namespaceNamed, operatorApi } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';
import { echo } from './tls-peers.ts';

const DAY_MS = 86_400_000;
const running = new AsyncDisposableStack();
let server: TestApiServer;
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  running.use(await CertManager.start(server));
  api = running.use(await operatorApi(server));
});
after(() => running.disposeAsync());

let members = 0;
async function startMember(): Promise<CertifiedMember> {
  const namespace = `photos-${++members}`;
  await server.admin.apply(namespaceNamed(namespace));
  return await new CertifiedMember(api, namespace, { overlap: '24h' }).start();
}

async function remove(
  member: CertifiedMember,
  kind: 'Secret' | 'Certificate' | 'ConfigMap',
  name: string,
): Promise<void> {
  const apiVersion = kind === 'Certificate' ? 'cert-manager.io/v1' : 'v1';
  await server.admin.remove({ apiVersion, kind, metadata: { name, namespace: member.namespace } });
}

const rootsOf = (member: CertifiedMember): readonly string[] => {
  const published = member.object(RESOURCES.configMaps, 'alice-trust');
  const data = (published?.data ?? {}) as Readonly<Record<string, string>>;
  return parseBundle(data['trust.pem'] ?? '', 'the bundle').map(fingerprintOf);
};

/** Until the generation alone is trusted, with the days of the overlap behind it. */
async function rotated(member: CertifiedMember, generation: number): Promise<void> {
  await member.until(
    () => member.authority?.generation === generation && member.authority.phase === 'Retiring',
    `all certificates are of generation ${generation}`,
  );
  member.aheadMs += DAY_MS;
  const old = `alice-ca-g${generation - 1}`;
  await member.until(
    () =>
      member.authority?.phase === 'Stable' &&
      [RESOURCES.secrets, RESOURCES.issuers, RESOURCES.certificates].every(
        (one) => member.object(one, old) === undefined,
      ),
    'the old authority is gone',
  );
  await member.moreTurns(member.peers.length + 1);
}

test('T6: a rotation by annotation ends, no connection of a running member fails in it, and the old leaf is refused after it', async () => {
  await using member = await startMember();
  const [first] = rootsOf(member);
  const before = member.peer('user/ann').set;
  member.trigger = 'please';
  await rotated(member, 2);
  assert.deepEqual(member.failures, []);
  const [second, ...others] = rootsOf(member);
  assert.deepEqual(others, []);
  assert.notEqual(second, first);
  assert.deepEqual(
    member.peers.map(({ report }) => report.rootFingerprint?.replaceAll(':', '').toLowerCase()),
    member.peers.map(() => second),
  );
  // With the new roots, but the leaf of the old one.
  const now = member.peer('user/ann').set;
  assert.ok(before !== undefined && now !== undefined);
  const stale = { ...before, roots: now.roots, bundlePem: now.bundlePem };
  await assert.rejects(async () => await echo(await member.peer('user/ann').dial(member.peer('coordinator'), stale)));
  assert.deepEqual(member.events, [
    'AuthorityCreated',
    'AuthorityRotationStarted',
    'AuthorityDistributing',
    'AuthorityReissuing',
    'AuthorityRetiring',
    'AuthorityRotated',
  ]);
  const { writes } = member;
  await member.moreTurns(10);
  assert.equal(member.writes, writes, 'nothing is written when nothing has changed');
});

test('T6: a deleted Secret of the authority comes back with another key, which is never trusted; no connection fails', async () => {
  await using member = await startMember();
  const [first = ''] = rootsOf(member);
  await remove(member, 'Secret', 'alice-ca-g1');
  await member.until(
    () => member.authority?.phase === 'Reissuing' || member.authority?.phase === 'Retiring',
    'leaves move',
  );
  assert.ok(rootsOf(member).includes(first));
  assert.equal(rootsOf(member).length, 2);
  await rotated(member, 2);
  assert.deepEqual(member.failures, []);
});

test('T6: another duration in spec.ca begins the next generation', async () => {
  await using member = await startMember();
  member.ca = { ...member.ca, duration: '8760h' };
  await rotated(member, 2);
  assert.deepEqual(member.failures, []);
  const days = (Date.parse(member.authority?.generations?.[0]?.notAfter ?? '') - clockMs(member)) / DAY_MS;
  assert.ok(days > 360 && days < 366, `it ends in ${days} days`);
});

test('T6: leaves heal: a deleted Secret, and one with a foreign leaf that cert-manager takes for good', async () => {
  await using member = await startMember();
  const uid = (): string | undefined => member.object(RESOURCES.secrets, 'alice-disk-0-tls')?.metadata.uid;
  const lost = uid();
  await remove(member, 'Secret', 'alice-disk-0-tls');
  await member.until(
    () => uid() !== undefined && uid() !== lost && member.plan?.ready.has('alice-disk-0-tls') === true,
    'it is issued anew',
  );
  const foreign = await ScratchAuthority.create(parseTrustDomain(TRUST_DOMAIN));
  // Over the same key: nothing that cert-manager compares has changed.
  const certificatePem = await foreign.sign(await requestOf(member, 'alice-disk-1-tls'));
  await server.admin.patch(
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'alice-disk-1-tls', namespace: member.namespace } },
    { data: { 'tls.crt': Buffer.from(certificatePem).toString('base64') } },
  );
  await member.until(() => member.plan?.ready.has('alice-disk-1-tls') === false, 'the foreign leaf is seen');
  member.aheadMs += 60_000;
  await member.until(() => member.plan?.ready.size === member.peers.length, 'it is issued anew');
  assert.deepEqual(member.failures, []);
  assert.equal(member.authority?.generation, 1);
});

test('T4, T6: an edited or deleted bundle is put right, and what was written into it is not believed', async () => {
  await using member = await startMember();
  const honest = rootsOf(member);
  const foreign = await ScratchAuthority.create(parseTrustDomain(TRUST_DOMAIN));
  const reference = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'alice-trust', namespace: member.namespace },
  };
  await server.admin.patch(reference, { data: { 'trust.pem': foreign.bundlePem } });
  await member.until(() => member.events.includes('TrustBundleRestored'), 'the change is seen');
  await member.moreTurns();
  assert.deepEqual(rootsOf(member), honest);
  await remove(member, 'ConfigMap', 'alice-trust');
  await server.admin.when(reference, () => true, 'is back');
  await member.moreTurns();
  assert.deepEqual(rootsOf(member), honest);
});

test('K3: a Member that is created again finds its authority, and peers that were away find theirs', async () => {
  await using member = await startMember();
  const honest = rootsOf(member);
  const away = member.peer('user/ann').set;
  await member.pause();
  // What is owned by a Member goes with it; here nobody collects it.
  for (const { wish } of member.peers) {
    await remove(member, 'Certificate', wish.name);
    await remove(member, 'Secret', wish.name);
  }
  await remove(member, 'ConfigMap', 'alice-trust');
  for (const request of await server.admin.list('cert-manager.io/v1', 'CertificateRequest', member.namespace))
    await server.admin.remove(request);
  member.status = undefined;
  member.uid = 'second';
  member.resume();
  await member.until(() => member.events.includes('AuthorityFound'), 'the authority is found');
  await member.until(() => member.plan?.ready.size === member.peers.length, 'leaves are issued anew');
  await member.moreTurns(member.peers.length);
  assert.deepEqual(rootsOf(member), honest);
  assert.equal(member.authority?.generation, 1);
  const socket = await member.peer('user/ann').dial(member.peer('coordinator'), away);
  await echo(socket);
  socket.destroy();
});

function clockMs(member: CertifiedMember): number {
  return Date.parse(member.authority?.generations?.[0]?.created ?? '');
}

/** DER of what cert-manager asked for last. */
async function requestOf(member: CertifiedMember, certificate: string): Promise<Buffer> {
  const requests = await server.admin.list('cert-manager.io/v1', 'CertificateRequest', member.namespace);
  const found = requests.find(
    ({ metadata }) => metadata.annotations?.['cert-manager.io/certificate-name'] === certificate,
  );
  const { request } = (found?.spec ?? { request: '' }) as { request: string };
  const pem = Buffer.from(request, 'base64').toString('utf8');
  return Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
}
