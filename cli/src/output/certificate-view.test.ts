import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseMemberName, trustDomainOf } from '@collective/base/ids';
import { ScratchAuthority, type ScratchLeaf } from '@collective/protocol/tls/scratch-authority';
import { readTrustPems, writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { judge } from '../commands/auth.ts';
import { testShell } from '../shell-for-tests.ts';
import { type CertificateState, readCertificateFacts } from './certificate-view.ts';

const DAY_MS = 86_400_000;
const NOW_MS = Date.now();
const ALICE = trustDomainOf(parseMemberName('alice'), 'home');

async function withIdentity(
  dates: Pick<ScratchLeaf, 'notBefore' | 'notAfter'>,
  use: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-auth-'));
  try {
    const authority = await ScratchAuthority.create(ALICE);
    await writeTrustFiles(folder, await authority.peer('user', 'anna', dates));
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const at = (days: number): Date => new Date(NOW_MS + days * DAY_MS);

const cases: { name: string; notBefore: Date; notAfter: Date; state: CertificateState; says: RegExp | undefined }[] = [
  { name: 'a year with months left', notBefore: at(-100), notAfter: at(265), state: 'valid', says: undefined },
  { name: 'a year with 29 days left', notBefore: at(-336), notAfter: at(29), state: 'expires soon', says: /ends soon/ },
  { name: 'a month from its first day', notBefore: at(-0.1), notAfter: at(29.9), state: 'valid', says: undefined },
  { name: 'a month with 9 days left', notBefore: at(-21), notAfter: at(9), state: 'expires soon', says: /ends soon/ },
];

for (const { name, notBefore, notAfter, state, says } of cases) {
  test(`auth info: a certificate of ${name} is ${state}`, async () => {
    await withIdentity({ notBefore, notAfter }, async (folder) => {
      const facts = await readCertificateFacts(folder, NOW_MS);
      assert.equal(facts.state, state);
      assert.equal(facts.uri, 'spiffe://alice.home/user/anna');
      assert.match(facts.chain ?? '', /^verified/);
      const shell = testShell();
      await judge(shell, facts, true);
      if (says === undefined) assert.equal(shell.err(), '');
      else assert.match(shell.err(), says);
    });
  });
}

test('auth info: an expired certificate and one of the future are shown and end with an error', async () => {
  for (const [notBefore, notAfter, says] of [
    [at(-30), at(-1), /EXPIRED 1d ago/],
    [at(1), at(30), /NOT YET VALID.*clock/],
  ] as const) {
    await withIdentity({ notBefore, notAfter }, async (folder) => {
      const facts = await readCertificateFacts(folder, NOW_MS);
      await assert.rejects(judge(testShell(), facts, true), { code: 'unauthenticated', message: says });
    });
  }
});

test('auth info: a bundle of another authority is named as what does not fit', async () => {
  await withIdentity({}, async (folder) => {
    const other = await ScratchAuthority.create(ALICE);
    const mixed = join(folder, 'mixed');
    await mkdir(mixed);
    const pems = await readTrustPems(folder);
    await writeFile(join(mixed, 'tls.crt'), pems.certificatePem);
    await writeFile(join(mixed, 'tls.key'), pems.keyPem, { mode: 0o600 });
    await writeFile(join(mixed, 'trust.pem'), other.bundlePem);
    const facts = await readCertificateFacts(mixed, NOW_MS);
    assert.match(facts.chain ?? '', /NOT VALID: .*not signed by any root/);
    await assert.rejects(judge(testShell(), facts, true), { code: 'unauthenticated' });
  });
});
