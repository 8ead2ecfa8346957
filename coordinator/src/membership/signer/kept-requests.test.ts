/** T5: what was approved is kept until it is signed elsewhere, and only what was asked for is handed out. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { SystemRandom } from '@collective/base/random';
import type { CreateTokenRequest } from '@collective/protocol/gen/admin';
import { checkCsr } from '@collective/protocol/tls/check-csr';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { parseSpiffeId, type SpiffeId, spiffeId } from '@collective/protocol/tls/spiffe-id';
import type { TrustSet } from '@collective/protocol/tls/trust-set';
import { issueLocally } from '../../bootstrap.ts';
import { REQUESTS, SUBJECTS } from '../../tables/tables.ts';
import { ALICE, MovableClock, openScratchMember, ScratchDisks, type ScratchMember } from '../scratch-member.ts';
import { SubjectAdmin } from '../subject-admin.ts';
import { EmbeddedCa } from './embedded-ca.ts';
import { KeptRequests, type ListedRequest } from './kept-requests.ts';
import { REQUESTS_MAX, REQUESTS_OF_A_SUBJECT_MAX, requestKeyOf } from './request-rows.ts';
import { signerContract } from './signer-contract.ts';

const folder = await mkdtemp(join(tmpdir(), 'collective-kept-'));
after(() => rm(folder, { recursive: true, force: true }));
const ca = await EmbeddedCa.open({
  folder: join(folder, 'ca'),
  trustDomain: ALICE,
  clock: new MovableClock(),
  random: new SystemRandom(),
});
const own = await issueLocally(ca, spiffeId(ALICE, 'coordinator'));
const ann = spiffeId(ALICE, 'user', 'ann');
const SOON_MS = 200;
const IN_TIME_MS = 20_000;

interface Keeping extends ScratchMember {
  readonly requests: KeptRequests;
}

async function open({
  signedWithinMs = IN_TIME_MS,
  disks,
  clock,
  current = own,
}: {
  signedWithinMs?: number;
  disks?: ScratchDisks;
  clock?: MovableClock;
  current?: TrustSet;
} = {}): Promise<Keeping> {
  let requests: KeptRequests | undefined;
  const member = await openScratchMember(
    ({ engine, clock: its }) => {
      requests = new KeptRequests({ engine, clock: its, trust: { current }, epoch: engine.epoch, signedWithinMs });
      return requests;
    },
    clock,
    disks,
  );
  assert.ok(requests !== undefined);
  return { ...member, requests };
}

/** As the operator does it: with the real authority, whatever is asked for. */
async function signFor({ subject, csr }: ListedRequest): Promise<string> {
  return (await ca.sign(await checkCsr(csr, parseSpiffeId(subject)))).certificatePem;
}

async function answerAll({ requests }: Pick<Keeping, 'requests'>): Promise<number> {
  const listed = await requests.list({ waitMs: IN_TIME_MS });
  for (const one of listed.requests) await requests.answer(one.id, { certificatePem: await signFor(one) });
  return listed.requests.length;
}

const hasCode =
  (code: string, says = /./) =>
  (thrown: unknown) => {
    assert.ok(thrown instanceof CollectiveError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, says);
    return true;
  };

const running = new AsyncDisposableStack();
after(() => running.disposeAsync());
signerContract('kept', ALICE, async () => {
  const member = running.use(await open());
  const stop = new AbortController();
  const answering = (async () => {
    for (let after = ''; !stop.signal.aborted; ) {
      const { requests, mark } = await member.requests.list({ after, waitMs: IN_TIME_MS }, stop.signal);
      for (const one of requests) await member.requests.answer(one.id, { certificatePem: await signFor(one) });
      after = mark;
    }
  })().catch(() => undefined);
  running.defer(async () => {
    stop.abort();
    await answering;
  });
  return member.requests;
});

test('T5: an enrolment waits until its request was fetched and answered', async () => {
  await using member = await open();
  const { token } = await member.enrolment.createToken(wish('user', 'ann'));
  const { csr } = await makeCsr(ann);
  const enrolling = member.enrolment.enrol(token, csr);
  assert.equal(await answerAll(member), 1);
  const { certificatePem, bundlePem, subject } = await enrolling;
  assert.equal(new X509Certificate(certificatePem).subjectAltName, `URI:${ann.uri}`);
  assert.deepEqual([bundlePem, subject], [own.bundlePem, ann.uri]);
  assert.deepEqual((await member.requests.list({})).requests, []);
});

test('T5: who is not answered in time is told to ask again; the token stays with its key, and is answered when it is signed', async () => {
  await using member = await open({ signedWithinMs: SOON_MS });
  const { token } = await member.enrolment.createToken(wish('user', 'ann'));
  const { csr } = await makeCsr(ann);
  await assert.rejects(member.enrolment.enrol(token, csr), hasCode('not_signed_yet', /approved and waits/));
  await assert.rejects(
    member.enrolment.enrol(token, (await makeCsr(ann)).csr),
    hasCode('token_invalid', /another key/),
  );
  assert.equal(await answerAll(member), 1);
  const first = await member.enrolment.enrol(token, csr);
  assert.deepEqual(await member.enrolment.enrol(token, csr), first, 'an answer that was lost comes again');
});

test('T5: an approval outlives the coordinator: what it kept is listed by the next, and the same request is answered', async () => {
  const disks = new ScratchDisks();
  const clock = new MovableClock();
  const { csr } = await makeCsr(ann);
  let token: string;
  let mark: string;
  {
    await using member = await open({ signedWithinMs: SOON_MS, disks, clock });
    token = (await member.enrolment.createToken(wish('user', 'ann'))).token;
    await assert.rejects(member.enrolment.enrol(token, csr), hasCode('not_signed_yet'));
    mark = (await member.requests.list({})).mark;
  }
  await using member = await open({ disks, clock });
  const { requests } = await member.requests.list({ after: mark, waitMs: IN_TIME_MS });
  assert.deepEqual(
    requests.map((one) => [one.subject, one.csr.equals(csr)]),
    [[ann.uri, true]],
  );
  await assert.rejects(member.enrolment.enrol(token, (await makeCsr(ann)).csr), hasCode('token_invalid'));
  await answerAll(member);
  assert.equal((await member.enrolment.enrol(token, csr)).subject, ann.uri);
});

test('T5: a listing waits for what it has not told of yet, and no longer than it was asked to', async () => {
  await using member = await open({ signedWithinMs: SOON_MS });
  const nothing = await member.requests.list({ waitMs: SOON_MS });
  assert.deepEqual(nothing.requests, []);
  const waiting = member.requests.list({ after: nothing.mark, waitMs: IN_TIME_MS });
  await assert.rejects(sign(member, ann), hasCode('not_signed_yet'));
  const { requests, mark } = await waiting;
  assert.equal(requests.length, 1);
  const again = await member.requests.list({ after: mark, waitMs: SOON_MS });
  assert.deepEqual([again.requests.length, again.mark], [1, mark], 'it tells of the same only when the time is over');
  const stop = new AbortController();
  const given = member.requests.list({ after: mark, waitMs: IN_TIME_MS }, stop.signal);
  stop.abort(new CollectiveError('interrupted', 'Enough'));
  await assert.rejects(given, hasCode('interrupted'));
});

test('T5: what comes back is handed out only if it is a leaf of this member for this key and name', async () => {
  await using member = await open({ signedWithinMs: SOON_MS });
  const { token } = await member.enrolment.createToken(wish('user', 'ann'));
  const { csr } = await makeCsr(ann);
  await assert.rejects(member.enrolment.enrol(token, csr), hasCode('not_signed_yet'));
  const [one] = (await member.requests.list({})).requests;
  assert.ok(one !== undefined);
  const foreign = await ScratchAuthority.create(ALICE);
  const ours = await ScratchAuthority.load(ALICE, {
    certificatePem: ca.bundlePem(),
    keyPem: await readAuthorityKey(),
  });
  const other = (await makeCsr(ann)).csr;
  const eves = (await makeCsr(spiffeId(ALICE, 'user', 'eve'))).csr;
  const wrong: readonly { pem: string; says: RegExp }[] = [
    { pem: await foreign.sign(csr), says: /no root of alice\.home signed it/ },
    { pem: await ours.sign(other), says: /its key is another/ },
    { pem: await ours.sign(eves), says: /its key is another/ },
    { pem: (await ours.leaf({ names: [{ type: 'url', value: ann.uri }] })).certificatePem, says: /its key is another/ },
    { pem: 'nothing', says: /cannot be read/ },
    { pem: '', says: /cannot be read/ },
    { pem: 'x'.repeat(1_000_000), says: /cannot be read/ },
    { pem: ca.bundlePem(), says: /its key is another/ },
  ];
  for (const { pem, says } of wrong)
    await assert.rejects(member.requests.answer(one.id, { certificatePem: pem }), hasCode('invalid_argument', says));
  assert.equal(await member.requests.answer(one.id, { certificatePem: await ours.sign(csr) }), true);
  await member.enrolment.enrol(token, csr);
});

test('T5: a leaf with the usages of another role is not handed out: a user may not serve, a node must', async () => {
  await using member = await open({ signedWithinMs: SOON_MS });
  const node = spiffeId(ALICE, 'node', 'node-1');
  const asked = [ann, node].map(async (id) => await checkCsr((await makeCsr(id)).csr, id));
  for (const request of await Promise.all(asked))
    await assert.rejects(member.requests.sign(request), hasCode('not_signed_yet'));
  const [users, nodes] = (await member.requests.list({})).requests;
  assert.ok(users !== undefined && nodes !== undefined);
  const ours = await ScratchAuthority.load(ALICE, { certificatePem: ca.bundlePem(), keyPem: await readAuthorityKey() });
  const answer = async ({ id, csr }: ListedRequest, serverAuth: boolean): Promise<boolean> =>
    await member.requests.answer(id, { certificatePem: await ours.sign(csr, { serverAuth }) });
  await assert.rejects(answer(users, true), hasCode('invalid_argument', /usages 1\.3\.6\.1\.5\.5\.7\.3\.1, /));
  await assert.rejects(answer(nodes, false), hasCode('invalid_argument', /usages 1\.3\.6\.1\.5\.5\.7\.3\.2$/));
  assert.deepEqual([await answer(users, false), await answer(nodes, true)], [true, true]);
});

test('T5: a refusal is told with its reason, and another try is another request', async () => {
  await using member = await open({ signedWithinMs: SOON_MS });
  const request = await checkCsr((await makeCsr(ann)).csr, ann);
  await assert.rejects(member.requests.sign(request), hasCode('not_signed_yet'));
  const [one] = (await member.requests.list({})).requests;
  assert.ok(one !== undefined);
  assert.equal(await member.requests.answer(one.id, { refused: 'not on Sundays' }), true);
  assert.equal(await member.requests.answer(one.id, { refused: 'never' }), false, 'the first answer stands');
  await assert.rejects(member.requests.sign(request), hasCode('csr_refused', /not on Sundays/));
  member.clock.moveWall(61);
  await assert.rejects(member.requests.sign(request), hasCode('not_signed_yet'));
  const [again] = (await member.requests.list({})).requests;
  assert.ok(again !== undefined && again.id !== one.id);
  assert.equal(await member.requests.answer(one.id, { refused: 'late' }), false, 'an answer to the first is not one');
});

test('T3a, T5: a subject that is removed gets no certificate, neither for its token nor for its renewal', async () => {
  await using member = await open();
  const { token } = await member.enrolment.createToken(wish('user', 'ann'));
  const { csr } = await makeCsr(ann);
  const enrolling = member.enrolment.enrol(token, csr);
  const [one] = (await member.requests.list({ waitMs: IN_TIME_MS })).requests;
  assert.ok(one !== undefined);
  const refused = assert.rejects(enrolling, hasCode('not_signed_yet'));
  await removeSubject(member, 'ann');
  assert.equal(await member.requests.answer(one.id, { certificatePem: await signFor(one) }), false);
  await refused;
  await assert.rejects(member.enrolment.enrol(token, csr), hasCode('token_invalid'));
  await assert.rejects(member.enrolment.renew(peer(ann), csr), hasCode('permission_denied', /does not know it/));
});

test('T3a, T5: a renewal that was signed is not handed to a subject that was removed meanwhile', async () => {
  await using member = await open();
  await member.engine.run((tx) =>
    tx.put(
      SUBJECTS,
      { uri: ann.uri, admin: false, trusted: false, uid: 5, gid: 5, realms: [], created: tx.now },
      ann.uri,
    ),
  );
  const { csr } = await makeCsr(ann);
  const renewing = member.enrolment.renew(peer(ann), csr);
  const [one] = (await member.requests.list({ waitMs: IN_TIME_MS })).requests;
  assert.ok(one !== undefined);
  const refused = assert.rejects(renewing, hasCode('permission_denied'));
  await member.engine.run((tx) => tx.remove(SUBJECTS, ann.uri));
  await member.requests.answer(one.id, { certificatePem: await signFor(one) });
  await refused;
});

test('T5: what one subject can have kept and signed is bounded, and its older requests give way after a while', async () => {
  await using member = await open({ signedWithinMs: 1 });
  for (let i = 0; i < REQUESTS_OF_A_SUBJECT_MAX; i++)
    await assert.rejects(sign(member, ann), hasCode('not_signed_yet'));
  await assert.rejects(sign(member, ann), hasCode('overloaded', /of this subject/));
  await answerAll(member);
  await assert.rejects(sign(member, ann), hasCode('overloaded'), 'answered ones count, too');
  await assert.rejects(sign(member, spiffeId(ALICE, 'user', 'ben')), hasCode('not_signed_yet'));
  member.clock.moveWall(61);
  await assert.rejects(sign(member, ann), hasCode('not_signed_yet'));
});

test('T5: what a member keeps is bounded, answered requests give way, and what nobody asks for any more ends', async () => {
  await using member = await open({ signedWithinMs: 1 });
  await member.engine.run((tx) => {
    for (let i = 0; i < REQUESTS_MAX; i++) {
      const id = spiffeId(ALICE, 'user', `user-${i}`);
      const key = requestKeyOf({ id, publicKey: Buffer.from(String(i)) });
      const expires = { ...tx.now, seconds: tx.now.seconds + 3_600 };
      const row = { uri: id.uri, csr: Buffer.alloc(1), kept: tx.now, expires, certificatePem: '', refused: '' };
      tx.put(REQUESTS, i === 0 ? { ...row, certificatePem: 'one' } : row, key);
    }
  });
  await assert.rejects(sign(member, ann), hasCode('overloaded', /of this member/));
  member.clock.moveWall(61);
  await assert.rejects(sign(member, ann), hasCode('not_signed_yet'), 'the answered one gives way');
  await assert.rejects(sign(member, ann), hasCode('overloaded'), 'those that wait do not');
  member.clock.moveWall(3_600);
  await assert.rejects(sign(member, ann), hasCode('not_signed_yet'));
  assert.equal((await member.requests.list({})).requests.length, 1);
});

test('T6: a certificate of an authority that was given up is not answered again', async () => {
  const disks = new ScratchDisks();
  const clock = new MovableClock();
  const request = await checkCsr((await makeCsr(ann)).csr, ann);
  {
    await using member = await open({ signedWithinMs: SOON_MS, disks, clock });
    await assert.rejects(member.requests.sign(request), hasCode('not_signed_yet'));
    await answerAll(member);
    await member.requests.sign(request);
  }
  const next = await ScratchAuthority.create(ALICE, { generation: 2 });
  await using member = await open({ signedWithinMs: SOON_MS, disks, clock, current: await next.peer('coordinator') });
  await assert.rejects(member.requests.sign(request), hasCode('not_signed_yet'));
  const [one] = (await member.requests.list({})).requests;
  assert.ok(one !== undefined);
  await member.requests.answer(one.id, { certificatePem: await next.sign(request.csr) });
  await member.requests.sign(request);
});

async function sign(member: Keeping, id: SpiffeId): Promise<unknown> {
  return await member.requests.sign(await checkCsr((await makeCsr(id)).csr, id));
}

async function removeSubject(member: Keeping, name: string): Promise<void> {
  const subjects = new SubjectAdmin({
    engine: member.engine,
    trustDomain: ALICE,
    events: { record: () => undefined },
    rightsChanged: () => undefined,
    endSessionsOf: async () => 0,
  });
  await subjects.remove({ role: 'user', name }, peer(spiffeId(ALICE, 'operator')));
}

async function readAuthorityKey(): Promise<string> {
  return await readFile(join(folder, 'ca', 'ca.key'), 'utf8');
}

function peer(id: SpiffeId): PeerIdentity {
  return { ...id, fingerprint256: '', rootFingerprint256: '', notAfterMs: 0 };
}

function wish(role: string, name: string): CreateTokenRequest {
  return { role, name, ttlSeconds: 0, admin: false, trusted: false, realms: [], uid: undefined };
}
