import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, chunkIdOf, type NodeName } from '@collective/base/ids';
import { MovingLoads } from './moving-loads.ts';

const NODE = 'n1' as NodeName;
const chunk = (number: number): ChunkId => chunkIdOf({ generation: 7, start: 1 }, number);
const counted = (chunks: number) => new Map([[NODE, { chunks, bytes: chunks * 10 }]]);

test('D8: what lies on a node is unknown before the first whole walk, then less by what moves away', () => {
  const loads = new MovingLoads();
  loads.walkBegan();
  loads.walkPassed(chunk(3));
  assert.equal(loads.of(NODE), undefined);
  loads.walkEnded(counted(5));
  loads.movedAway(NODE, chunk(1), 10);
  assert.deepEqual(loads.of(NODE), { chunks: 4, bytes: 40 });
  assert.deepEqual(loads.of('n2' as NodeName), { chunks: 0, bytes: 0 });
});

test('D8: of what moves during a walk counts against it only what it had counted', () => {
  const loads = new MovingLoads();
  loads.walkBegan();
  loads.walkEnded(counted(9));
  loads.walkBegan();
  loads.movedAway(NODE, chunk(1), 10);
  loads.walkPassed(chunk(4));
  loads.movedAway(NODE, chunk(2), 10);
  loads.movedAway(NODE, chunk(7), 10);
  assert.deepEqual(loads.of(NODE), { chunks: 6, bytes: 60 }, 'by the walk before');
  // Chunks 2 to 9 but for 7, of which 2 is gone by now.
  loads.walkEnded(counted(7));
  assert.deepEqual(loads.of(NODE), { chunks: 6, bytes: 60 });
});

test('D8: a walk that was given up leaves the figures of the one before', () => {
  const loads = new MovingLoads();
  loads.walkBegan();
  loads.walkEnded(counted(9));
  loads.walkBegan();
  loads.walkPassed(chunk(9));
  loads.movedAway(NODE, chunk(2), 10);
  loads.walkBegan();
  loads.walkEnded(counted(8));
  assert.deepEqual(loads.of(NODE), { chunks: 8, bytes: 80 });
});
