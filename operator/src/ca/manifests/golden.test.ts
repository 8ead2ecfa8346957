/**
 * The certificates of a member as YAML that a person reads; `COLLECTIVE_WRITE_GOLDEN=1 hack/node --test
 * operator/src/ca/manifests/golden.test.ts` writes it, and a diff in `golden/` is reviewed like code.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { exampleMember } from '../../member/example-member.ts';
import { caSettingsOf } from '../ca-settings.ts';
import { buildAuthorityCertificate, buildLeafCertificate } from './certificate.ts';
import { buildAuthorityIssuer, buildSelfSignedIssuer } from './issuer.ts';
import { buildTrustConfigMap } from './trust-config-map.ts';

const FOLDER = join(import.meta.dirname, 'golden');
const member = exampleMember();
const [namespace, trustDomain] = ['team', 'alice.photos.example'];
const leaf = { member, namespace, trustDomain, issuer: 'alice-ca-g2', duration: '720h', renewBefore: '240h' };
const root = new X509Certificate(readFileSync(join(FOLDER, 'root.pem')));

const manifests = {
  authority: [
    buildSelfSignedIssuer(member, namespace),
    buildAuthorityCertificate({
      member,
      namespace,
      trustDomain,
      generation: 2,
      settings: caSettingsOf(member, trustDomain),
    }),
    buildAuthorityIssuer(member, namespace, 2),
    buildTrustConfigMap(member, namespace, [root]),
  ],
  leaves: [
    buildLeafCertificate({
      ...leaf,
      wish: {
        name: 'alice-disk-0-tls',
        uri: `spiffe://${trustDomain}/node/disk-0`,
        dnsName: `disk-0.node.${trustDomain}`,
        usages: 'server',
      },
    }),
    buildLeafCertificate({
      ...leaf,
      wish: { name: 'alice-user-ann', uri: `spiffe://${trustDomain}/user/ann`, usages: 'client' },
    }),
  ],
};

for (const [name, objects] of Object.entries(manifests))
  test(`T1, T2: the manifests of ${name} are those that were reviewed`, () => {
    const text = objects.map((one) => stringify(one, { lineWidth: 0, aliasDuplicateObjects: false })).join('---\n');
    const file = join(FOLDER, `${name}.yaml`);
    if (process.env.COLLECTIVE_WRITE_GOLDEN === '1') {
      mkdirSync(FOLDER, { recursive: true });
      writeFileSync(file, text);
    }
    assert.equal(text, readFileSync(file, 'utf8'));
  });

test('K3: nothing of an authority is owned by its Member, and all leaves are', () => {
  const owned = ({ metadata }: { metadata: { ownerReferences?: unknown } }): boolean =>
    metadata.ownerReferences !== undefined;
  assert.deepEqual(manifests.authority.map(owned), [false, false, false, true]);
  assert.deepEqual(manifests.leaves.map(owned), [true, true]);
});
