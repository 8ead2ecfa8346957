import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dockerfileOf } from './images.ts';
import { storageManifest } from './node-image.ts';

test('an image of one program is empty but for it, and starts it with the words that come first', () => {
  assert.equal(
    dockerfileOf({ entrypoint: ['cert-manager', 'webhook'], user: 1000 }),
    [
      'FROM scratch',
      'COPY . /usr/local/bin/',
      'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'USER 1000:1000',
      'ENTRYPOINT ["/usr/local/bin/cert-manager","webhook"]',
      '',
    ].join('\n'),
  );
  assert.doesNotMatch(dockerfileOf({ from: 'debian' }), /ENTRYPOINT|USER|scratch/);
});

const GO_SOURCE = [
  'package nodeimage',
  '',
  'const defaultStorageManifest = `',
  'image: ` + storageProvisionerImage + `',
  'helper: ` + storageHelperImage + `',
  'helper again: ` + storageHelperImage + `',
  'end: true',
  '`',
  '',
].join('\n');

test("kind's storage manifest is taken out of its source, with images that are there", () => {
  assert.equal(
    storageManifest(GO_SOURCE),
    'image: lab.test/local-path-provisioner:1\nhelper: lab.test/busybox:1\nhelper again: lab.test/busybox:1\nend: true\n',
  );
});

test('a kind that holds its storage manifest otherwise is noticed', () => {
  assert.throws(() => storageManifest('package nodeimage\n'), /holds its storage manifest elsewhere/);
  assert.throws(
    () => storageManifest(GO_SOURCE.replaceAll('storageHelperImage', 'helperImage')),
    /look what became of it/,
  );
});
