import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { chunkIdFromBytes, type NodeName } from '@collective/base/ids';
import { NodeState } from '@collective/protocol/gen/common';
import { NodeReport } from '@collective/protocol/gen/node';
import { keepCopies } from '../ops/chunk-repair.ts';
import { commit, start } from '../ops/one-file.ts';
import { code, replicaOf, testChunk } from '../session/scripted-operations.ts';
import { CHUNKS, UNDER_REPLICATED } from '../tables/tables.ts';
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
  await assert.rejects(run(duties.remove('n3', { force: false, loseLastCopies: false }, 'ann')), {
    code: 'busy',
    message: /drain it first/,
  });
  await run(duties.set('n2', 'draining', 'ann'));
  await assert.rejects(run(duties.remove('n2', { force: false, loseLastCopies: false }, 'ann')), {
    code: 'busy',
    message: /2 chunks lie there still/,
  });
  assert.ok(nodes.get('n2' as NodeName));
  await run(duties.set('n3', 'draining', 'ann'));
  world.connected.add('n3');
  await assert.rejects(run(duties.remove('n3', { force: true, loseLastCopies: false }, 'ann')), {
    code: 'busy',
    message: /stop it first/,
  });
  world.connected.delete('n3');
  assert.equal((await run(duties.remove('n3', { force: false, loseLastCopies: false }, 'ann'))).chunks, 0);
  assert.equal(nodes.get('n3' as NodeName), undefined);
  const kept = run(duties.remove('n2', { force: true, loseLastCopies: false }, 'ann'));
  await assert.rejects(kept, { code: 'busy', message: /only known copy of 1 chunks/ });
  assert.equal((await run(duties.remove('n2', { force: true, loseLastCopies: true }, 'ann'))).chunks, 2);
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
  await assert.rejects(run(duties.remove('n9', { force: true, loseLastCopies: false }, 'ann')), { code: 'not_found' });
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

test('D8: that a drained node is empty stays true: a late commit of an upload to it is made without that copy, or refused', async () => {
  await using world = await open();
  const { duties, run, client, inode, engine } = { ...world, engine: world.world.core.engine };
  await commit(client, inode, [{ offset: 60, length: 10, chunk: 4 }], { replicas: [replicaOf('n1'), replicaOf('n3')] });
  await run(duties.set('n3', 'draining', 'ann'));
  // While anything lies there, commits of uploads that were under way count.
  await commit(client, inode, [{ offset: 20, length: 10, chunk: 5 }], { replicas: [replicaOf('n1'), replicaOf('n3')] });
  assert.equal((await run(duties.holding('n3'))).chunks, 2);
  await commit(client, inode, [{ offset: 20, length: 10, chunk: 6 }], { replicas: [replicaOf('n1'), replicaOf('n2')] });
  await commit(client, inode, [{ offset: 60, length: 10, chunk: 9 }], { replicas: [replicaOf('n1'), replicaOf('n2')] });
  assert.equal((await run(duties.holding('n3'))).chunks, 0);

  // It was said that nothing lies there: from here on nothing may.
  await commit(client, inode, [{ offset: 30, length: 10, chunk: 7 }], { replicas: [replicaOf('n1'), replicaOf('n3')] });
  const rows = await run(engine.run((tx) => tx.get(CHUNKS, chunkIdFromBytes(testChunk(7)))));
  assert.deepEqual(
    rows?.replicas.map(({ node }) => node),
    ['n1'],
  );
  const short = await run(engine.run((tx) => tx.get(UNDER_REPLICATED, chunkIdFromBytes(testChunk(7)))));
  assert.ok(short, 'it is short, and repair makes the other copy');
  const alone = [{ offset: 40, length: 10, chunk: 8 }];
  await assert.rejects(commit(client, inode, alone, { replicas: [replicaOf('n3')] }), code('chunk_condemned'));
  // Nor may what lay there and was let go be named again.
  const again = [{ offset: 50, length: 10, chunk: 5 }];
  await assert.rejects(
    commit(client, inode, again, { replicas: [replicaOf('n1'), replicaOf('n3')] }),
    code('chunk_condemned'),
  );
  const place = { node: 'n3', disk: 'disk-n3', incarnation: 1, sequence: 1 };
  const kept = await run(engine.run((tx) => keepCopies(tx, [{ chunk: chunkIdFromBytes(testChunk(7)), place }])));
  assert.deepEqual(kept, [false], 'a copy that was under way does not count');
  assert.equal((await run(duties.holding('n3'))).chunks, 0);

  // Also when the coordinator was killed, and when the node is gone.
  await world.world.restart('kill');
  await client.attach();
  client.replayed();
  await assert.rejects(commit(client, inode, alone, { replicas: [replicaOf('n3')] }), code('chunk_condemned'));
});

test('D8: a node that was drained and is active again bears chunks again', async () => {
  await using world = await open();
  const { duties, run, client, inode } = world;
  await run(duties.set('n3', 'draining', 'ann'));
  assert.equal((await run(duties.holding('n3'))).chunks, 0);
  await run(duties.set('n3', 'active', 'ann'));
  await commit(client, inode, [{ offset: 20, length: 10, chunk: 5 }], { replicas: [replicaOf('n3')] });
  assert.equal((await run(duties.holding('n3'))).chunks, 1);
});
