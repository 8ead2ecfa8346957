/** T5: who gets a certificate on request, and what is answered. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { before, test } from 'node:test';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { ScratchAuthority, scratchCsr } from '@collective/protocol/tls/scratch-authority';
import { parseTrustDomain, type SpiffeId, spiffeId } from '@collective/protocol/tls/spiffe-id';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleMember } from '../member/example-member.ts';
import { type CheckedKeptRequest, checkKeptRequest } from './checked-requests.ts';
import { planRequests, type RequestsPicture } from './plan-requests.ts';

const DOMAIN = parseTrustDomain('alice.photos.example');
const NOW_MS = Date.UTC(2026, 10, 25);
const ann = spiffeId(DOMAIN, 'user', 'ann');
let authority: ScratchAuthority;
let kept: CheckedKeptRequest;
let csr: Buffer;
before(async () => {
  authority = await ScratchAuthority.create(DOMAIN);
  csr = (await makeCsr(ann)).csr;
  kept = await checkKeptRequest({ id: 'r1', uri: ann.uri, csr }, DOMAIN);
});

const picture = (changes: Partial<RequestsPicture> = {}): RequestsPicture => ({
  nowMs: NOW_MS,
  member: exampleMember(),
  namespace: 'team',
  kept: [kept],
  requests: new Map(),
  issuer: 'alice-ca-g2',
  leafDurationMs: 720 * 3_600_000,
  roots: [new X509Certificate(authority.bundlePem)],
  ...changes,
});

/** As the apiserver has it, with what cert-manager says of it. */
function stored(status: object): ReadonlyMap<string, KubeObject> {
  const [made] = planRequests(picture()).objects;
  assert.ok(made !== undefined);
  const metadata = { ...made.object.metadata, uid: 'u1', creationTimestamp: new Date(NOW_MS - 90_000).toISOString() };
  return new Map([[metadata.name, { ...made.object, metadata, status }]]);
}

const condition = (type: string, status: string, reason = '', message = '') => ({ type, status, reason, message });
const issued = (pem: string) => ({
  conditions: [condition('Approved', 'True'), condition('Ready', 'True', 'Issued')],
  certificate: Buffer.from(pem).toString('base64'),
});

test('T5: an approved request becomes a CertificateRequest of the authority that signs now, for clients only', () => {
  const { objects, answers, removals } = planRequests(picture());
  assert.deepEqual([answers, removals, objects.length], [[], [], 1]);
  const [made] = objects;
  assert.ok(made !== undefined);
  const { request, ...spec } = made.object.spec as { request: string };
  assert.match(made.object.metadata.name, /^alice-csr-[0-9a-f]{20}$/);
  assert.deepEqual(spec, {
    issuerRef: { group: 'cert-manager.io', kind: 'Issuer', name: 'alice-ca-g2' },
    isCA: false,
    duration: '720h',
    usages: ['digital signature', 'client auth'],
  });
  const pem = Buffer.from(request, 'base64').toString('utf8');
  assert.deepEqual(Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64'), csr);
});

const foreigners: readonly { name: string; id: () => SpiffeId; asked?: SpiffeId; says: RegExp }[] = [
  {
    name: 'the coordinator',
    id: () => spiffeId(DOMAIN, 'coordinator'),
    says: /of a coordinator is not given on request/,
  },
  { name: 'the operator', id: () => spiffeId(DOMAIN, 'operator'), says: /of a operator is not given on request/ },
  {
    name: "another member's user",
    id: () => spiffeId(parseTrustDomain('bob.photos.example'), 'user', 'ann'),
    says: /another trust domain/,
  },
  {
    name: 'ann, with a request for eve',
    id: () => ann,
    asked: spiffeId(DOMAIN, 'user', 'eve'),
    says: /it asks for the name url:spiffe:\/\/alice.photos.example\/user\/eve/,
  },
];

for (const { name, id, asked, says } of foreigners)
  test(`T5: whatever the coordinator has approved, a certificate for ${name} is refused`, async () => {
    const made = await makeCsr(asked ?? id());
    const checked = await checkKeptRequest({ id: 'r2', uri: id().uri, csr: made.csr }, DOMAIN);
    const { objects, answers } = planRequests(picture({ kept: [checked] }));
    assert.deepEqual(objects, []);
    assert.equal(answers.length, 1);
    assert.match((answers[0] as { refused: string }).refused, says);
  });

test('T5: a request that is none, or names an address, is refused with the reason', async () => {
  const names = [
    { type: 'url', value: ann.uri },
    { type: 'ip', value: '10.0.0.1' },
  ] as const;
  for (const { bytes, says } of [
    { bytes: Buffer.from('hello'), says: /wrong length/ },
    { bytes: await scratchCsr({ names }), says: /10\.0\.0\.1/ },
  ]) {
    const checked = await checkKeptRequest({ id: 'r3', uri: ann.uri, csr: bytes }, DOMAIN);
    assert.ok(checked.state === 'refused');
    assert.match(checked.why, says);
  }
});

test('T5: the certificate goes back when it is what was asked for, and the object goes when the request is answered', async () => {
  const pem = await authority.sign(csr);
  const requests = stored(issued(pem));
  assert.deepEqual(planRequests(picture({ requests })).answers, [{ id: 'r1', certificatePem: pem }]);
  const [name] = [...requests.keys()];
  const after = planRequests(picture({ requests, kept: [] }));
  assert.deepEqual(
    after.removals.map(({ reference, uid }) => [reference.name, uid]),
    [[name, 'u1']],
  );
});

test('T5: what another authority signed, or for another key, is not handed out', async () => {
  const foreign = await ScratchAuthority.create(DOMAIN);
  const other = (await makeCsr(ann)).csr;
  for (const { pem, says } of [
    { pem: await foreign.sign(csr), says: /no root of this member signed it/ },
    { pem: await authority.sign(other), says: /its key is another/ },
    { pem: 'nothing', says: /cannot be read/ },
  ])
    assert.match(
      (planRequests(picture({ requests: stored(issued(pem)) })).answers[0] as { refused: string }).refused,
      says,
    );
});

test('T5: a denied or failed request is refused; one that nobody approves is told of, with what to do', () => {
  const answer = (status: object) => planRequests(picture({ requests: stored(status) }));
  assert.deepEqual(answer({ conditions: [condition('Denied', 'True', 'Policy', 'not on Sundays')] }).answers, [
    { id: 'r1', refused: "cert-manager's approver denied it: not on Sundays" },
  ]);
  assert.deepEqual(answer({ conditions: [condition('Ready', 'False', 'Failed', 'bad key')] }).answers, [
    { id: 'r1', refused: 'cert-manager could not sign it: bad key' },
  ]);
  const waiting = answer({});
  assert.deepEqual([waiting.answers, waiting.objects, waiting.removals], [[], [], []]);
  assert.match(
    waiting.events[0]?.message ?? '',
    /switched off \(disableAutoApproval\); then cmctl approve -n team alice-csr-[0-9a-f]+, or/,
  );
  assert.deepEqual(answer({ conditions: [condition('Approved', 'True')] }).events, []);
});

test('T5, T6: a request that waits for an authority that signs no more is made again for the one that does', () => {
  const requests = stored({ conditions: [condition('Approved', 'True'), condition('Ready', 'False', 'Pending')] });
  const moved = planRequests(picture({ requests, issuer: 'alice-ca-g3' }));
  assert.equal(moved.removals.length, 1);
  assert.deepEqual(planRequests(picture({ requests, issuer: undefined })).removals, []);
  const nobody = planRequests(picture({ issuer: undefined }));
  assert.deepEqual([nobody.objects, nobody.answers], [[], []]);
});

test("T5: requests of cert-manager's own Certificates are left alone, whatever a pool is called", () => {
  const [[, one] = []] = stored({});
  assert.ok(one !== undefined);
  const name = 'alice-csr-0-tls-1';
  const requests = new Map([[name, { ...one, metadata: { ...one.metadata, name } }]]);
  assert.deepEqual(planRequests(picture({ requests, kept: [] })).removals, []);
});
