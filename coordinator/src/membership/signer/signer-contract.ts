/** What every signer keeps (T5), whoever holds the key. */
import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import type { TrustDomain } from '@collective/base/ids';
import { SystemClock } from '@collective/base/system-clock';
import { checkCsr } from '@collective/protocol/tls/check-csr';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { identifyPeer } from '@collective/protocol/tls/peer-identity';
import { PEER_ROLES, type PeerRole, serverDnsName, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { isIssuedBy, parseBundle } from '@collective/protocol/tls/trust-set';
import type { Signer } from './signer.ts';

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const NAMES: Readonly<Record<PeerRole, string>> = {
  coordinator: '',
  node: 'node-1',
  client: 'backup',
  user: 'ann',
  operator: '',
};

export function signerContract(name: string, trustDomain: TrustDomain, open: () => Promise<Signer>): void {
  for (const role of PEER_ROLES) {
    test(`${name} signer: T2, T5: a leaf for a ${role} has exactly its names and usages`, async () => {
      const signer = await open();
      const id = spiffeId(trustDomain, role, NAMES[role]);
      const { csr, keyPem } = await makeCsr(id);
      const issued = await signer.sign(await checkCsr(csr, id));
      const leaf = new X509Certificate(issued.certificatePem);
      const dnsName = serverDnsName(id);
      assert.equal(leaf.subjectAltName, dnsName === undefined ? `URI:${id.uri}` : `URI:${id.uri}, DNS:${dnsName}`);
      assert.deepEqual(leaf.keyUsage, dnsName === undefined ? [CLIENT_AUTH] : [SERVER_AUTH, CLIENT_AUTH]);
      assert.doesNotMatch(leaf.subject, /CN=/);
      assert.equal(leaf.ca, false);
      assert.ok(leaf.checkPrivateKey(createPrivateKey(keyPem)));
      assert.equal(leaf.publicKey.asymmetricKeyType, 'ed25519');
      const roots = parseBundle(signer.bundlePem(), 'the bundle');
      assert.ok(roots.some((root) => isIssuedBy(leaf, root)));
      assert.equal(identifyPeer(leaf, { trustDomain, roots }, new SystemClock()).uri, id.uri);
      assert.ok(leaf.validFromDate.getTime() < Date.now() - 60_000, 'backdated for clocks that lag');
      assert.equal(leaf.validToDate.getTime(), issued.notAfterMs);
      assert.ok(
        roots.every((root) => leaf.validToDate <= root.validToDate),
        'no leaf outlives its authority',
      );
    });
  }

  test(`${name} signer: serial numbers differ`, async () => {
    const signer = await open();
    const id = spiffeId(trustDomain, 'user', 'ann');
    const serials = await Promise.all(
      [1, 2, 3].map(async () => {
        const { csr } = await makeCsr(id);
        return new X509Certificate((await signer.sign(await checkCsr(csr, id))).certificatePem).serialNumber;
      }),
    );
    assert.equal(new Set(serials).size, 3);
    for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/);
  });
}
