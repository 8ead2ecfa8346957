/** Three members from nothing: the chart, a Collective and three Members make three trust domains that store and do not mix. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { connect } from '@collective/client';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { clusterOfThisFile } from './cluster.ts';
import { ClusterMember, collectiveObject } from './cluster-member.ts';
import { installOperator } from './installed-operator.ts';

const FILE_BYTES = 100 * 1024 * 1024;
const NAMES = ['alice', 'bob', 'carol'];

const running = new AsyncDisposableStack();
let members: ClusterMember[] = [];
const _cluster = clusterOfThisFile({
  namespace: 'three-members',
  prepare: async (ready) => {
    await installOperator();
    await ready.apply(collectiveObject());
    members = NAMES.map((name) => running.use(new ClusterMember(ready, { name })));
    for (const member of members) await member.apply();
  },
});
after(() => running.disposeAsync());

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
    const status = await session.admin.status();
    assert.deepEqual(
      status.nodes.map(({ chunks }) => chunks > 0),
      [true, true],
      'replicas lie on both nodes',
    );
  }
});

test("T1: alice's certificate is refused by bob, although she asks for him by his name", async () => {
  const [alice, bob] = members;
  assert.ok(alice !== undefined && bob !== undefined);
  const credentials = await alice.credentials();
  await assert.rejects(
    connect({ coordinator: await bob.endpoint(), trustDomain: bob.trustDomain, credentials }),
    { code: 'wrong_member', message: /certificate .* is of alice\.lab\.example/ },
    'her own program does not even try',
  );
  await assert.rejects(
    connect({
      coordinator: await bob.endpoint(),
      trustDomain: alice.trustDomain,
      credentials,
      connectWithinMs: 5_000,
    }),
    { code: 'unauthenticated' },
    'and where she takes him for her own coordinator, neither believes the other',
  );
});
