/** The apiserver goes away and the operator dies in the middle of what takes several steps: it goes on where it stood. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { seededFile } from '../integration/random-file.ts';
import type { KubeObject } from './api-client.ts';
import { MemberWorld, pool } from './member-world.ts';
import { deedsIn } from './operator-deeds.ts';
import { OperatorReplica } from './operator-replica.ts';
import { SteadyWriter } from './steady-writer.ts';

const STEP_WITHIN_MS = 240_000;
const FILES = 24;
const FILE_BYTES = 8 * 1024 * 1024;
/** Of some 128 MiB on a node. */
const SLOW_BYTES_PER_SECOND = 512 * 1024;
const PHASES = ['Creating', 'Distributing', 'Reissuing', 'Retiring', 'Stable'];

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start({ operates: false }));
  await world.applyCollective();
  await world.applyMember('alice', { nodePools: [pool(3)] });
});
after(() => running.disposeAsync());

interface NodeSeen {
  readonly name: string;
  readonly state: string;
  readonly leftChunks?: number;
}

interface Authority {
  readonly generation: number;
  readonly phase: string;
}

const authorityOf = (member: KubeObject): Authority => (member.status as { ca: Authority }).ca;

test('T6: a rotation outlives a restart of the apiserver and the death of the operator in the middle of it', async () => {
  await using first = await OperatorReplica.start(world, ['alice']);
  await first.leads();
  const { generation: before } = authorityOf(await world.ready('alice'));
  await using session = await world.userSession('alice');
  const writer = new SteadyWriter(session);
  const annotations = { 'collective.storage/rotate-ca': 'please' };
  await world.server.admin.patch(world.member('alice'), { metadata: { annotations } });
  const reaches = async (phase: string): Promise<KubeObject> =>
    await world.whenMember(
      'alice',
      (alice) => {
        const now = authorityOf(alice);
        return now.generation === before + 1 && PHASES.indexOf(now.phase) >= PHASES.indexOf(phase);
      },
      `is in the phase ${phase}`,
      STEP_WITHIN_MS,
    );
  await reaches('Distributing');
  await world.server.restart();
  await reaches('Reissuing');
  await first.kill();
  await using second = await OperatorReplica.start(world, ['alice']);
  await second.leads();
  const alice = await reaches('Retiring');
  const { certificates } = alice.status as { certificates: readonly { name: string; generation: number }[] };
  const old = certificates.filter(({ generation }) => generation === before).map(({ name }) => name);
  assert.deepEqual(old, [`alice-ca-g${before}`], 'all but the root itself are of the new generation');
  await writer.stop();
});

test('K2: a drain outlives a restart of the apiserver and the death of the operator in the middle of it', async () => {
  await using first = await OperatorReplica.start(world, ['alice']);
  await first.leads();
  await world.ready('alice');
  await using session = await world.userSession('alice');
  for (let file = 0; file < FILES; file++) await session.files.write(`/kept-${file}`, seededFile(file, FILE_BYTES));
  const writer = new SteadyWriter(session);
  // So slow that it is not over before everybody was away.
  const { repairBytesPerSecond } = await session.admin.maintenance();
  await session.admin.setMaintenance({ repairBytesPerSecond: SLOW_BYTES_PER_SECOND });
  const drain = world.server.auditTail();
  await world.server.admin.patch(world.member('alice'), {
    metadata: { annotations: { 'collective.storage/drain-nodes': 'disk-1' } },
    spec: { nodePools: [pool(2)] },
  });
  const disk = ({ status }: KubeObject) =>
    (status as { nodes: readonly NodeSeen[] }).nodes.find(({ name }) => name === 'disk-1');
  const isDraining = (member: KubeObject): boolean => {
    const { state, leftChunks = 0 } = disk(member) ?? {};
    return state === 'Draining' && leftChunks > 0;
  };
  const assertHolds = async (): Promise<void> => {
    const { duty, chunks } = await session.admin.nodeHolding('disk-1');
    assert.ok(duty === 'draining' && chunks > 0, `disk-1 is ${duty} and holds ${chunks} chunks`);
  };
  await world.whenMember('alice', isDraining, 'drains', STEP_WITHIN_MS);
  await assertHolds();
  await world.server.restart();
  await assertHolds();
  await first.kill();
  await assertHolds();
  await using second = await OperatorReplica.start(world, ['alice']);
  await second.leads();
  await session.admin.setMaintenance({ repairBytesPerSecond });
  await world.whenMember('alice', (member) => disk(member) === undefined, 'is without the node', STEP_WITHIN_MS);
  await world.ready('alice');
  await writer.stop();
  for (let file = 0; file < FILES; file++) {
    assert.ok(seededFile(file, FILE_BYTES).equals(await session.files.readAll(`/kept-${file}`)), `file ${file}`);
    const { underReplicated, bad, lost } = await session.files.verify(`/kept-${file}`);
    assert.deepEqual([underReplicated, bad, lost], [0, [], 0], `file ${file}`);
  }
  // Whoever follows one that died in the middle may ask once more for what is on its way.
  const removed = [...new Set(deedsIn(drain.next()).filter((deed) => /^200 delete /.test(deed)))];
  assert.ok(removed.includes('200 delete persistentvolumeclaims alice-disk-1'));
  assert.deepEqual(
    removed.filter((deed) => !deed.includes('alice-disk-1')),
    [],
    'nothing but the node was taken away',
  );
});
