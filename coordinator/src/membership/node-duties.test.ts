import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, type NodeName } from '@collective/base/ids';
import { NodeState } from '@collective/protocol/gen/common';
import { NodeReport } from '@collective/protocol/gen/node';
import type { NodeLoad } from '../jobs/moving-loads.ts';
import { keepCopies } from '../ops/chunk-repair.ts';
import { closeDisks } from '../ops/closed-disks.ts';
import { condemn } from '../ops/garbage.ts';
import { commit, start } from '../ops/one-file.ts';
import { code, replicaOf, testChunk } from '../session/scripted-operations.ts';
import { CHUNKS, UNDER_REPLICATED } from '../tables/tables.ts';
import { NodeDuties } from './node-duties.ts';
import { NodeTable } from './node-table.ts';

/** Of the event loop, for what may happen between any two steps of a change. */
const TURNS = 24;
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
  const loads = new Map<NodeName, NodeLoad>();
  const duties = new NodeDuties({
    clock: world.clock,
    engine,
    loadOf: (node) => loads.get(node),
    picture: () => nodes.picture(600),
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
  return { ...parts, nodes, duties, told, run, connected, scrubbed, dutyChanges, loads };
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

test('D2, D8: of garbage within its grace the only copy counts as left on a node that drains, until it is elsewhere or condemned', async () => {
  await using world = await open();
  const { duties, nodes, run, client, inode, world: session } = world;
  const { engine } = session.core;
  // Chunks 1 (n1, n2) and 2 (n2 alone) are garbage from here on, and so is 4, which lies on n2 alone too.
  await commit(client, inode, [{ offset: 20, length: 10, chunk: 4 }], { replicas: [replicaOf('n2')] });
  await commit(client, inode, [{ offset: 0, length: 30, chunk: 3 }], { replicas: [replicaOf('n3')] });
  const left = async (): Promise<number> => (await run(duties.holding('n2'))).chunks;
  const remove = { force: false, loseLastCopies: false };
  assert.equal(await left(), 0, 'nothing leaves it');
  await run(duties.set('n2', 'cordoned', 'ann'));
  assert.equal(await left(), 0);
  await assert.rejects(run(duties.remove('n2', remove, 'ann')), { code: 'busy', message: /2 chunks lie there still/ });
  const { chunks, bytes } = await run(duties.set('n2', 'draining', 'ann'));
  assert.deepEqual([chunks, bytes], [2, 20]);
  // What it says is not yet empty is not closed.
  await commit(client, inode, [{ offset: 40, length: 10, chunk: 5 }], { replicas: [replicaOf('n2')] });
  await commit(client, inode, [{ offset: 40, length: 10, chunk: 6 }], { replicas: [replicaOf('n1')] });
  assert.equal(await left(), 3);

  const idOf = (chunk: number): ChunkId => chunkIdFromBytes(testChunk(chunk));
  const copyTo = (chunk: number, node: string): Promise<unknown> => {
    const place = { node, disk: `disk-${node}`, incarnation: 1, sequence: 9 };
    return run(engine.run((tx) => keepCopies(tx, [{ chunk: idOf(chunk), place }])));
  };
  await copyTo(2, 'n1');
  assert.equal(await left(), 2);
  // On a node that is to go as well it is not out of the way.
  await run(duties.set('n3', 'draining', 'ann'));
  await copyTo(4, 'n3');
  assert.equal(await left(), 2);
  await run(duties.set('n3', 'active', 'ann'));
  assert.equal(await left(), 1);
  await assert.rejects(run(duties.remove('n2', remove, 'ann')), { code: 'busy', message: /1 chunks lie there still/ });
  await run(engine.run((tx) => condemn(tx, [idOf(5)], 0)));
  assert.equal(await left(), 0);
  assert.equal((await run(duties.remove('n2', remove, 'ann'))).chunks, 0);
  assert.equal(nodes.get('n2' as NodeName), undefined);
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

test('D8: a removal that is refused leaves a node that does not drain as it was: it bears chunks', async () => {
  await using world = await open();
  const { duties, run, client, inode, world: session } = world;
  let chunk = 10;
  const takes = async (node: string): Promise<void> => {
    chunk += 1;
    const pieces = [{ offset: chunk * 10, length: 10, chunk }];
    await commit(client, inode, pieces, { replicas: [replicaOf(node)] });
    const row = await run(session.core.engine.run((tx) => tx.get(CHUNKS, chunkIdFromBytes(testChunk(chunk)))));
    assert.deepEqual(
      row?.replicas.map((each) => each.node),
      [node],
    );
  };
  const lastCopy = { code: 'busy', message: /only known copy/ };
  await assert.rejects(run(duties.remove('n2', { force: true, loseLastCopies: false }, 'ann')), lastCopy);
  await takes('n2');
  await run(duties.set('n2', 'cordoned', 'ann'));
  await assert.rejects(run(duties.remove('n2', { force: true, loseLastCopies: false }, 'ann')), lastCopy);
  await assert.rejects(run(duties.remove('n2', { force: false, loseLastCopies: false }, 'ann')), {
    code: 'busy',
    message: /3 chunks lie there still/,
  });
  await takes('n2');
  await run(duties.set('n2', 'draining', 'ann'));
  await assert.rejects(run(duties.remove('n2', { force: true, loseLastCopies: false }, 'ann')), lastCopy);
  // Of a draining one it may have been said that nothing lies there, so it stays closed.
  const late = [{ offset: 900, length: 10, chunk: 90 }];
  await assert.rejects(commit(client, inode, late, { replicas: [replicaOf('n2')] }), code('chunk_condemned'));
  await run(duties.set('n2', 'active', 'ann'));
  await takes('n2');
});

test('D8: a removal is refused when the node registers, or is given another duty, while its chunks are counted', async () => {
  await using world = await open();
  const { duties, nodes, run, connected, client, inode } = world;
  const meanwhile = { code: 'busy', message: /meanwhile/ };
  const removal = duties.remove('n1', { force: true, loseLastCopies: true }, 'ann');
  connected.add('n1');
  await assert.rejects(run(removal), meanwhile);
  connected.delete('n1');
  assert.ok(nodes.get('n1' as NodeName));

  await run(duties.set('n3', 'draining', 'ann'));
  const [removed, set] = await run(
    Promise.allSettled([
      duties.remove('n3', { force: false, loseLastCopies: false }, 'ann'),
      duties.set('n3', 'active', 'ben'),
    ]),
  );
  assert.equal(set.status, 'fulfilled');
  assert.equal(removed.status, 'rejected');
  assert.match(String(removed.status === 'rejected' && removed.reason), /meanwhile/);
  const pieces = [{ offset: 20, length: 10, chunk: 5 }];
  await commit(client, inode, pieces, { replicas: [replicaOf('n3')] });
  assert.equal((await run(duties.holding('n3'))).chunks, 1);
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

test('D8: who waits for a drain gets rough figures while something is left, and never hears that nothing is without a count', async () => {
  await using world = await open();
  const { duties, run, client, inode, loads, world: session } = world;
  const n2 = 'n2' as NodeName;
  const held = async (): Promise<number> => (await run(duties.roughHolding('n2'))).chunks;
  assert.equal(await held(), 2, 'counted: it does not drain');
  await run(duties.set('n2', 'draining', 'ann'));

  // Background work knows of one that has moved, and of one that came it does not.
  loads.set(n2, { chunks: 1, bytes: 10 });
  await commit(client, inode, [{ offset: 20, length: 10, chunk: 5 }], { replicas: [replicaOf('n1'), replicaOf('n2')] });
  assert.equal(await held(), 1);
  assert.equal((await run(duties.holding('n2'))).chunks, 3, 'the exact figure is not rough');

  loads.set(n2, { chunks: 0, bytes: 0 });
  assert.equal(await held(), 3, 'it says that nothing is left, so it is counted');

  // All goes in another way than by a drain: the figure of background work stays as it was.
  loads.set(n2, { chunks: 3, bytes: 30 });
  await commit(client, inode, [{ offset: 0, length: 30, chunk: 6 }], { replicas: [replicaOf('n1'), replicaOf('n3')] });
  assert.equal(await held(), 3);
  await session.clock.advance(2_000);
  assert.equal(await held(), 1, 'garbage within its grace, of which the only copy lies there');
  const copied = { node: 'n1', disk: 'disk-n1', incarnation: 1, sequence: 9 };
  const copies = [{ chunk: chunkIdFromBytes(testChunk(2)), place: copied }];
  await run(session.core.engine.run((tx) => keepCopies(tx, copies)));
  await session.clock.advance(2_000);
  assert.equal(await held(), 0);
  // It was said, so it stays true.
  const late = [{ offset: 30, length: 10, chunk: 7 }];
  await assert.rejects(commit(client, inode, late, { replicas: [replicaOf('n2')] }), code('chunk_condemned'));
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

test('D8: who asks for an empty draining node in the moment in which it is made active does not close its disk', async () => {
  await using world = await open();
  const { duties, run, client, inode } = world;
  // The question comes in every turn of the change, the change in every turn of the question.
  for (let turns = 0; turns < 2 * TURNS; turns++) {
    await run(duties.set('n3', 'draining', 'ann'));
    const ask = (): Promise<unknown> => duties.holding('n3');
    const change = (): Promise<unknown> => duties.set('n3', 'active', 'ann');
    const [first, second] = turns < TURNS ? [change, ask] : [ask, change];
    const begun = first();
    for (let turn = 0; turn < turns % TURNS; turn++) await Promise.resolve();
    await run(Promise.all([begun, second()]));
    const pieces = [{ offset: 20, length: 10, chunk: 100 + turns }];
    await commit(client, inode, pieces, { replicas: [replicaOf('n3')] });
    // So that it is empty again.
    const elsewhere = [{ offset: 20, length: 10, chunk: 1000 + turns }];
    await commit(client, inode, elsewhere, { replicas: [replicaOf('n1')] });
  }
});

test('D8, M4: that nothing is left is said when what took it away is stable, so that no loss of power brings it back', async () => {
  await using world = await open();
  const { duties, run, client, inode } = world;
  const { engine } = world.world.core;
  await run(duties.set('n2', 'draining', 'ann'));
  // Its disk is closed, so that no step of the answer waits for the disk by itself.
  await assert.rejects(run(duties.remove('n2', { force: false, loseLastCopies: false }, 'ann')), { code: 'busy' });
  for (const at of [0, 10]) {
    const pieces = [{ offset: at, length: 10, chunk: 10 + at }];
    await commit(client, inode, pieces, { replicas: [replicaOf('n1')] });
  }
  const replaced = [1, 2].map((chunk) => chunkIdFromBytes(testChunk(chunk)));
  const condemned = engine.run((tx) => condemn(tx, replaced, 0), { durability: 'written' });
  const answer = duties.holding('n2').then(({ chunks }) => ({ chunks, stable: engine.stablePosition }));
  const { lastPosition } = await run(condemned.then(() => engine));
  const { chunks, stable } = await run(answer);
  assert.equal(chunks, 0);
  assert.ok(stable >= lastPosition, `stable through ${stable}, condemned at ${lastPosition}`);
});

test('D8: a node that was drained and removed is a new one when it comes back with its disk: it bears chunks', async () => {
  await using world = await open();
  const { duties, nodes, run, client, inode } = world;
  const n3 = 'n3' as NodeName;
  const { engine } = world.world.core;
  await run(duties.set('n3', 'draining', 'ann'));
  await run(duties.remove('n3', { force: false, loseLastCopies: false }, 'ann'));
  const alone = [{ offset: 20, length: 10, chunk: 5 }];
  await assert.rejects(commit(client, inode, alone, { replicas: [replicaOf('n3')] }), code('chunk_condemned'));

  await run(nodes.reported(n3, NodeReport.fromPartial({ disk: 'disk-n3', freeBytes: 1e9, incarnation: 2 })));
  assert.deepEqual(
    nodes.candidates().map(({ name }) => name),
    ['n1', 'n2', 'n3'],
  );
  await commit(client, inode, alone, { replicas: [replicaOf('n3')] });
  const both = [{ offset: 30, length: 10, chunk: 6 }];
  await commit(client, inode, both, { replicas: [replicaOf('n1'), replicaOf('n3')] });
  const id = chunkIdFromBytes(testChunk(6));
  const row = await run(engine.run((tx) => tx.get(CHUNKS, id)));
  assert.deepEqual(
    row?.replicas.map(({ node }) => node),
    ['n1', 'n3'],
  );
  const copied = chunkIdFromBytes(testChunk(2));
  const place = { node: 'n3', disk: 'disk-n3', incarnation: 2, sequence: 1 };
  assert.deepEqual(await run(engine.run((tx) => keepCopies(tx, [{ chunk: copied, place }]))), [true]);
  assert.equal((await run(duties.holding('n3'))).chunks, 3);

  // Its next drain and removal close the disk again.
  await run(duties.set('n3', 'draining', 'ann'));
  assert.equal((await run(duties.remove('n3', { force: true, loseLastCopies: true }, 'ann'))).chunks, 3);
  const late = [{ offset: 40, length: 10, chunk: 7 }];
  await assert.rejects(commit(client, inode, late, { replicas: [replicaOf('n3')] }), code('chunk_condemned'));
});

test('D8, D10: the disk of a removed node bears chunks in another node too; a copy of a disk that is being drained does not', async () => {
  await using world = await open();
  const { duties, nodes, run, client, inode } = world;
  const comes = (node: string, disk: string): Promise<void> =>
    run(nodes.reported(node as NodeName, NodeReport.fromPartial({ disk, freeBytes: 1e9, incarnation: 2 })));
  await run(duties.set('n3', 'draining', 'ann'));
  assert.equal((await run(duties.holding('n3'))).chunks, 0);
  const replicas = [{ ...replicaOf('n4'), disk: 'disk-n3' }];
  await comes('n4', 'disk-n3');
  const pieces = [{ offset: 20, length: 10, chunk: 5 }];
  await assert.rejects(commit(client, inode, pieces, { replicas }), code('chunk_condemned'));

  await comes('n4', 'disk-n4');
  await run(duties.remove('n3', { force: false, loseLastCopies: false }, 'ann'));
  await comes('n4', 'disk-n3');
  await commit(client, inode, pieces, { replicas });
  assert.equal((await run(duties.holding('n4'))).chunks, 1);
});

test('D8: a node that is active although its disk is closed, as an older coordinator left it, bears chunks once it is heard', async () => {
  await using world = await open();
  const { nodes, run, client, inode } = world;
  const { engine } = world.world.core;
  await run(engine.run((tx) => closeDisks(tx, 'n3' as NodeName, ['disk-n3'], () => true)));
  const pieces = [{ offset: 20, length: 10, chunk: 5 }];
  await assert.rejects(commit(client, inode, pieces, { replicas: [replicaOf('n3')] }), code('chunk_condemned'));
  await run(
    nodes.reported('n3' as NodeName, NodeReport.fromPartial({ disk: 'disk-n3', freeBytes: 1e9, incarnation: 2 })),
  );
  await commit(client, inode, pieces, { replicas: [replicaOf('n3')] });
});
