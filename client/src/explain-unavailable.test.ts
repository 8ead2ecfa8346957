/** T2: what a person is told when the wrong server answers, through the public calls. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, trustDomainOf } from '@collective/base/ids';
import { serverCredentials } from '@collective/protocol/tls/grpc-credentials';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { parseTrustSet, type TrustSet } from '@collective/protocol/tls/trust-set';
import { Server } from '@grpc/grpc-js';
import { connect, connectAdmin, enrol } from './index.ts';

const alice = trustDomainOf('alice' as MemberName, 'home');
const authority = await ScratchAuthority.create(alice);
const bobs = await ScratchAuthority.create(trustDomainOf('bob' as MemberName, 'home'));
const credentials = await mkdtemp(join(tmpdir(), 'collective-explain-'));
after(() => rm(credentials, { recursive: true, force: true }));
await writeTrustFiles(credentials, await authority.peer('user', 'ann'));

const poser = parseTrustSet(
  await authority.leaf({
    names: [
      { type: 'url', value: 'spiffe://alice.home/user/eve' },
      { type: 'dns', value: 'coordinator.alice.home' },
    ],
  }),
  'a poser',
);

const wrong: { name: string; server: TrustSet | undefined; code: string }[] = [
  { name: 'a user that poses as the coordinator by a DNS name', server: poser, code: 'unauthenticated' },
  { name: "bob's coordinator", server: await bobs.peer('coordinator'), code: 'unauthenticated' },
  { name: 'nobody', server: undefined, code: 'unavailable' },
];

for (const { name, server: identity, code } of wrong) {
  test(`T2: ${name} is told as ${code} by every way in`, { timeout: 60_000 }, async () => {
    await using server = await listen(identity);
    const target = { coordinator: `127.0.0.1:${server.port}`, trustDomain: alice, credentials };
    const isCode = (thrown: unknown): boolean => thrown instanceof CollectiveError && thrown.code === code;
    using member = await connectAdmin(target);
    await assert.rejects(member.admin.whoAmI(), isCode);
    // A session waits for a coordinator that is away, so only a wrong one ends its first attach at once.
    if (code === 'unauthenticated') await assert.rejects(connect(target), isCode);
    const enrolment = { ...target, caPem: authority.bundlePem, token: 'col1-x', role: 'user', name: 'ann' } as const;
    await assert.rejects(enrol({ ...enrolment, credentials: join(credentials, 'new') }), isCode);
  });
}

async function listen(identity: TrustSet | undefined): Promise<{ port: number } & AsyncDisposable> {
  const server = new Server();
  const current = identity ?? poser;
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = serverCredentials({ current, onChange: () => () => undefined });
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  if (identity === undefined) server.forceShutdown();
  return { port, [Symbol.asyncDispose]: async () => server.forceShutdown() };
}
