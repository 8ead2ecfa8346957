import assert from 'node:assert/strict';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, trustDomainOf } from '@collective/base/ids';
import { type Log, silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { ScratchAuthority } from './scratch-authority.ts';
import { TrustFiles, writeTrustFiles } from './trust-files.ts';
import type { TrustPems, TrustSet } from './trust-set.ts';

const clock = new SystemClock();
const alice = trustDomainOf('alice' as MemberName, 'home');
const authority = await ScratchAuthority.create(alice);
const other = await ScratchAuthority.create(alice, { generation: 2 });
const [first, second] = [await authority.peer('node', 'node-1'), await authority.peer('node', 'node-1')];

const hasCode = (code: string) => (thrown: unknown) => thrown instanceof CollectiveError && thrown.code === code;

test('T4: what is written is read back, the key is for nobody else', async () => {
  await using folder = await scratchFolder();
  await writeTrustFiles(folder.path, first);
  using files = await TrustFiles.load(folder.path, { clock });
  assert.equal(files.current.id.uri, 'spiffe://alice.home/node/node-1');
  assert.equal(files.current.keyPem, first.keyPem);
  assert.equal((await stat(folder.path)).mode & 0o777, 0o700);
  assert.equal((await stat(join(folder.path, 'tls.key'))).mode & 0o777, 0o600);
  assert.equal(await readFile(join(folder.path, 'tls.crt'), 'utf8'), first.certificatePem);
});

test('T4: a new set replaces the old one as a whole and leaves nothing behind', async () => {
  await using folder = await scratchFolder();
  await writeTrustFiles(folder.path, first);
  await writeTrustFiles(folder.path, second);
  using files = await TrustFiles.load(folder.path, { clock });
  assert.equal(files.current.keyPem, second.keyPem);
  assert.deepEqual((await readdir(folder.path)).sort(), ['..data', '..set-2', 'tls.crt', 'tls.key', 'trust.pem']);
});

test('T4: many that write at once all succeed and leave one whole set in use', async () => {
  await using folder = await scratchFolder();
  await writeTrustFiles(folder.path, first);
  await Promise.all(Array.from({ length: 20 }, (_, i) => writeTrustFiles(folder.path, i % 2 === 0 ? first : second)));
  using files = await TrustFiles.load(folder.path, { clock });
  assert.ok([first.keyPem, second.keyPem].includes(files.current.keyPem));
});

test('T4: a set that another is about to link is left alone, one that a crash left behind goes', async () => {
  await using folder = await scratchFolder();
  await writeTrustFiles(folder.path, first);
  for (const name of ['..set-7', '..set-8']) await mkdir(join(folder.path, name));
  const anHourAgo = Date.now() / 1000 - 3600;
  await utimes(join(folder.path, '..set-7'), anHourAgo, anHourAgo);
  await writeTrustFiles(folder.path, second);
  const sets = (await readdir(folder.path)).filter((name) => name.startsWith('..set'));
  assert.deepEqual(sets.sort(), ['..set-8', '..set-9']);
});

test('T4: plain files that are there already are taken over by a write', async () => {
  await using folder = await scratchFolder();
  await writePlain(folder.path, first);
  await writeTrustFiles(folder.path, second);
  using files = await TrustFiles.load(folder.path, { clock });
  assert.equal(files.current.keyPem, second.keyPem);
  assert.equal(await readFile(join(folder.path, 'tls.key'), 'utf8'), second.keyPem);
});

test('T4: a set that does not fit together is never written', async () => {
  await using folder = await scratchFolder();
  await assert.rejects(writeTrustFiles(folder.path, { ...first, keyPem: second.keyPem }), hasCode('unauthenticated'));
  assert.deepEqual(await readdir(folder.path), []);
});

test('T4: a swap of ..data is taken into use, and a half-written folder of plain files is not', async () => {
  await using folder = await scratchFolder();
  await mkdir(join(folder.path, '..1'));
  await mkdir(join(folder.path, '..2'));
  await writePlain(join(folder.path, '..1'), first);
  await writePlain(join(folder.path, '..2'), second);
  await symlink('..1', join(folder.path, '..data'));
  using files = await TrustFiles.load(folder.path, { clock });
  const changes: TrustSet[] = [];
  files.onChange((set) => changes.push(set));
  assert.equal(await files.look(), false);
  await symlink('..2', join(folder.path, 'next'));
  await rename(join(folder.path, 'next'), join(folder.path, '..data'));
  assert.equal(await files.look(), true);
  assert.deepEqual(
    changes.map(({ keyPem }) => keyPem),
    [second.keyPem],
  );

  await using plain = await scratchFolder();
  await writePlain(plain.path, first);
  using plainFiles = await TrustFiles.load(plain.path, { clock });
  await writeFile(join(plain.path, 'tls.crt'), second.certificatePem);
  assert.equal(await plainFiles.look(), false);
  assert.equal(plainFiles.current.certificatePem, first.certificatePem);
  await writeFile(join(plain.path, 'tls.key'), second.keyPem);
  assert.equal(await plainFiles.look(), true);
  assert.equal(plainFiles.current.keyPem, second.keyPem);
});

const badSets: { name: string; pems: Partial<TrustPems> }[] = [
  { name: 'a bundle without the root that signed the leaf', pems: { bundlePem: other.bundlePem } },
  { name: 'an empty bundle', pems: { bundlePem: '' } },
  { name: 'a leaf in the bundle', pems: { bundlePem: first.certificatePem } },
  {
    name: 'a certificate that is none',
    pems: { certificatePem: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' },
  },
  { name: 'a key that is none', pems: { keyPem: 'secret' } },
  { name: 'the identity of somebody else', pems: await authority.peer('node', 'node-2') },
];

for (const { name, pems } of badSets) {
  test(`T4: the last good set stays in use against ${name}`, async () => {
    await using folder = await scratchFolder();
    await writePlain(folder.path, first);
    using files = await TrustFiles.load(folder.path, { clock });
    await writePlain(folder.path, { ...first, ...pems });
    assert.equal(await files.look(), false);
    assert.equal(files.current.keyPem, first.keyPem);
    await rm(join(folder.path, 'tls.key'));
    assert.equal(await files.look(), false);
    await writePlain(folder.path, second);
    assert.equal(await files.look(), true);
  });
}

test('T4: a watched folder is reloaded without being asked', { timeout: 20_000 }, async () => {
  await using folder = await scratchFolder();
  await writeTrustFiles(folder.path, first);
  using files = await TrustFiles.load(folder.path, { clock, lookEveryMs: 100 });
  const changed = new Promise<TrustSet>((resolve) => files.onChange(resolve));
  files.watch();
  await writeTrustFiles(folder.path, second);
  assert.equal((await changed).keyPem, second.keyPem);
});

test('T6: a bundle of two roots is one set, and its hash does not depend on their order', async () => {
  await using folder = await scratchFolder();
  await writePlain(folder.path, { ...first, bundlePem: authority.bundlePem + other.bundlePem });
  using files = await TrustFiles.load(folder.path, { clock });
  assert.equal(files.current.roots.length, 2);
  const { bundleHash } = files.current;
  await writePlain(folder.path, { ...first, bundlePem: other.bundlePem + authority.bundlePem });
  assert.equal(await files.look(), true);
  assert.equal(files.current.bundleHash, bundleHash);
  assert.notEqual(first.bundleHash, bundleHash);
});

test('a missing file is named, a key that others can read is warned of', async () => {
  await using folder = await scratchFolder();
  await assert.rejects(TrustFiles.load(folder.path, { clock }), hasCode('not_found'));
  await writePlain(folder.path, first);
  await chmod(join(folder.path, 'tls.key'), 0o640);
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (_fields, event) => warnings.push(event) };
  using _files = await TrustFiles.load(folder.path, { clock, log });
  assert.deepEqual(warnings, ['private key readable by others']);
});

async function writePlain(folder: string, { certificatePem, keyPem, bundlePem }: TrustPems): Promise<void> {
  await writeFile(join(folder, 'tls.crt'), certificatePem);
  await writeFile(join(folder, 'tls.key'), keyPem, { mode: 0o600 });
  await writeFile(join(folder, 'trust.pem'), bundlePem);
}

async function scratchFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'collective-trust-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
