import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import type { NodeName } from '@collective/base/ids';
import { NodeState } from '@collective/protocol/gen/common';
import { NodeReport } from '@collective/protocol/gen/node';
import { commit, start } from '../ops/one-file.ts';
import { replicaOf } from '../session/scripted-operations.ts';
import { NodeDuties } from './node-duties.ts';
import { NodeTable } from './node-table.ts';

const silent = { diskLost: () => undefined, nodeCame: () => undefined, nodeWentAway: () => undefined };

/** A file with a chunk on n1 and n2, and one on n2 alone. */
async function open() {
  const parts = await start();
  const { world, client, inode } = parts;
  const { engine } = world.core;
  const nodes = await world.finish(NodeTable.load({ clock: world.clock, engine, events: silent }));
  for (const node of ['n1', 'n2', 'n3'] as NodeName[])
    await world.finish(nodes.reported(node, NodeReport.fromPartial({ disk: `disk-${node}`, freeBytes: 1e9 })));
  await commit(client, inode, [{ offset: 0, length: 10, chunk: 1 }], { replicas: [replicaOf('n1'), replicaOf('n2')] });
  await commit(client, inode, [{ offset: 10, length: 10, chunk: 2 }], { replicas: [replicaOf('n2')] });
  const told: string[] = [];
  const scrubbed: string[] = [];
  const dutyChanges: number[] = [];
  const connected = new Set<string>();
  const duties = new NodeDuties({
    engine,
    nodes,
    isConnected: (node) => connected.has(node),
    onDuty: () => dutyChanges.push(world.clock.bootMs()),
    orders: {
      scrub: async (node) => {
        if (!connected.has(node)) throw new CollectiveError('unavailable', `Order node ${node}: it has no link`);
        scrubbed.push(node);
      },
    },
    events: { record: (kind, message) => told.push(`${kind}: ${message}`) },
  });
  const run = <T>(act: Promise<T>): Promise<T> => world.finish(act);
  return { ...parts, nodes, duties, told, run, connected, scrubbed, dutyChanges };
}

test('D8: a cordoned node takes no new chunks and is told as such; an active one again does', async () => {
  await using world = await open();
  const { duties, nodes, told, run, dutyChanges } = world;
  const cordoned = await run(duties.set('n2', 'cordoned', 'ann'));
  assert.deepEqual([cordoned.duty, cordoned.state, cordoned.chunks], ['cordoned', NodeState.READY, 2]);
  assert.deepEqual(
    nodes.candidates().map(({ name }) => name),
    ['n1', 'n3'],
  );
  assert.deepEqual(
    nodes.status().map(({ duty }) => duty),
    ['active', 'cordoned', 'active'],
  );
  await run(duties.set('n2', 'cordoned', 'ann'));
  await run(duties.set('n2', 'active', 'ann'));
  assert.equal(nodes.candidates().length, 3);
  assert.deepEqual(told, [
    'node-duty: Node n2 is cordoned now, it was active',
    'node-duty: Node n2 is active now, it was cordoned',
  ]);
  assert.equal(dutyChanges.length, 2, 'whoever acts on duties is told of changes alone');
});

test('D8: what lies on a node is counted from the rows, without what nobody names any more', async () => {
  await using world = await open();
  const { duties, run, client } = world;
  assert.equal((await run(duties.holding('n1'))).chunks, 1);
  assert.equal((await run(duties.holding('n2'))).chunks, 2);
  assert.equal((await run(duties.holding('n3'))).chunks, 0);
  await commit(client, world.inode, [{ offset: 0, length: 20, chunk: 3 }], { replicas: [replicaOf('n3')] });
  const left = await Promise.all(['n1', 'n2', 'n3'].map((name) => run(duties.holding(name))));
  assert.deepEqual(
    left.map(({ chunks }) => chunks),
    [0, 0, 1],
  );
});

test('D8: a node is removed only when it takes no chunks and none lies there', async () => {
  await using world = await open();
  const { duties, nodes, run, told } = world;
  await assert.rejects(run(duties.remove('n3', false, 'ann')), { code: 'busy', message: /drain it first/ });
  await run(duties.set('n2', 'draining', 'ann'));
  await assert.rejects(run(duties.remove('n2', false, 'ann')), { code: 'busy', message: /2 chunks lie there still/ });
  assert.ok(nodes.get('n2' as NodeName));
  await run(duties.set('n3', 'draining', 'ann'));
  world.connected.add('n3');
  await assert.rejects(run(duties.remove('n3', true, 'ann')), { code: 'busy', message: /stop it first/ });
  world.connected.delete('n3');
  assert.equal((await run(duties.remove('n3', false, 'ann'))).chunks, 0);
  assert.equal(nodes.get('n3' as NodeName), undefined);
  assert.equal((await run(duties.remove('n2', true, 'ann'))).chunks, 2);
  assert.ok(told.includes('node-removed: Node n2 was removed; 2 chunks lay there'));
  const reloaded = await run(
    NodeTable.load({ clock: world.world.clock, engine: world.world.core.engine, events: silent }),
  );
  assert.deepEqual(
    reloaded.status().map(({ name }) => name),
    ['n1'],
  );
});

test('D8: duties and removal of what is not there, or cannot be, are refused by name', async () => {
  await using world = await open();
  const { duties, run } = world;
  await assert.rejects(run(duties.set('n9', 'draining', 'ann')), { code: 'not_found', message: /n9/ });
  await assert.rejects(run(duties.set('n1', 'asleep', 'ann')), {
    code: 'invalid_argument',
    message: /active, cordoned, draining/,
  });
  await assert.rejects(run(duties.remove('n9', true, 'ann')), { code: 'not_found' });
  await assert.rejects(async () => duties.holding('not a name'), { code: 'invalid_argument' });
});

test('D8: a node that is known and connected is told to scrub, and who asked is an event', async () => {
  await using world = await open();
  const { duties, told, scrubbed, connected } = world;
  const { signal } = new AbortController();
  await assert.rejects(duties.scrub('n9', 'ann', signal), { code: 'not_found' });
  await assert.rejects(duties.scrub('n2', 'ann', signal), { code: 'unavailable' });
  assert.deepEqual(told, []);
  connected.add('n2');
  await duties.scrub('n2', 'ann', signal);
  assert.deepEqual(scrubbed, ['n2']);
  assert.deepEqual(told, ['scrub-asked: Node n2 reads and verifies all that it holds, as ann asked']);
});
