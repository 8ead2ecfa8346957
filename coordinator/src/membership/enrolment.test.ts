import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { SystemRandom } from '@collective/base/random';
import { CreateRealmRequest, type CreateTokenRequest, type IssuedCertificate } from '@collective/protocol/gen/admin';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import { type PeerRole, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { NO_ONE_ELSE, OperationContext } from '../ops/context.ts';
import { makeRealm } from '../ops/make-realm.ts';
import { THE_MEMBER } from '../session/realm-rights.ts';
import { prefixEnd } from '../tables/table.ts';
import { SUBJECTS, TOKENS } from '../tables/tables.ts';
import { ALICE, MovableClock, openScratchMember, type ScratchMember } from './scratch-member.ts';
import { EmbeddedCa } from './signer/embedded-ca.ts';
import { identityOf, putFirstUser, requireAdmin } from './subjects.ts';

const folder = await mkdtemp(join(tmpdir(), 'collective-enrolment-'));
after(() => rm(folder, { recursive: true, force: true }));
const ca = await EmbeddedCa.open({
  folder: join(folder, 'ca'),
  trustDomain: ALICE,
  clock: new MovableClock(),
  random: new SystemRandom(),
});

const hasCode =
  (code: string, says = /./) =>
  (thrown: unknown) => {
    assert.ok(thrown instanceof CollectiveError, String(thrown));
    assert.equal(thrown.code, code);
    assert.match(thrown.message, says);
    return true;
  };

test('T3: a token becomes a certificate for its name, for one key', async () => {
  await using member = await openScratchMember(ca);
  const { token, subject } = await member.enrolment.createToken(wish('user', 'ann'));
  assert.equal(subject, 'spiffe://alice.home/user/ann');
  assert.match(token, /^col1-[A-Za-z0-9_-]{43}$/);
  const issued = await enrol(member, token, 'user', 'ann');
  assert.equal(new X509Certificate(issued.certificatePem).subjectAltName, 'URI:spiffe://alice.home/user/ann');
  assert.equal(issued.bundlePem, ca.bundlePem());
  await assert.rejects(enrol(member, token, 'user', 'ann'), hasCode('token_invalid', /used before, with another key/));
});

test('T3: a lost answer does not cost the token: the same key is answered again, until its time is over', async () => {
  await using member = await openScratchMember(ca);
  const { token } = await member.enrolment.createToken({ ...wish('user', 'ann'), ttlSeconds: 60 });
  const { csr } = await makeCsr(spiffeId(ALICE, 'user', 'ann'));
  const keys = new Set<string>();
  for (const { certificatePem } of [
    await member.enrolment.enrol(token, csr),
    ...(await Promise.all([1, 2, 3].map(() => member.enrolment.enrol(token, csr)))),
  ])
    keys.add(new X509Certificate(certificatePem).publicKey.export({ type: 'spki', format: 'pem' }).toString());
  assert.equal(keys.size, 1);
  await assert.rejects(enrol(member, token, 'user', 'ann'), hasCode('token_invalid', /another key/));
  member.clock.moveWall(61);
  await assert.rejects(member.enrolment.enrol(token, csr), hasCode('token_invalid', /expired/));
});

test('T3a: a repeated enrolment takes back nothing that was decided about its subject meanwhile', async () => {
  await using member = await openScratchMember(ca);
  const { token, subject } = await member.enrolment.createToken({ ...wish('user', 'ann'), admin: true });
  const { csr } = await makeCsr(spiffeId(ALICE, 'user', 'ann'));
  await member.enrolment.enrol(token, csr);
  await member.engine.run((tx) => tx.remove(SUBJECTS, subject));
  await member.enrolment.enrol(token, csr);
  assert.equal(await member.engine.run((tx) => tx.get(SUBJECTS, subject)), undefined);
});

test('T3: of several keys that use one token at once, one gets a certificate', async () => {
  await using member = await openScratchMember(ca);
  const { token } = await member.enrolment.createToken(wish('user', 'ann'));
  const ends = await Promise.allSettled([1, 2, 3, 4].map(() => enrol(member, token, 'user', 'ann')));
  assert.deepEqual(ends.map(({ status }) => status).sort(), ['fulfilled', 'rejected', 'rejected', 'rejected']);
});

test('T3: only the hash of a token is stored', async () => {
  await using member = await openScratchMember(ca);
  const { token } = await member.enrolment.createToken(wish('user', 'ann'));
  const rows = await member.engine.run((tx) => tx.scan(TOKENS, TOKENS.prefix, prefixEnd(TOKENS.prefix), 10));
  assert.equal(rows.length, 1);
  assert.ok(!JSON.stringify(rows).includes(token.slice(5, 20)));
});

test('T3: a token ends with its time', async () => {
  await using member = await openScratchMember(ca);
  const { token } = await member.enrolment.createToken({ ...wish('user', 'ann'), ttlSeconds: 60 });
  assert.equal(await member.enrolment.isUsable(token), true);
  member.clock.moveWall(61);
  assert.equal(await member.enrolment.isUsable(token), false);
  await assert.rejects(enrol(member, token, 'user', 'ann'), hasCode('token_invalid', /expired/));
});

test('T5: a token is for exactly one name: a request for another is refused and leaves the token as it was', async () => {
  await using member = await openScratchMember(ca);
  const { token } = await member.enrolment.createToken(wish('user', 'ann'));
  await assert.rejects(enrol(member, token, 'user', 'eve'), hasCode('csr_refused', /user\/eve/));
  await assert.rejects(enrol(member, token, 'node', 'ann'), hasCode('csr_refused'));
  await assert.rejects(enrol(member, token, 'coordinator', ''), hasCode('csr_refused'));
  await enrol(member, token, 'user', 'ann');
});

for (const bad of ['', 'col1-', `col1-${'A'.repeat(43)}`, `col2-${'A'.repeat(43)}`, `col1-${'A'.repeat(5000)}`]) {
  test(`a token that nobody made is refused: '${bad.slice(0, 12)}' of ${bad.length} characters`, async () => {
    await using member = await openScratchMember(ca);
    await assert.rejects(enrol(member, bad, 'user', 'ann'), hasCode('token_invalid'));
  });
}

const badWishes: { name: string; wish: CreateTokenRequest; code: string }[] = [
  { name: 'for a coordinator', wish: wish('coordinator', ''), code: 'invalid_argument' },
  { name: 'for an operator', wish: wish('operator', ''), code: 'invalid_argument' },
  { name: 'for a name with a slash', wish: wish('user', 'ann/eve'), code: 'invalid_argument' },
  { name: 'for no name', wish: wish('user', ''), code: 'invalid_argument' },
  { name: 'for a node that is no DNS label', wish: wish('node', 'Node_1'), code: 'invalid_argument' },
  { name: 'for 31 days', wish: { ...wish('user', 'ann'), ttlSeconds: 31 * 86_400 }, code: 'invalid_argument' },
  { name: 'for uid 0', wish: { ...wish('user', 'ann'), uid: 0 }, code: 'invalid_argument' },
  { name: 'trusted and with a uid', wish: { ...wish('user', 'ann'), uid: 7, trusted: true }, code: 'invalid_argument' },
  {
    name: 'for a realm that is not there',
    wish: { ...wish('user', 'ann'), realms: [{ path: '/none', readOnly: false }] },
    code: 'not_found',
  },
];

for (const { name, wish: bad, code } of badWishes) {
  test(`no token is made ${name}`, async () => {
    await using member = await openScratchMember(ca);
    await assert.rejects(member.enrolment.createToken(bad), hasCode(code));
  });
}

test('T3a: a subject is squashed to a uid of its own, and keeps it when it enrols again', async () => {
  await using member = await openScratchMember(ca);
  const ann = await enrolled(member, wish('user', 'ann'));
  const ben = await enrolled(member, wish('user', 'ben'));
  assert.deepEqual([ann.uid, ann.gid, ann.trusted, ann.admin], [100_000, 100_000, false, false]);
  assert.equal(ben.uid, 100_001);
  assert.deepEqual(ann.realms, [{ realm: 1, path: '/', readOnly: false }]);
  const again = await enrolled(member, { ...wish('user', 'ann'), admin: true });
  assert.deepEqual([again.uid, again.admin], [100_000, true]);
  assert.equal((await enrolled(member, { ...wish('user', 'ann'), uid: 1_000 })).uid, 1_000);
  assert.equal((await enrolled(member, wish('user', 'cleo'))).uid, 100_002);
});

test('T3a: realms and rights are those of the token', async () => {
  await using member = await openScratchMember(ca);
  const realm = await member.engine.run((tx) =>
    makeRealm(new OperationContext(tx, THE_MEMBER, NO_ONE_ELSE), CreateRealmRequest.fromPartial({ path: '/photos' })),
  );
  const ann = await enrolled(member, { ...wish('client', 'backup'), realms: [{ path: 'photos/', readOnly: true }] });
  assert.deepEqual(ann.realms, [{ realm: realm.realm, path: '/photos', readOnly: true }]);
});

test('T3a: the first user is administrator and trusted; the operator administers without files; others do not', async () => {
  await using member = await openScratchMember(ca);
  const first = spiffeId(ALICE, 'user', 'ann');
  await member.engine.run((tx) => putFirstUser(tx, first));
  await enrolled(member, wish('user', 'ben'));
  const admin = (role: PeerRole, name: string): Promise<void> =>
    member.engine.run((tx) => requireAdmin(tx, peer(role, name), 'Create a token'));
  await admin('user', 'ann');
  await admin('operator', '');
  for (const [role, name] of [
    ['user', 'ben'],
    ['user', 'nobody'],
    ['node', 'node-1'],
    ['client', 'ann'],
  ] as const)
    await assert.rejects(admin(role, name), hasCode('permission_denied'));
  const operator = await member.engine.run((tx) => identityOf(tx, peer('operator', '')));
  assert.deepEqual([operator.admin, operator.realms], [true, []]);
  const ann = await member.engine.run((tx) => identityOf(tx, first));
  assert.deepEqual([ann.admin, ann.trusted, ann.uid], [true, true, 0]);
  // A second start changes nothing that was changed since.
  await member.engine.run((tx) =>
    tx.put(
      SUBJECTS,
      { uri: first.uri, admin: false, trusted: false, uid: 5, gid: 5, realms: [], created: undefined },
      first.uri,
    ),
  );
  await member.engine.run((tx) => putFirstUser(tx, first));
  await assert.rejects(admin('user', 'ann'), hasCode('permission_denied'));
});

test('T3: a node is enrolled like a user, and has no rights over files', async () => {
  await using member = await openScratchMember(ca);
  const { token } = await member.enrolment.createToken(wish('node', 'node-1'));
  const issued = await enrol(member, token, 'node', 'node-1');
  assert.match(new X509Certificate(issued.certificatePem).subjectAltName ?? '', /DNS:node-1.node.alice.home/);
  assert.equal(await member.engine.run((tx) => tx.get(SUBJECTS, issued.subject)), undefined);
});

test('T3: a peer renews for its own name only, and a forgotten user not at all', async () => {
  await using member = await openScratchMember(ca);
  await enrolled(member, wish('user', 'ann'));
  const { csr } = await makeCsr(spiffeId(ALICE, 'user', 'ann'));
  const renewed = await member.enrolment.renew(peer('user', 'ann'), csr);
  assert.equal(renewed.subject, 'spiffe://alice.home/user/ann');
  await assert.rejects(member.enrolment.renew(peer('node', 'node-1'), csr), hasCode('csr_refused'));
  await assert.rejects(
    member.enrolment.renew(peer('user', 'eve'), (await makeCsr(spiffeId(ALICE, 'user', 'eve'))).csr),
    hasCode('permission_denied', /token/),
  );
});

test('tokens that can no longer be used make room, and there is a bound of those that can', async () => {
  await using member = await openScratchMember(ca);
  for (let i = 0; i < 1_000; i++) await member.enrolment.createToken({ ...wish('user', 'ann'), ttlSeconds: 60 });
  await assert.rejects(member.enrolment.createToken(wish('user', 'ann')), hasCode('overloaded'));
  member.clock.moveWall(61);
  await member.enrolment.createToken(wish('user', 'ann'));
  const rows = await member.engine.run((tx) => tx.scan(TOKENS, TOKENS.prefix, prefixEnd(TOKENS.prefix), 10));
  assert.equal(rows.length, 1);
});

function wish(role: string, name: string): CreateTokenRequest {
  return { role, name, ttlSeconds: 0, admin: false, trusted: false, realms: [], uid: undefined };
}

async function enrol(member: ScratchMember, token: string, role: PeerRole, name: string): Promise<IssuedCertificate> {
  const { csr } = await makeCsr(spiffeId(ALICE, role, name));
  return await member.enrolment.enrol(token, csr);
}

async function enrolled(
  member: ScratchMember,
  request: CreateTokenRequest,
): Promise<Awaited<ReturnType<typeof identityOf>>> {
  const { token } = await member.enrolment.createToken(request);
  const role = request.role as PeerRole;
  await enrol(member, token, role, request.name);
  return await member.engine.run((tx) => identityOf(tx, peer(role, request.name)));
}

function peer(role: PeerRole, name: string): PeerIdentity {
  return { ...spiffeId(ALICE, role, name), fingerprint256: '', rootFingerprint256: '', notAfterMs: 0 };
}
