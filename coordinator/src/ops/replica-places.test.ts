import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, parseChunkId } from '@collective/base/ids';
import { replicaOf, testChunk } from '../session/scripted-operations.ts';
import type { SessionWorld } from '../session/session-harness.ts';
import { prefixEnd } from '../tables/table.ts';
import { CHUNKS, REPAIR_ORDER } from '../tables/tables.ts';
import { commit, start } from './one-file.ts';
import { addReplica, dropReplica, markDamaged, noLongerForRepair, noteForRepair } from './replica-places.ts';

const CHUNK = parseChunkId(testChunk(1).toString('hex'));
const at = (node: string): { node: string; disk: string } => ({ node, disk: `disk-${node}` });

/** [sound, chunk] in the order of repair. */
async function order(world: SessionWorld): Promise<[number, ChunkId][]> {
  const rows = await world.finish(
    world.core.engine.run((tx) => tx.scan(REPAIR_ORDER, REPAIR_ORDER.prefix, prefixEnd(REPAIR_ORDER.prefix), 100)),
  );
  return rows.map(({ key }) => [key.charCodeAt(1), parseChunkId(Buffer.from(key.slice(2), 'latin1').toString('hex'))]);
}

async function withChunk(nodes: readonly string[]) {
  const parts = await start();
  const replicas = nodes.map((node) => replicaOf(node));
  await commit(parts.client, parts.inode, [{ offset: 0, length: 10, chunk: 1 }], { replicas });
  const run: SessionWorld['core']['engine']['run'] = (operation) =>
    parts.world.finish(parts.world.core.engine.run(operation));
  return { ...parts, run };
}

test('D8: a damaged replica counts as none and makes its chunk one to repair; a new one in its place mends it', async () => {
  await using parts = await withChunk(['n1', 'n2']);
  const { world, run } = parts;
  assert.deepEqual(await order(world), []);
  await run((tx) => markDamaged(tx, CHUNK, at('n2')));
  assert.deepEqual(await order(world), [[1, CHUNK]]);
  await run((tx) => markDamaged(tx, CHUNK, at('n1')));
  assert.deepEqual(await order(world), [[0, CHUNK]], 'more endangered than before: it moves up');
  await run((tx) => {
    addReplica(tx, CHUNK, { ...at('n2'), incarnation: 3, sequence: 9 });
    dropReplica(tx, CHUNK, at('n1'));
    addReplica(tx, CHUNK, { ...at('n3'), incarnation: 1, sequence: 2 });
    noLongerForRepair(tx, CHUNK);
  });
  assert.deepEqual(await order(world), []);
  const row = await run((tx) => tx.get(CHUNKS, CHUNK));
  assert.deepEqual(
    row?.replicas.map(({ node, stable, damaged, incarnation }) => ({ node, stable, damaged, incarnation })),
    [
      { node: 'n2', stable: true, damaged: false, incarnation: 3 },
      { node: 'n3', stable: true, damaged: false, incarnation: 1 },
    ],
  );
});

test('D8: a replica is dropped only on the disk that is meant', async () => {
  await using parts = await withChunk(['n1', 'n2']);
  const { world, run } = parts;
  await run((tx) => dropReplica(tx, CHUNK, { node: 'n1', disk: 'another disk' }));
  assert.deepEqual(await order(world), []);
  await run((tx) => dropReplica(tx, CHUNK, at('n1')));
  assert.deepEqual(await order(world), [[1, CHUNK]]);
});

test('D8: the fewer sound replicas, the earlier in the order of repair; a note again changes the place, not the time', async () => {
  await using parts = await withChunk(['n1', 'n2']);
  const { world, run } = parts;
  const other = parseChunkId(testChunk(2).toString('hex'));
  await run((tx) => {
    noteForRepair(tx, other, 2);
    noteForRepair(tx, CHUNK, 1);
  });
  assert.deepEqual(await order(world), [
    [1, CHUNK],
    [2, other],
  ]);
  await run((tx) => noteForRepair(tx, other, 0));
  assert.deepEqual(await order(world), [
    [0, other],
    [1, CHUNK],
  ]);
});

test('a chunk that is gone has no places to change', async () => {
  await using parts = await withChunk(['n1', 'n2']);
  const { run } = parts;
  const unknown = parseChunkId('ff'.repeat(16));
  assert.equal(await run((tx) => markDamaged(tx, unknown, at('n1'))), undefined);
});
