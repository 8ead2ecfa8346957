/** A pool that grows and shrinks: a node leaves only when the coordinator says that it is empty, and its volume last (K2, K3). */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { until } from '../until.ts';
import { conditionOf, type KubeObject } from './api-client.ts';
import { MemberWorld, pool } from './member-world.ts';

const FILES = 8;
const FILE_BYTES = 5 * 1024 * 1024 + 3;
const STEP_WITHIN_MS = 120_000;

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await world.ready('alice');
  await using session = await world.userSession('alice');
  for (let seed = 0; seed < FILES; seed++) await session.files.write(`/file-${seed}`, seededBytes(seed, FILE_BYTES));
});
after(() => running.disposeAsync());

const claim = (node: string) => world.object('v1', 'PersistentVolumeClaim', `alice-${node}`);

function nodesIn(member: KubeObject | undefined): string[] {
  const { nodes = [] } = (member?.status ?? {}) as { nodes?: readonly { name: string; state: string }[] };
  return nodes.map(({ name, state }) => `${name} ${state}`);
}

async function holdsAllFiles(): Promise<void> {
  await using session = await world.userSession('alice');
  for (let seed = 0; seed < FILES; seed++) {
    const read = await sha256Of(session.files.read(`/file-${seed}`));
    assert.equal(read, await sha256Of(seededBytes(seed, FILE_BYTES)), `file ${seed}`);
  }
}

async function untilNodes(expected: readonly string[]): Promise<void> {
  const holds = (alice: KubeObject): boolean => JSON.stringify(nodesIn(alice)) === JSON.stringify(expected);
  await world.whenMember('alice', holds, `has the nodes ${expected.join(', ')}`, STEP_WITHIN_MS);
}

test('K2: a pool that grows gets a node more', async () => {
  await world.applyMember('alice', { nodePools: [pool(3)] });
  await untilNodes(['disk-0 Ready', 'disk-1 Ready', 'disk-2 Ready']);
  await world.server.admin.when(
    world.object('policy/v1', 'PodDisruptionBudget', 'alice-nodes'),
    ({ spec }) => (spec as { minAvailable: number }).minAvailable === 2,
    'lets one node go once all chunks are counted',
    STEP_WITHIN_MS,
  );
});

test('K3: a pool that shrinks drains its highest node, and takes its volume when the member has forgotten it', async () => {
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await untilNodes(['disk-0 Ready', 'disk-1 Ready']);
  await world.ready('alice');
  assert.equal(await world.server.admin.find(claim('disk-2')), undefined);
  for (const [apiVersion, kind, name] of [
    ['apps/v1', 'StatefulSet', 'alice-disk-2'],
    ['v1', 'Pod', 'alice-disk-2-0'],
    ['cert-manager.io/v1', 'Certificate', 'alice-disk-2-tls'],
    ['v1', 'Secret', 'alice-disk-2-tls'],
  ] as const) {
    // A Certificate is there until its requests are collected.
    const isGone = async () => (await world.server.admin.find(world.object(apiVersion, kind, name))) === undefined;
    await until(isGone, `${kind} ${name} is gone`, STEP_WITHIN_MS);
  }
  using connection = await world.admin('alice');
  assert.deepEqual(
    (await connection.admin.status()).nodes.map(({ name }) => name),
    ['disk-0', 'disk-1'],
  );
  await holdsAllFiles();
});

test('K3: a node that is taken back while it starts leaves nothing behind, neither here nor with the coordinator', async () => {
  await world.applyMember('alice', { nodePools: [pool(3)] });
  const pod = world.object('v1', 'Pod', 'alice-disk-2-0');
  await until(async () => (await world.server.admin.find(pod)) !== undefined, 'its pod is made', STEP_WITHIN_MS);
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await untilNodes(['disk-0 Ready', 'disk-1 Ready']);
  await world.ready('alice');
  assert.equal(await world.server.admin.find(claim('disk-2')), undefined);
  using connection = await world.admin('alice');
  assert.deepEqual(
    (await connection.admin.status()).nodes.map(({ name }) => name),
    ['disk-0', 'disk-1'],
  );
});

test('K2: a node that is named leaves, and another takes its place', async () => {
  await world.applyMember(
    'alice',
    { nodePools: [pool(2)] },
    { annotations: { 'collective.storage/drain-nodes': 'disk-0' } },
  );
  await untilNodes(['disk-1 Ready', 'disk-2 Ready']);
  assert.equal(await world.server.admin.find(claim('disk-0')), undefined);
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await world.ready('alice');
  await holdsAllFiles();
});

test('K3: the claim of an empty node that another pod still holds is told with the name of the pod, and goes after it', async () => {
  const { admin } = world.server;
  await world.applyMember('alice', { nodePools: [pool(3)] });
  const alice = await world.ready('alice');
  const [fresh = ''] = nodesIn(alice)
    .map((node) => node.split(' ')[0] ?? '')
    .filter((node) => !['disk-1', 'disk-2'].includes(node));
  // It has a machine and so holds the claim, and never starts, for want of a Secret.
  const copy = {
    ...world.object('v1', 'Pod', 'copy'),
    spec: {
      nodeName: 'machine-of-copy',
      containers: [{ name: 'copy', image: 'copy:1' }],
      volumes: [
        { name: 'volume', persistentVolumeClaim: { claimName: `alice-${fresh}` } },
        { name: 'missing', projected: { sources: [{ secret: { name: 'missing' } }] } },
      ],
    },
  };
  await admin.apply(copy);
  await world.applyMember(
    'alice',
    { nodePools: [pool(2)] },
    { annotations: { 'collective.storage/drain-nodes': fresh } },
  );
  const stuck = await world.whenMember(
    'alice',
    (member) => conditionOf(member, 'Reconciling').reason === 'DrainStuck',
    'has a drain that is stuck',
    STEP_WITHIN_MS,
  );
  assert.match(
    conditionOf(stuck, 'Reconciling').message,
    new RegExp(`^Node ${fresh} cannot go: .* claim alice-${fresh} is still used by pod copy: `),
  );
  await admin.removeNow(copy);
  await untilNodes(['disk-1 Ready', 'disk-2 Ready']);
  assert.equal(await admin.find(claim(fresh)), undefined);
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await world.ready('alice');
});

test('K3: a lost volume of a node is a lost disk: the node gets an empty one and serves again', async () => {
  const before = await world.server.admin.find(claim('disk-1'));
  await world.server.admin.remove(claim('disk-1'));
  await world.server.admin.remove(world.object('v1', 'Pod', 'alice-disk-1-0'));
  const after = await world.server.admin.when(
    claim('disk-1'),
    ({ metadata }) => metadata.uid !== before?.metadata.uid,
    'is another',
    STEP_WITHIN_MS,
  );
  await untilNodes(['disk-1 Ready', 'disk-2 Ready']);
  const alice = await world.ready('alice');
  const { nodes } = alice.status as { nodes: readonly { name: string; volumeUid: string }[] };
  assert.equal(nodes.find(({ name }) => name === 'disk-1')?.volumeUid, after.metadata.uid);
  await holdsAllFiles();
});

test('K2: another image comes to one pod at a time, the coordinator last', async () => {
  await world.applyMember('alice', { nodePools: [pool(2)], image: 'collective:other' });
  const order: string[] = [];
  await world.whenMember(
    'alice',
    (alice) => {
      const { nodes, coordinator } = alice.status as {
        nodes: readonly { name: string; image?: string; state: string }[];
        coordinator: { image?: string };
      };
      const followers = [...nodes, { name: 'coordinator', ...coordinator }]
        .filter(({ image }) => image === 'collective:other')
        .map(({ name }) => name);
      for (const name of followers) if (!order.includes(name)) order.push(name);
      // When all nodes follow it is the coordinator's turn, and without it they are not ready.
      const away = followers.length >= nodes.length ? [] : nodes.filter(({ state }) => state !== 'Ready');
      assert.ok(away.length <= 1, `at most one node is away: ${JSON.stringify(alice.status)}`);
      return followers.length === 3 && conditionOf(alice, 'Upgrading').reason === 'UpToDate';
    },
    'follows the other image',
    STEP_WITHIN_MS,
  );
  assert.deepEqual(order, ['disk-1', 'disk-2', 'coordinator']);
  await world.ready('alice');
  await holdsAllFiles();
});

test('K3: the lost volume of the coordinator stops the member until the loss is accepted', async () => {
  const before = await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-coordinator'));
  const lost = before?.metadata.uid ?? '';
  await world.stopOperator();
  await world.server.admin.remove(world.object('v1', 'PersistentVolumeClaim', 'alice-coordinator'));
  await world.server.admin.remove(world.object('v1', 'Pod', 'alice-coordinator-0'));
  await world.startOperator();
  const spec = { nodePools: [pool(2)], image: 'collective:other' };
  const stalled = await world.whenMember(
    'alice',
    (alice) => conditionOf(alice, 'Stalled').reason === 'CoordinatorVolumeLost',
    'is stalled',
    STEP_WITHIN_MS,
  );
  assert.match(conditionOf(stalled, 'Stalled').message, new RegExp(`accept-lost-volume=${lost}$`));
  assert.equal(conditionOf(stalled, 'Ready').status, 'False');
  assert.equal(
    await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-coordinator')),
    undefined,
  );
  await world.applyMember('alice', spec, { annotations: { 'collective.storage/accept-lost-volume': lost } });
  assert.deepEqual(nodesIn(await world.ready('alice')), ['disk-1 Ready', 'disk-2 Ready']);
});
