/** Three members from nothing: the chart, a Collective and three Members make three trust domains that store and do not mix. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '@collective/client';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { until } from '../until.ts';
import { membersOfThisFile } from './members-of-file.ts';

const FILE_BYTES = 100 * 1024 * 1024;
const REPORTED_WITHIN_MS = 60_000;
const REFUSED_WITHIN_MS = 30_000;
const NAMES = ['alice', 'bob', 'carol'];

const { members } = membersOfThisFile(
  'three-members',
  NAMES.map((name) => ({ name })),
);

test('K1, T1: three Members become ready, each with an authority of its own', async () => {
  const roots = new Set<string>();
  for (const member of members) {
    const { status } = await member.whenReady();
    const { ca, nodesReady } = status as { ca: { generations: [{ fingerprint: string }] }; nodesReady: string };
    assert.equal(nodesReady, '2/2');
    roots.add(ca.generations[0].fingerprint);
  }
  assert.equal(roots.size, NAMES.length);
});

test('D10: 100 MiB go into each member and come back through the external addresses of its nodes', async () => {
  for (const [seed, member] of members.entries()) {
    await using session = await member.connect();
    await session.files.write('/large', seededBytes(seed, FILE_BYTES));
    assert.equal(await sha256Of(session.files.read('/large')), await sha256Of(seededBytes(seed, FILE_BYTES)));
    // What a node holds is told with its heartbeats.
    await until(
      async () => {
        const { nodes, replication } = await session.admin.status();
        return nodes.every(({ chunks }) => chunks > 0) && replication.underReplicated === 0;
      },
      'replicas lie on both nodes',
      REPORTED_WITHIN_MS,
    );
  }
});

test("T1: alice's certificate is refused by bob, although she asks for him by his name", async () => {
  const [alice, bob] = members;
  assert.ok(alice !== undefined && bob !== undefined);
  const credentials = await alice.credentials();
  await assert.rejects(
    connect({ coordinator: await bob.endpoint(), trustDomain: bob.trustDomain, credentials }),
    { code: 'wrong_member', message: /certificate .* is of alice\./ },
    'her own program does not even try',
  );
  await assert.rejects(
    connect({
      coordinator: await bob.endpoint(),
      trustDomain: alice.trustDomain,
      credentials,
      connectWithinMs: REFUSED_WITHIN_MS,
    }),
    { code: 'unauthenticated' },
    'and where she takes him for her own coordinator, neither believes the other',
  );
});
