/** Who gets through a handshake and our checks, over real TLS sockets: one test a breach. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, trustDomainOf } from '@collective/base/ids';
import { SystemClock } from '@collective/base/system-clock';
import { identifyPeer, identifySocketPeer, type PeerIdentity, serverCheck } from './peer-identity.ts';
import { probeServer } from './probe-server.ts';
import { ScratchAuthority, type ScratchLeaf, type ScratchName } from './scratch-authority.ts';
import { type ExpectedServer, serverDnsName } from './spiffe-id.ts';
import type { TrustPems } from './trust-set.ts';

const clock = new SystemClock();
const alice = trustDomainOf('alice' as MemberName, 'home');
const bob = trustDomainOf('bob' as MemberName, 'home');
const aliceCa = await ScratchAuthority.create(alice);
const bobCa = await ScratchAuthority.create(bob);
/** Constraints removed: shows that our own check does not lean on OpenSSL's. */
const looseBobCa = await ScratchAuthority.create(bob, { unconstrained: true, generation: 2 });
const looseAliceCa = await ScratchAuthority.create(alice, { unconstrained: true, generation: 2 });

const coordinator = await aliceCa.peer('coordinator');
const ann = await aliceCa.peer('user', 'ann');
const expected: ExpectedServer = { trustDomain: alice, role: 'coordinator' };
const annsUri = 'spiffe://alice.home/user/ann';
const coordinatorUri = 'spiffe://alice.home/coordinator';
const coordinatorDns = 'coordinator.alice.home';
const day = 86_400_000;

const url = (value: string): ScratchName => ({ type: 'url', value });
const dns = (value: string): ScratchName => ({ type: 'dns', value });

test('T1, T2: a coordinator and a user of one member know each other by URI', async () => {
  const { client, server } = await meet({ server: coordinator, client: ann, clientTrusts: aliceCa.bundlePem });
  assert.equal(client, undefined);
  assert.ok(!(server instanceof Error));
  assert.equal(server.uri, annsUri);
  assert.equal(server.role, 'user');
  assert.equal(server.name, 'ann');
  assert.equal(server.fingerprint256, ann.leaf.fingerprint256);
  assert.equal(server.notAfterMs, ann.notAfterMs);
});

interface BadServer {
  readonly name: string;
  readonly authority: ScratchAuthority;
  readonly leaf: ScratchLeaf;
  readonly says: RegExp;
}

const badServers: BadServer[] = [
  {
    name: "T2: a user's certificate that poses as the coordinator by its DNS name",
    authority: aliceCa,
    leaf: { names: [url(annsUri), dns(coordinatorDns)] },
    says: /DNS name|answered/,
  },
  {
    name: "T2: a node's certificate with the coordinator's DNS name",
    authority: aliceCa,
    leaf: { names: [url('spiffe://alice.home/node/node-1'), dns(coordinatorDns)] },
    says: /DNS name/,
  },
  {
    name: 'T2: a node where the coordinator was meant',
    authority: aliceCa,
    leaf: { names: [url('spiffe://alice.home/node/node-1'), dns('node-1.node.alice.home')] },
    says: /Expect the coordinator/,
  },
  {
    name: 'T2: a coordinator without a DNS name',
    authority: aliceCa,
    leaf: { names: [url(coordinatorUri)] },
    says: /Expect the coordinator/,
  },
  {
    name: 'T1: two URIs',
    authority: aliceCa,
    leaf: { names: [url(annsUri), url(coordinatorUri), dns(coordinatorDns)] },
    says: /2 URIs/,
  },
  {
    name: 'T2: a second DNS name',
    authority: aliceCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns), dns('node-1.node.alice.home')] },
    says: /2 DNS names/,
  },
  {
    name: 'T2: an IP address',
    authority: aliceCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns), { type: 'ip', value: '127.0.0.1' }] },
    says: /neither/,
  },
  {
    name: 'an e-mail address',
    authority: aliceCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns), { type: 'email', value: 'ann@alice.home' }] },
    says: /neither/,
  },
  {
    name: "T2: a host name outside the trust domain, by alice's own authority",
    authority: aliceCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns), dns('localhost')] },
    says: /permitted subtree violation/,
  },
  {
    name: "T1: alice's name signed by bob's authority",
    authority: bobCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns)] },
    says: /permitted subtree violation/,
  },
  {
    name: "T1: alice's name signed by bob's authority without name constraints",
    authority: looseBobCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns)] },
    says: /no root of alice.home signed it/,
  },
  {
    name: "T1: bob's coordinator",
    authority: looseBobCa,
    leaf: { names: [url('spiffe://bob.home/coordinator'), dns(coordinatorDns)] },
    says: /belongs to bob.home/,
  },
  {
    name: 'an expired certificate',
    authority: aliceCa,
    leaf: {
      names: [url(coordinatorUri), dns(coordinatorDns)],
      notBefore: new Date(Date.now() - 20 * day),
      notAfter: new Date(Date.now() - 1_000),
    },
    says: /expired/,
  },
  {
    name: 'a certificate that is not yet valid',
    authority: aliceCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns)], notBefore: new Date(Date.now() + day) },
    says: /not yet valid/,
  },
  {
    name: "a client's usage only",
    authority: aliceCa,
    leaf: { names: [url(coordinatorUri), dns(coordinatorDns)], serverAuth: false },
    says: /unsuitable certificate purpose/,
  },
];

for (const { name, authority, leaf, says } of badServers) {
  test(`a client refuses a server: ${name}`, async () => {
    // The client trusts both authorities, as one that knows both members would; only the pins tell them apart.
    const clientTrusts = [aliceCa, bobCa, looseBobCa].map(({ bundlePem }) => bundlePem).join('');
    const { client } = await meet({ server: await authority.leaf(leaf), client: ann, clientTrusts });
    assert.ok(client instanceof Error);
    assert.match(textOf(client), says);
  });
}

const badClients: { name: string; authority: ScratchAuthority; leaf: ScratchLeaf }[] = [
  { name: "bob's own user", authority: bobCa, leaf: { names: [url('spiffe://bob.home/user/bob')] } },
  { name: "T1: alice's name signed by bob's authority", authority: bobCa, leaf: { names: [url(annsUri)] } },
  {
    name: "T1: alice's name signed by an authority nobody knows",
    authority: looseAliceCa,
    leaf: { names: [url(annsUri)] },
  },
  {
    name: 'an expired certificate',
    authority: aliceCa,
    leaf: { names: [url(annsUri)], notBefore: new Date(Date.now() - 20 * day), notAfter: new Date(Date.now() - 1_000) },
  },
  { name: 'T1: two URIs', authority: aliceCa, leaf: { names: [url(annsUri), url('spiffe://alice.home/user/root')] } },
  {
    name: 'T1: a role that does not exist',
    authority: aliceCa,
    leaf: { names: [url('spiffe://alice.home/admin/ann')] },
  },
  { name: 'T1: no URI', authority: aliceCa, leaf: { names: [dns('ann.alice.home')] } },
  {
    name: 'T2: a user with a DNS name of a node',
    authority: aliceCa,
    leaf: { names: [url(annsUri), dns('node-1.node.alice.home')] },
  },
];

for (const { name, authority, leaf } of badClients) {
  test(`a server refuses a client: ${name}`, async () => {
    const { server } = await meet({
      server: coordinator,
      client: await authority.leaf(leaf),
      clientTrusts: aliceCa.bundlePem,
    });
    assert.ok(server instanceof CollectiveError);
    assert.equal(server.code, 'unauthenticated');
  });
}

test('a server refuses a client without a certificate', async () => {
  const { server } = await meet({ server: coordinator, client: undefined, clientTrusts: aliceCa.bundlePem });
  assert.ok(server instanceof CollectiveError);
  assert.equal(server.code, 'unauthenticated');
});

test('T1: our own check refuses what the handshake would, so that neither stands alone', async () => {
  const pinned = { trustDomain: alice, roots: coordinator.roots };
  const check = async (authority: ScratchAuthority, leaf: ScratchLeaf): Promise<unknown> => {
    const { certificatePem } = await authority.leaf(leaf);
    try {
      return identifyPeer(new X509Certificate(certificatePem), pinned, clock);
    } catch (thrown) {
      return thrown;
    }
  };
  for (const { authority, leaf } of [...badClients]) {
    const found = await check(authority, leaf);
    assert.ok(found instanceof CollectiveError && found.code === 'unauthenticated');
  }
  assert.throws(
    () => identifyPeer(coordinator.roots[0] ?? coordinator.leaf, pinned, clock),
    (thrown) => thrown instanceof CollectiveError,
  );
});

interface Meeting {
  /** What the client refused the server with. */
  readonly client: Error | undefined;
  /** Whom the server saw, or what it refused the client with. */
  readonly server: PeerIdentity | Error;
}

/** One TLS connection as our servers and clients make it. */
async function meet(peers: {
  server: TrustPems;
  client: TrustPems | undefined;
  clientTrusts: string;
}): Promise<Meeting> {
  const seen = Promise.withResolvers<PeerIdentity | Error>();
  const pinned = { trustDomain: alice, roots: coordinator.roots };
  const { certificatePem: cert, keyPem: key } = peers.server;
  const server = createServer(
    { cert, key, ca: aliceCa.bundlePem, requestCert: true, rejectUnauthorized: false },
    (socket: TLSSocket) => {
      try {
        seen.resolve(identifySocketPeer(socket, pinned, clock));
      } catch (thrown) {
        seen.resolve(thrown as Error);
      }
      socket.on('error', () => socket.destroy());
      socket.end();
    },
  );
  server.on('tlsClientError', (error) => seen.resolve(error));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = await new Promise<Error | undefined>((resolve) => {
    const socket = connect({
      host: '127.0.0.1',
      port,
      ca: peers.clientTrusts,
      ...(peers.client === undefined ? {} : { cert: peers.client.certificatePem, key: peers.client.keyPem }),
      servername: serverDnsName(expected) ?? '',
      checkServerIdentity: serverCheck(() => pinned, expected, clock),
    });
    socket.once('secureConnect', () => resolve(undefined));
    socket.once('error', resolve);
    socket.once('close', () => resolve(undefined));
    socket.resume();
  });
  const result = { client, server: client === undefined ? await seen.promise : client };
  server.close();
  return result;
}

function textOf(error: Error): string {
  return `${error.message} ${error.cause instanceof Error ? textOf(error.cause) : ''}`;
}

const probes: { name: string; server: TrustPems | undefined; code: string | undefined }[] = [
  { name: 'the right server', server: coordinator, code: undefined },
  { name: "bob's coordinator", server: await bobCa.peer('coordinator'), code: 'unauthenticated' },
  {
    name: "a user with the coordinator's DNS name",
    server: await aliceCa.leaf({ names: [url(annsUri), dns(coordinatorDns)] }),
    code: 'unauthenticated',
  },
  {
    name: 'an expired certificate',
    server: await aliceCa.leaf({
      names: [url(coordinatorUri), dns(coordinatorDns)],
      notBefore: new Date(Date.now() - 20 * day),
      notAfter: new Date(Date.now() - 1_000),
    }),
    code: 'unauthenticated',
  },
  { name: 'nobody', server: undefined, code: 'unavailable' },
];

for (const { name, server: pems, code } of probes) {
  test(`a probe tells ${name} apart: ${code ?? 'ok'}`, async () => {
    const server = createServer({ cert: pems?.certificatePem, key: pems?.keyPem, ALPNProtocols: ['h2'] }, (socket) =>
      socket.on('error', () => socket.destroy()),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    if (pems === undefined) server.close();
    const probing = probeServer({
      host: '127.0.0.1',
      port,
      expected,
      bundlePem: aliceCa.bundlePem,
      roots: coordinator.roots,
      clock,
    });
    if (code === undefined) await probing;
    else await assert.rejects(probing, (thrown) => thrown instanceof CollectiveError && thrown.code === code);
    server.close();
  });
}
