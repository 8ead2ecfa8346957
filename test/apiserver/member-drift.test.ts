/** What happens to a running member when somebody, or something, puts it out of order: and that in order it costs no call. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { KubeObject } from './api-client.ts';
import { conditionOf, MemberWorld, OPERATOR_AGENT, pool } from './member-world.ts';

const RIGHT_WITHIN_MS = 30_000;
const QUIET_MS = 60_000;
/** Counting all chunks after the start of a node. */
const SETTLES_WITHIN_MS = 60_000;

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
  await world.applyMember('alice', { nodePools: [pool(1)] });
  await world.ready('alice');
});
after(() => running.disposeAsync());

const service = () => world.object('v1', 'Service', 'alice-coordinator');
const statefulSet = () => world.object('apps/v1', 'StatefulSet', 'alice-disk-0');
const trust = () => world.object('v1', 'ConfigMap', 'alice-trust');

test('K1: for a minute in order there is no call but watches', async () => {
  await world.whenMember(
    'alice',
    (alice) => conditionOf(alice, 'ReplicationHealthy').status === 'True',
    'has counted its chunks',
    SETTLES_WITHIN_MS,
  );
  await delay(5_000);
  const from = world.server.auditEvents().length;
  await delay(QUIET_MS);
  const calls = world.server
    .auditEvents()
    .slice(from)
    .filter(({ userAgent = '', verb }) => userAgent.startsWith(OPERATOR_AGENT) && verb !== 'watch')
    .map(({ verb, requestURI }) => `${verb} ${requestURI}`);
  assert.deepEqual(calls, []);
});

test('K1: what is deleted comes back, what is edited is put right', async () => {
  const before = await Promise.all([service(), statefulSet(), trust()].map((each) => world.server.admin.find(each)));
  const [oldService, oldSet, oldTrust] = before;
  await world.server.admin.remove(service());
  await world.server.admin.patch(trust(), { data: { 'trust.pem': 'nonsense', more: 'nonsense' } });
  await world.server.admin.patch(statefulSet(), { spec: { template: { spec: { terminationGracePeriodSeconds: 1 } } } });
  await world.server.admin.when(
    service(),
    ({ metadata }) => metadata.uid !== oldService?.metadata.uid,
    'is made anew',
    RIGHT_WITHIN_MS,
  );
  const same = (object: KubeObject, other: KubeObject | undefined, field: 'spec' | 'data'): boolean =>
    JSON.stringify(object[field]) === JSON.stringify(other?.[field]);
  await world.server.admin.when(trust(), (now) => same(now, oldTrust, 'data'), 'is put right', RIGHT_WITHIN_MS);
  await world.server.admin.when(statefulSet(), (now) => same(now, oldSet, 'spec'), 'is put right', RIGHT_WITHIN_MS);
});

test('K2: a pod that was deleted comes back with the same volume', async () => {
  const pod = world.object('v1', 'Pod', 'alice-disk-0-0');
  const before = await world.server.admin.find(pod);
  const claim = await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-disk-0'));
  await world.server.admin.remove(pod);
  await world.server.admin.when(
    pod,
    ({ metadata }) => metadata.uid !== before?.metadata.uid,
    'is another',
    RIGHT_WITHIN_MS,
  );
  await world.ready('alice');
  const after = await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-disk-0'));
  assert.equal(after?.metadata.uid, claim?.metadata.uid);
});

test('paused: nothing is put right before the pause ends', async () => {
  await world.applyMember('alice', { nodePools: [pool(1)], maintenance: { paused: true } });
  await world.whenMember('alice', (alice) => conditionOf(alice, 'Reconciling').reason === 'Paused', 'is paused');
  await world.server.admin.remove(service());
  // Whatever else changes makes the operator look: it saw the missing Service, and left it.
  await world.server.admin.patch(world.member('alice'), { metadata: { annotations: { looked: 'yes' } } });
  await delay(2_000);
  assert.equal(await world.server.admin.find(service()), undefined);
  await world.applyMember('alice', { nodePools: [pool(1)] });
  await world.server.admin.when(service(), () => true, 'is back', RIGHT_WITHIN_MS);
  await world.ready('alice');
});

test('K1: an operator that was stopped finds what changed meanwhile', async () => {
  await world.stopOperator();
  await world.server.admin.remove(service());
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await world.startOperator();
  await world.server.admin.when(service(), () => true, 'is back', RIGHT_WITHIN_MS);
  const alice = await world.ready('alice');
  assert.equal((alice.status as { nodesReady: string }).nodesReady, '2/2');
});

test('K1: it goes on after the apiserver was away', async () => {
  await world.server.restart();
  await world.server.admin.remove(service());
  await world.server.admin.when(service(), () => true, 'is back', RIGHT_WITHIN_MS);
});
