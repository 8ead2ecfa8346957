/** What happens to a running member when somebody, or something, puts it out of order: and that in order it costs no call. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../until.ts';
import { conditionOf, hasCondition, type KubeObject } from './api-client.ts';
import { isSettled, MemberWorld, NAMESPACE, OPERATOR_AGENT, pool } from './member-world.ts';
import { quiet } from './quiet.ts';

const RIGHT_WITHIN_MS = 30_000;
/** An apiserver that was away is asked again after 30 s at the latest. */
const BACK_WITHIN_MS = 90_000;
/** One node after the other, each when all chunks have their replicas again. */
const ROLLED_WITHIN_MS = 120_000;
/** Sooner than the next look at a member that is at rest. */
const SOON_WITHIN_MS = 12_000;
const QUIET_MS = 60_000;
const QUIET_WITHIN_MS = 240_000;
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
  await quiet(world.server, { userAgent: OPERATOR_AGENT, forMs: QUIET_MS, withinMs: QUIET_WITHIN_MS });
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

test('K1: what has lost the label of its member is missed, and gets it again', async () => {
  const label = 'collective.storage/member';
  await world.whenMember(
    'alice',
    (alice) => isSettled(alice) && hasCondition(alice, 'ReplicationHealthy'),
    'is at rest',
  );
  for (const reference of [service(), statefulSet(), trust()]) {
    await world.server.admin.patch(reference, { metadata: { labels: { [label]: null } } });
    await world.server.admin.when(
      reference,
      ({ metadata }) => metadata.labels?.[label] === 'alice',
      'is known again',
      SOON_WITHIN_MS,
    );
  }
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
  await world.server.admin.when(service(), () => true, 'is back', BACK_WITHIN_MS);
});

test('D10: a Service that was deleted comes back under its port, and no pod starts anew', async () => {
  await world.applyMember('alice', { nodePools: [pool(2)], exposure: { type: 'NodePort' } });
  const alice = await world.whenMember('alice', (now) => portsTold(now).length === 3 && isSettled(now), 'is exposed');
  const before = await exposedServices();
  await advertised(portOf(before[1]));
  await world.ready('alice');
  const pods = await podUids();
  for (const lost of before) await world.server.admin.remove(lost);
  for (const lost of before) {
    // The port is asked for once; that it is asked for no more takes it from nobody.
    const isAtRest = (now: KubeObject): boolean =>
      now.metadata.uid !== lost.metadata.uid && !JSON.stringify(now.metadata).includes('f:nodePort');
    const now = await world.server.admin.when(lost, isAtRest, 'is made anew', RIGHT_WITHIN_MS);
    assert.equal(portOf(now), portOf(lost));
  }
  assert.deepEqual(portsTold(await world.ready('alice')), portsTold(alice));
  assert.deepEqual(await podUids(), pods);
});

test('D10: a port that somebody else has by then is another one; an event says so, and clients are sent there', async () => {
  const before = await exposedServices();
  await world.stopOperator();
  for (const lost of before) {
    await world.server.admin.remove(lost);
    const { metadata } = world.object('v1', 'Service', `instead-of-${lost.metadata.name}`);
    await world.server.admin.apply({
      ...lost,
      metadata,
      spec: { type: 'NodePort', ports: [{ port: 1, nodePort: portOf(lost) }] },
    });
  }
  await world.startOperator();
  for (const lost of before) {
    await world.server.admin.when(lost, (now) => portOf(now) !== portOf(lost), 'is there', RIGHT_WITHIN_MS);
    const told = `Service ${lost.metadata.name} cannot have its port ${portOf(lost)} again`;
    await until(
      async () => (await notesOf('PortChanged')).some((note) => note.startsWith(told)),
      told,
      RIGHT_WITHIN_MS,
    );
  }
  const [coordinator, node] = await exposedServices();
  await world.whenMember(
    'alice',
    ({ status }) => JSON.stringify(status).includes(`"external":"127.0.0.1:${portOf(coordinator)}"`),
    'tells its new port',
    RIGHT_WITHIN_MS,
  );
  await advertised(portOf(node));
  await world.ready('alice');
});

async function exposedServices(): Promise<KubeObject[]> {
  const found = await Promise.all(
    ['alice-coordinator', 'alice-disk-0'].map((name) => world.server.admin.find(world.object('v1', 'Service', name))),
  );
  return found.filter((each) => each !== undefined);
}

function portOf(service: KubeObject | undefined): number | undefined {
  return (service?.spec as { ports?: { nodePort?: number }[] } | undefined)?.ports?.[0]?.nodePort;
}

/** Of the coordinator and of both nodes, once each is known. */
function portsTold({ status }: KubeObject): number[] {
  const { coordinator, nodes = [] } = status as { coordinator?: Told; nodes?: Told[] };
  return [coordinator, ...nodes].flatMap((part) => part?.nodePort ?? []);
}

interface Told {
  readonly nodePort?: number;
}

/** The node's pod sends clients there. */
async function advertised(port: number | undefined): Promise<void> {
  await world.server.admin.when(
    world.object('v1', 'Pod', 'alice-disk-0-0'),
    ({ spec }) => JSON.stringify(spec).includes(`external=[$(HOST_IP)]:${port}`),
    `advertises port ${port}`,
    ROLLED_WITHIN_MS,
  );
}

async function podUids(): Promise<(string | undefined)[]> {
  const pods = await world.server.admin.list('v1', 'Pod', NAMESPACE);
  return pods.map(({ metadata }) => metadata.uid).sort();
}

async function notesOf(reason: string): Promise<string[]> {
  const events = await world.server.admin.list('events.k8s.io/v1', 'Event', NAMESPACE);
  return events.filter((event) => event.reason === reason).map(({ note }) => String(note));
}
