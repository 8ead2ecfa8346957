import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { connect, createServer } from 'node:tls';
import { hasCondition, type KubeObject } from './api-client.ts';
import { CertManager } from './cert-manager.ts';
import { TestApiServer } from './test-apiserver.ts';

const DOMAIN = 'alice.photos.test';
const HANDSHAKE_WITHIN_MS = 60_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
before(async () => {
  server = running.use(await TestApiServer.start());
  running.use(await CertManager.start(server));
  await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'photos' } });
});
after(() => running.disposeAsync());

test('T1: cert-manager makes an Ed25519 authority that is held to its trust domain, and a leaf that Node accepts', async () => {
  await server.admin.apply(issuer('self-signed', { selfSigned: {} }));
  await server.admin.apply(certificate('ca', 'self-signed', CA_SPEC));
  await server.admin.apply(issuer('ca', { ca: { secretName: 'ca' } }));
  await server.admin.apply(certificate('node-1', 'ca', leafSpec(DOMAIN)));

  const leaf = await issued('node-1');
  const authority = await issued('ca');
  const [leafX509, caX509] = [new X509Certificate(leaf.certificatePem), new X509Certificate(authority.certificatePem)];
  assert.equal(leafX509.publicKey.asymmetricKeyType, 'ed25519');
  assert.equal(caX509.publicKey.asymmetricKeyType, 'ed25519');
  assert.ok(caX509.ca && !leafX509.ca);
  assert.ok(leafX509.verify(caX509.publicKey), 'the authority signed the leaf');
  assert.equal(leafX509.subjectAltName, `DNS:node-1.${DOMAIN}, URI:spiffe://${DOMAIN}/node/node-1`);
  assert.ok(caX509.raw.includes(CRITICAL_NAME_CONSTRAINTS), 'name constraints are there, and critical');
  assert.equal(await handshake(leaf, authority.certificatePem), 'accepted');
});

test("T1: a leaf with another member's names is refused in the handshake, whoever signed it", async () => {
  await server.admin.apply(issuer('self-signed', { selfSigned: {} }));
  await server.admin.apply(certificate('ca', 'self-signed', CA_SPEC));
  await server.admin.apply(issuer('ca', { ca: { secretName: 'ca' } }));
  await server.admin.apply(certificate('forged', 'ca', leafSpec('bob.photos.test')));
  const forged = await issued('forged');
  assert.equal(await handshake(forged, (await issued('ca')).certificatePem), 'permitted subtree violation');
});

/** nameConstraints (2.5.29.30), then BOOLEAN true: critical. */
const CRITICAL_NAME_CONSTRAINTS = Buffer.from('0603551d1e0101ff', 'hex');

const CA_SPEC = {
  isCA: true,
  commonName: `${DOMAIN} g1`,
  subject: { organizations: [DOMAIN] },
  duration: '8760h',
  privateKey: { algorithm: 'Ed25519', rotationPolicy: 'Never' },
  usages: ['cert sign', 'crl sign'],
  nameConstraints: { critical: true, permitted: { dnsDomains: [DOMAIN], uriDomains: [DOMAIN] } },
};

function leafSpec(domain: string): object {
  return {
    dnsNames: [`node-1.${domain}`],
    uris: [`spiffe://${domain}/node/node-1`],
    duration: '24h',
    renewBefore: '8h',
    privateKey: { algorithm: 'Ed25519' },
    usages: ['digital signature', 'server auth', 'client auth'],
  };
}

function issuer(name: string, spec: object): KubeObject {
  return { apiVersion: 'cert-manager.io/v1', kind: 'Issuer', metadata: { name, namespace: 'photos' }, spec };
}

function certificate(name: string, issuerName: string, spec: object): KubeObject {
  return {
    apiVersion: 'cert-manager.io/v1',
    kind: 'Certificate',
    metadata: { name, namespace: 'photos' },
    spec: { secretName: name, issuerRef: { name: issuerName }, ...spec },
  };
}

interface Pems {
  readonly certificatePem: string;
  readonly keyPem: string;
}

async function issued(name: string): Promise<Pems> {
  await server.admin.when(certificate(name, '', {}), (object) => hasCondition(object, 'Ready'), 'is ready');
  const secret = await server.admin.find({ apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace: 'photos' } });
  const data = (secret?.data ?? {}) as Readonly<Record<string, string>>;
  const text = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString();
  return { certificatePem: text('tls.crt'), keyPem: text('tls.key') };
}

/** What a client that trusts this authority makes of a server which shows the leaf, in OpenSSL's words. */
async function handshake({ certificatePem, keyPem }: Pems, caPem: string): Promise<string> {
  const listening = createServer({ cert: certificatePem, key: keyPem, minVersion: 'TLSv1.3' });
  listening.on('tlsClientError', () => undefined);
  await new Promise<void>((ready) => listening.listen(0, '127.0.0.1', ready));
  const { port } = listening.address() as AddressInfo;
  const { promise, resolve } = Promise.withResolvers<string>();
  // Names of hosts are not what is asked here; the chain is.
  const client = connect({ ca: caPem, port, host: '127.0.0.1', checkServerIdentity: () => undefined });
  client.once('secureConnect', () => resolve('accepted'));
  client.once('error', (error) => resolve(error.message));
  client.setTimeout(HANDSHAKE_WITHIN_MS, () => resolve('no handshake'));
  try {
    return await promise;
  } finally {
    client.destroy();
    listening.close();
  }
}
