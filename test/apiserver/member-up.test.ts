/** Three members, from objects to bytes: what `kubectl apply` of a Collective and three Members gives. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect } from '@collective/client';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { until } from '../until.ts';
import { conditionOf } from './api-client.ts';
import { DOMAIN, MemberWorld, NAMESPACE } from './member-world.ts';
import { OPERATOR_ACCOUNT } from './operator-account.ts';

const NAMES = ['alice', 'bob', 'carol'] as const;
const FILE_BYTES = 9 * 1024 * 1024 + 17;
/** Nodes report every two seconds. */
const TOLD_WITHIN_MS = 30_000;
const COLLECTIVE_WITHIN_MS = 60_000;
const REFUSED_WITHIN_MS = 60_000;

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start());
});
after(() => running.disposeAsync());

test('K1: three Members become three running members, and their Collective counts them', async () => {
  await world.applyCollective();
  await Promise.all(NAMES.map((name) => world.applyMember(name)));
  for (const name of NAMES) {
    const member = await world.ready(name);
    const status = member.status as { nodesReady: string; trustDomain: string; certificatesSummary: string };
    assert.equal(status.nodesReady, '2/2');
    assert.equal(status.trustDomain, `${name}.${DOMAIN}`);
    assert.equal(status.certificatesSummary, 'ok');
    for (const type of ['CertificatesReady', 'CoordinatorReady', 'NodesReady'])
      assert.equal(conditionOf(member, type).status, 'True', type);
    assert.equal(conditionOf(member, 'Stalled').status, 'False');
  }
  const collective = await world.server.admin.when(
    world.object('collective.storage/v1alpha1', 'Collective', 'photos'),
    ({ status }) => (status as { membersReady?: string } | undefined)?.membersReady === '3/3',
    'counts three members',
    COLLECTIVE_WITHIN_MS,
  );
  assert.equal(conditionOf(collective, 'Ready').status, 'True');
});

test('K2, K3: what a member is made of belongs to it, but its volumes and its authority, which outlive it', async () => {
  const alice = await world.server.admin.find(world.member('alice'));
  const kept = [
    ['v1', 'PersistentVolumeClaim', 'alice-coordinator'],
    ['v1', 'PersistentVolumeClaim', 'alice-disk-0'],
    ['v1', 'Secret', 'alice-ca-g1'],
    ['cert-manager.io/v1', 'Certificate', 'alice-ca-g1'],
  ] as const;
  for (const [apiVersion, kind, name] of kept) {
    const object = await world.server.admin.find(world.object(apiVersion, kind, name));
    assert.ok(object !== undefined, `${kind} ${name}`);
    assert.equal((object.metadata as { ownerReferences?: unknown }).ownerReferences, undefined, `${kind} ${name}`);
  }
  const owned = [
    ['apps/v1', 'StatefulSet', 'alice-coordinator'],
    ['apps/v1', 'StatefulSet', 'alice-disk-1'],
    ['v1', 'Service', 'alice-nodes'],
    ['policy/v1', 'PodDisruptionBudget', 'alice-nodes'],
    ['networking.k8s.io/v1', 'NetworkPolicy', 'alice-nodes'],
    ['v1', 'ServiceAccount', 'alice'],
    ['cert-manager.io/v1', 'Certificate', 'alice-disk-1-tls'],
  ] as const;
  for (const [apiVersion, kind, name] of owned) {
    const object = await world.server.admin.find(world.object(apiVersion, kind, name));
    const { ownerReferences = [] } = (object?.metadata ?? {}) as { ownerReferences?: { uid: string }[] };
    assert.deepEqual(
      ownerReferences.map(({ uid }) => uid),
      [alice?.metadata.uid],
      `${kind} ${name}`,
    );
  }
});

test('T3: the operator administers every member as /operator, and its nodes serve', async () => {
  for (const name of NAMES) {
    using connection = await world.admin(name);
    assert.equal((await connection.admin.whoAmI()).subject, `spiffe://${name}.${DOMAIN}/operator`);
    const status = await connection.admin.status();
    assert.deepEqual(
      status.nodes.map((node) => [node.name, node.state]),
      [
        ['disk-0', 'ready'],
        ['disk-1', 'ready'],
      ],
    );
  }
});

test('T3a: a user with the certificate from its Secret stores and retrieves in its member', async () => {
  for (const [seed, name] of NAMES.entries()) {
    await using session = await world.userSession(name);
    await session.files.write('/large', seededBytes(seed, FILE_BYTES));
    assert.equal(await sha256Of(session.files.read('/large')), await sha256Of(seededBytes(seed, FILE_BYTES)));
    const nodesWithBytes = async (): Promise<number> =>
      (await session.admin.status()).nodes.filter(({ usedBytes }) => usedBytes >= FILE_BYTES).length;
    await until(async () => (await nodesWithBytes()) === 2, `both nodes of ${name} tell of a copy`, TOLD_WITHIN_MS);
  }
});

test('T1: the identity of one member is refused by another', async () => {
  const credentials = await world.identityFolder('alice-user-ann', 'alice');
  const coordinator = world.kubelet.resolve(`bob-coordinator.${NAMESPACE}.svc:7420`);
  const signal = AbortSignal.timeout(REFUSED_WITHIN_MS);
  const asAlice = { coordinator, trustDomain: `alice.${DOMAIN}`, credentials };
  await assert.rejects(connect(asAlice, { signal }), { code: 'unauthenticated' });
  await assert.rejects(connect({ ...asAlice, trustDomain: `bob.${DOMAIN}` }), { code: 'wrong_member' });
});

test('the operator tells Prometheus of its members under their names', async () => {
  const metrics = await world.metrics();
  for (const name of NAMES) {
    const labels = `namespace="${NAMESPACE}",member="${name}"`;
    assert.match(metrics, new RegExp(`^collective_member_ready\\{${labels}\\} 1$`, 'm'));
    assert.match(metrics, new RegExp(`^collective_member_nodes_desired\\{${labels}\\} 2$`, 'm'));
    assert.match(metrics, new RegExp(`^collective_coordinator_reachable\\{${labels}\\} 1$`, 'm'));
    assert.match(
      metrics,
      new RegExp(
        `^collective_member_certificate_not_after_seconds\\{${labels},certificate="${name}-ca-g1"\\} [0-9]+`,
        'm',
      ),
    );
  }
});

test('K1: all of this with the rights that the chart gives: nothing that the operator asked for was refused', () => {
  const own = world.server.auditEvents().filter(({ user }) => user.username === OPERATOR_ACCOUNT.user);
  assert.ok(own.length > 50);
  const refused = own.filter(({ responseStatus }) => responseStatus?.code === 403);
  assert.deepEqual(
    refused.map(({ verb, requestURI }) => `${verb} ${requestURI}`),
    [],
  );
});
