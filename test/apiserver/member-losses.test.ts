/** Blocks that were lost, as a cluster shows them (D3): in the status of the Member, by one event, and by `kubectl collective`. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SystemClock } from '@collective/base/system-clock';
import { KUBECTL_COLLECTIVE } from '@collective/cli/kubectl/kubectl-program';
import { run } from '@collective/cli/run';
import { testShell } from '@collective/cli/shell-for-tests';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { TrustFiles } from '@collective/protocol/tls/trust-files';
import { until } from '../until.ts';
import { conditionOf, hasCondition, type KubeObject } from './api-client.ts';
import { LyingCoordinator } from './lying-coordinator.ts';
import { DOMAIN, isSettled, MemberWorld, NAMESPACE, pool } from './member-world.ts';

const TOLD_WITHIN_MS = 90_000;
const ADDRESS = `alice-coordinator.${NAMESPACE}.svc:7420`;

const running = new AsyncDisposableStack();
let world: MemberWorld;
let coordinator: LyingCoordinator;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await world.whenMember(
    'alice',
    (alice) => isSettled(alice) && hasCondition(alice, 'ReplicationHealthy'),
    'is at rest',
  );
  const identity = async (secret: string) =>
    running.use(await TrustFiles.load(await world.identityFolder(secret, 'alice'), { clock: new SystemClock() }));
  coordinator = running.use(
    await LyingCoordinator.start({
      own: await identity('alice-coordinator-tls'),
      operator: await identity('alice-operator-tls'),
      expected: { trustDomain: parseTrustDomain(`alice.${DOMAIN}`), role: 'coordinator' },
      behind: world.kubelet.resolve(ADDRESS),
    }),
  );
  world.detours.set(ADDRESS, `127.0.0.1:${coordinator.port}`);
});
after(() => running.disposeAsync());

const lostOf = ({ status }: KubeObject): number | undefined =>
  (status as { replication?: { lost?: number } } | undefined)?.replication?.lost;

/** Once the operator has looked: at a member at rest it does so by itself every 45 s, and when the object changes. */
async function lost(blocks: number): Promise<KubeObject> {
  coordinator.lost = blocks;
  await world.server.admin.patch(world.member('alice'), { metadata: { annotations: { look: `${blocks} lost` } } });
  return await world.whenMember('alice', (alice) => lostOf(alice) === blocks, `says ${blocks} lost`, TOLD_WITHIN_MS);
}

async function warnings(): Promise<string[]> {
  const events = await world.server.admin.list('events.k8s.io/v1', 'Event', NAMESPACE);
  return events
    .filter(({ regarding }) => (regarding as { kind?: string } | undefined)?.kind === 'Member')
    .filter(({ type }) => type === 'Warning')
    .map(({ reason, note }) => `${reason}: ${note}`);
}

async function plugin(...args: readonly string[]): Promise<string> {
  const kubeconfig = world.server.writeKubeconfig('plugin', {
    ...world.server.adminKubeconfig,
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin', namespace: NAMESPACE } }],
  });
  const shell = testShell({ env: { HOME: world.server.folder, KUBECONFIG: kubeconfig } });
  assert.equal(await run(args, shell, KUBECTL_COLLECTIVE), 0, shell.err());
  return shell.out();
}

test('D3: lost blocks are told by number, condition, one event and the plugin until they are settled, and hold up no eviction', async () => {
  const alice = await lost(3);
  const { status, reason, message } = conditionOf(alice, 'ReplicationHealthy');
  assert.deepEqual([status, reason], ['False', 'BlocksLost']);
  assert.match(message, /^3 blocks lost what was written last .*then `collective maintenance settle-losses`$/);
  assert.ok(isSettled(alice), 'it serves, and nothing is under way');
  await until(async () => (await warnings()).length > 0, 'an event tells of it', TOLD_WITHIN_MS);
  assert.deepEqual(await warnings(), [`BlocksLost: ${message}`]);
  const budget = await world.server.admin.find(world.object('policy/v1', 'PodDisruptionBudget', 'alice-nodes'));
  assert.equal((budget?.spec as { minAvailable?: number } | undefined)?.minAvailable, 1);
  const said = await plugin('status', 'alice');
  assert.match(said, /^Health: +DAMAGED: 3 blocks lost what was written last$/m);
  assert.match(said, /^Replication: +3 blocks LOST what was written last$/m);
  assert.match(said, /^ReplicationHealthy +False .* BlocksLost .*settle-losses/m);
  assert.match(await plugin('tree'), /member alice +DAMAGED: 3 blocks lost what was written last/);

  await lost(4);
  assert.deepEqual((await warnings()).length, 1);
  assert.ok(hasCondition(await lost(0), 'ReplicationHealthy'));
  assert.match(await plugin('status', 'alice'), /^Replication: +all chunks have their copies$/m);
});
