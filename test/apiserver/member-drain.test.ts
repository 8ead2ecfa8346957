/** A drain whose coordinator is killed in the middle (K2): it goes on by itself, and nobody is told that it is stuck. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { conditionOf, hasCondition, type KubeObject } from './api-client.ts';
import { MemberWorld, NAMESPACE, pool } from './member-world.ts';

const FILES = 8;
const FILE_BYTES = 5 * 1024 * 1024 + 3;
/** So slow that the drain outlasts the first count of a coordinator that has just started. */
const REPAIR_BYTES_PER_SECOND = 1024 * 1024;
const DRAINED_WITHIN_MS = 240_000;

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
  await world.applyMember('alice', { nodePools: [pool(3)] });
  await world.ready('alice');
  await using session = await world.userSession('alice');
  for (let seed = 0; seed < FILES; seed++) await session.files.write(`/file-${seed}`, seededBytes(seed, FILE_BYTES));
});
after(() => running.disposeAsync());

function nodesIn(member: KubeObject): string[] {
  const { nodes = [] } = (member.status ?? {}) as { nodes?: readonly { name: string; state: string }[] };
  return nodes.map(({ name, state }) => `${name} ${state}`);
}

async function stuckEvents(): Promise<unknown[]> {
  const events = await world.server.admin.list('events.k8s.io/v1', 'Event', NAMESPACE);
  return events.filter(({ reason }) => reason === 'DrainStuck').map(({ note }) => note);
}

test('K2: a coordinator that is killed within a drain goes on with it, and nobody is told that it is stuck', async () => {
  {
    using connection = await world.admin('alice');
    await connection.admin.setMaintenance({ repairBytesPerSecond: REPAIR_BYTES_PER_SECOND });
  }
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await world.whenMember('alice', (alice) => nodesIn(alice).includes('disk-2 Draining'), 'drains disk-2');
  await world.whenMember(
    'alice',
    ({ status }) => {
      const { nodes } = status as { nodes: readonly { name: string; leftChunks?: number }[] };
      return (nodes.find(({ name }) => name === 'disk-2')?.leftChunks ?? 0) > 0;
    },
    'counts what is left on disk-2',
  );
  await world.kubelet.kill('alice-coordinator-0');
  const stuck = new Set<string>();
  let wasMissed = false;
  await world.whenMember(
    'alice',
    (alice) => {
      const { reason, message } = conditionOf(alice, 'Reconciling');
      if (reason === 'DrainStuck') stuck.add(message);
      wasMissed ||= !hasCondition(alice, 'CoordinatorReady');
      return nodesIn(alice).length === 2;
    },
    'has lost disk-2',
    DRAINED_WITHIN_MS,
  );
  assert.deepEqual([...stuck], []);
  assert.ok(wasMissed, 'the operator has seen that the coordinator was away');
  assert.deepEqual(await stuckEvents(), []);
  await using session = await world.userSession('alice');
  for (let seed = 0; seed < FILES; seed++) {
    const read = await sha256Of(session.files.read(`/file-${seed}`));
    assert.equal(read, await sha256Of(seededBytes(seed, FILE_BYTES)), `file ${seed}`);
  }
});
