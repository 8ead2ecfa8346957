import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { TrustDomain } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { keepRenewed } from './keep-renewed.ts';
import { ScratchAuthority } from './scratch-authority.ts';
import { isOfEarlierRoot, takeBundle, toldBundle } from './trust-bundle.ts';
import { TrustFiles, writeTrustFiles } from './trust-files.ts';
import { parseTrustSet, type TrustSet } from './trust-set.ts';

const clock = new SystemClock();
const domain = 'alice.home' as TrustDomain;
const old = await ScratchAuthority.create(domain);
const next = await ScratchAuthority.create(domain, { generation: 2 });
const both = old.bundlePem + next.bundlePem;
let scratch: string;

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'collective-bundle-'));
});
after(() => rm(scratch, { recursive: true, force: true }));

async function withRoots(authority: ScratchAuthority, bundlePem: string, role: 'coordinator' | 'user' = 'coordinator') {
  return parseTrustSet({ ...(await authority.peer(role, role === 'user' ? 'ann' : '')), bundlePem }, 'a peer');
}

async function filesOf(name: string, set: TrustSet): Promise<TrustFiles> {
  const folder = join(scratch, name);
  await writeTrustFiles(folder, set);
  return await TrustFiles.load(folder, { clock });
}

test('T6: a peer is told the bundle when it reports another, or when its leaf is of another root than signs', async () => {
  const own = await withRoots(next, both);
  const { bundleHash, rootFingerprint256 } = own;
  const earlier = await withRoots(old, both);
  assert.equal(toldBundle(own, { bundleHash, rootFingerprint256 }), undefined);
  assert.equal(toldBundle(own, { bundleHash }), undefined, 'of its leaf nothing is known');
  const told = { bundlePem: both, bundleHash, signingRoot: rootFingerprint256 };
  assert.deepEqual(toldBundle(own, { bundleHash: '', rootFingerprint256 }), told);
  assert.deepEqual(toldBundle(own, { bundleHash, rootFingerprint256: earlier.rootFingerprint256 }), told);
  assert.equal(isOfEarlierRoot(earlier, rootFingerprint256), true);
  assert.equal(isOfEarlierRoot(own, rootFingerprint256), false);
  const alone = await withRoots(old, old.bundlePem);
  assert.equal(isOfEarlierRoot(alone, rootFingerprint256), false, 'a root that it does not trust yet');
});

test('T6: a told bundle is written beside the leaf as it is on the disk', async () => {
  using files = await filesOf('writes', await withRoots(old, old.bundlePem, 'user'));
  const told = toldBundle(await withRoots(old, both), { bundleHash: '' });
  assert.ok(told);
  const renewed = await withRoots(old, old.bundlePem, 'user');
  await writeTrustFiles(files.folder, renewed);
  assert.equal(await takeBundle(files, told), true);
  assert.equal(files.current.roots.length, 2);
  assert.equal(files.current.certificatePem, renewed.certificatePem, 'a leaf that another process has renewed stays');
  assert.equal(await readFile(join(files.folder, 'trust.pem'), 'utf8'), both);
  assert.equal(await takeBundle(files, told), false, 'a second time is no change');
});

test('T6: a bundle that is not what it says, or leaves the leaf without a root, is not written', async () => {
  using files = await filesOf('refuses', await withRoots(old, old.bundlePem, 'user'));
  const told = toldBundle(await withRoots(next, next.bundlePem), { bundleHash: '' });
  assert.ok(told);
  await assert.rejects(takeBundle(files, told), { code: 'unauthenticated' });
  await assert.rejects(takeBundle(files, { ...told, bundlePem: both }), { code: 'unauthenticated' });
  assert.equal(await readFile(join(files.folder, 'trust.pem'), 'utf8'), old.bundlePem);
});

test('T4: in a volume that kubelet keeps nothing is written, neither a bundle nor a renewed leaf', async () => {
  const folder = join(scratch, 'mounted');
  const set = await withRoots(old, old.bundlePem, 'user');
  await mkdir(join(folder, '..2026_11_25_20_00_00.1'), { recursive: true });
  for (const [name, text] of [
    ['tls.crt', set.certificatePem],
    ['tls.key', set.keyPem],
    ['trust.pem', set.bundlePem],
  ] as const)
    await writeFile(join(folder, '..2026_11_25_20_00_00.1', name), text);
  await symlink('..2026_11_25_20_00_00.1', join(folder, '..data'));
  using files = await TrustFiles.load(folder, { clock });
  const told = toldBundle(await withRoots(next, both), { bundleHash: '' });
  assert.ok(told);
  assert.equal(await takeBundle(files, told), false);
  const renewal = keepRenewed({
    trust: files,
    clock,
    log: silentLog,
    signingRoot: () => told.signingRoot,
    request: () => assert.fail('nobody is asked'),
  });
  renewal.lookNow();
  await renewal.stop();
});

test('T6: a leaf is renewed as soon as another root of its bundle signs', async () => {
  using files = await filesOf('renews', await withRoots(old, both, 'user'));
  let signingRoot = files.current.rootFingerprint256;
  let asked = 0;
  const renewal = keepRenewed({
    trust: files,
    clock,
    log: silentLog,
    signingRoot: () => signingRoot,
    request: async (csr) => {
      asked++;
      return { certificatePem: await next.sign(csr), bundlePem: both };
    },
  });
  renewal.lookNow();
  const changed = new Promise<TrustSet>((resolve) => files.onChange(resolve));
  assert.equal(asked, 0, 'not due');
  signingRoot = (await withRoots(next, both)).rootFingerprint256;
  renewal.lookNow();
  const set = await changed;
  assert.equal(set.rootFingerprint256, signingRoot);
  renewal.lookNow();
  await renewal.stop();
  assert.equal(asked, 1, 'and then it is not');
});
