/** T5: every way in which a request asks for more than it may is refused, and named. */
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, trustDomainOf } from '@collective/base/ids';
import {
  BasicConstraintsExtension,
  ChallengePasswordAttribute,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Pkcs10CertificateRequestCreateParams,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509';
import { checkCsr } from './check-csr.ts';
import { makeCsr, makeKeys } from './make-csr.ts';
import { spiffeId } from './spiffe-id.ts';

const alice = trustDomainOf('alice' as MemberName, 'home');
const ann = spiffeId(alice, 'user', 'ann');
const node = spiffeId(alice, 'node', 'node-1');
const nodeDns = 'node-1.node.alice.home';

type Name = { type: 'url' | 'dns' | 'ip' | 'email'; value: string };
const url = (value: string): Name => ({ type: 'url', value });
const dns = (value: string): Name => ({ type: 'dns', value });

async function csrOf(names: Name[], more: Partial<Pkcs10CertificateRequestCreateParams> = {}): Promise<Buffer> {
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys: await makeKeys(),
    signingAlgorithm: { name: 'Ed25519' },
    extensions: [new SubjectAlternativeNameExtension(names)],
    ...more,
  });
  return Buffer.from(request.rawData);
}

const sans = (...names: Name[]): SubjectAlternativeNameExtension => new SubjectAlternativeNameExtension(names);

const bad: { name: string; csr: Promise<Buffer>; allowed: typeof ann; says: RegExp }[] = [
  {
    name: 'two URIs',
    csr: csrOf([url(ann.uri), url('spiffe://alice.home/user/eve')]),
    allowed: ann,
    says: /user\/eve/,
  },
  { name: 'the same URI twice', csr: csrOf([url(ann.uri), url(ann.uri)]), allowed: ann, says: /each once/ },
  { name: 'no name at all', csr: csrOf([]), allowed: ann, says: /each once/ },
  { name: 'no extensions', csr: csrOf([], { extensions: [] }), allowed: ann, says: /one attribute/ },
  {
    name: "another subject's name",
    csr: csrOf([url('spiffe://alice.home/user/eve')]),
    allowed: ann,
    says: /user\/eve/,
  },
  { name: "another member's name", csr: csrOf([url('spiffe://bob.home/user/ann')]), allowed: ann, says: /bob.home/ },
  {
    name: "the coordinator's URI",
    csr: csrOf([url('spiffe://alice.home/coordinator')]),
    allowed: ann,
    says: /coordinator/,
  },
  {
    name: "a user with the coordinator's DNS name",
    csr: csrOf([url(ann.uri), dns('coordinator.alice.home')]),
    allowed: ann,
    says: /dns:coordinator/,
  },
  { name: 'a node without its DNS name', csr: csrOf([url(node.uri)]), allowed: node, says: /each once/ },
  {
    name: "a node with another node's DNS name",
    csr: csrOf([url(node.uri), dns('node-2.node.alice.home')]),
    allowed: node,
    says: /node-2/,
  },
  {
    name: 'a node with a second DNS name',
    csr: csrOf([url(node.uri), dns(nodeDns), dns('localhost')]),
    allowed: node,
    says: /localhost/,
  },
  {
    name: 'an IP address',
    csr: csrOf([url(node.uri), dns(nodeDns), { type: 'ip', value: '10.0.0.1' }]),
    allowed: node,
    says: /ip:10.0.0.1/,
  },
  {
    name: 'an e-mail address',
    csr: csrOf([url(ann.uri), { type: 'email', value: 'ann@alice.home' }]),
    allowed: ann,
    says: /email/,
  },
  { name: 'a common name', csr: csrOf([url(ann.uri)], { name: 'CN=ann' }), allowed: ann, says: /common name/ },
  {
    name: 'a common name among others',
    csr: csrOf([url(ann.uri)], { name: 'O=alice.home, CN=coordinator.alice.home' }),
    allowed: ann,
    says: /common name/,
  },
  {
    name: 'to be an authority',
    csr: csrOf([], { extensions: [sans(url(ann.uri)), new BasicConstraintsExtension(true, 0, true)] }),
    allowed: ann,
    says: /2.5.29.19/,
  },
  {
    name: 'server usage',
    csr: csrOf([], { extensions: [sans(url(ann.uri)), new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth])] }),
    allowed: ann,
    says: /2.5.29.37/,
  },
  {
    name: 'two lists of names',
    csr: csrOf([], { extensions: [sans(url(ann.uri)), sans(url('spiffe://alice.home/user/eve'))] }),
    allowed: ann,
    says: /only the subject/,
  },
  {
    name: 'another attribute',
    csr: csrOf([url(ann.uri)], { attributes: [new ChallengePasswordAttribute('x')] }),
    allowed: ann,
    says: /one attribute/,
  },
  {
    name: 'an EC key',
    csr: csrWith({ name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }),
    allowed: ann,
    says: /not Ed25519/,
  },
  {
    name: 'an RSA key',
    csr: csrWith({
      name: 'RSASSA-PKCS1-v1_5',
      modulusLength: 2048,
      publicExponent: new Uint8Array([1, 0, 1]),
      hash: 'SHA-256',
    }),
    allowed: ann,
    says: /not Ed25519/,
  },
  { name: "somebody else's key", csr: withForeignSignature(), allowed: ann, says: /own key/ },
  { name: 'nothing', csr: Promise.resolve(Buffer.alloc(0)), allowed: ann, says: /0 bytes/ },
  { name: 'five kilobytes', csr: Promise.resolve(Buffer.alloc(5_000, 0x30)), allowed: ann, says: /5000 bytes/ },
];

for (const { name, csr, allowed, says } of bad) {
  test(`T5: refused: ${name}`, async () => {
    await assert.rejects(checkCsr(await csr, allowed), (thrown) => {
      assert.ok(thrown instanceof CollectiveError);
      assert.equal(thrown.code, 'csr_refused');
      assert.match(thrown.message, says);
      return true;
    });
  });
}

test('T5: what our programs ask for is granted', async () => {
  for (const id of [ann, node, spiffeId(alice, 'coordinator'), spiffeId(alice, 'client', 'backup')]) {
    const { csr } = await makeCsr(id);
    const checked = await checkCsr(csr, id);
    assert.equal(checked.id, id);
    assert.equal(checked.publicKey.length, 44);
  }
});

test('T5: a request cut anywhere, or with any byte changed, is refused', async () => {
  const { csr } = await makeCsr(ann);
  for (let i = 0; i < csr.length; i++) {
    await assert.rejects(
      checkCsr(csr.subarray(0, i), ann),
      (thrown) => thrown instanceof CollectiveError && thrown.code === 'csr_refused',
      `cut at ${i}`,
    );
    const changed = Buffer.from(csr);
    changed[i] = (changed[i] ?? 0) ^ 0x01;
    await assert.rejects(
      checkCsr(changed, ann),
      (thrown) => thrown instanceof CollectiveError && thrown.code === 'csr_refused',
      `byte ${i}`,
    );
  }
});

async function csrWith(algorithm: webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams): Promise<Buffer> {
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  return await csrOf([url(ann.uri)], { keys, signingAlgorithm: algorithm });
}

/** The key of one request under the signature of another. */
async function withForeignSignature(): Promise<Buffer> {
  const [mine, other] = [await csrOf([url(ann.uri)]), await csrOf([url(ann.uri)])];
  return Buffer.concat([mine.subarray(0, -64), other.subarray(-64)]);
}
