import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkId } from '@collective/base/ids';
import type { ChunkRow } from '@collective/coordinator/tables/gen/tables';
import { type KeptRows, type KeptStore, whatIsLeft } from './leaks.ts';

const CHUNK = 'a'.repeat(32) as ChunkId;
const OTHER = 'b'.repeat(32) as ChunkId;

function chunkRow(change: Partial<ChunkRow> = {}): ChunkRow {
  return {
    length: 100,
    storedLength: 100,
    digest: Buffer.alloc(8),
    replicas: [place('n1'), place('n2')],
    wanted: 2,
    references: 1,
    inode: 2,
    block: 0,
    realm: 0,
    ...change,
  };
}

function place(node: string): ChunkRow['replicas'][number] {
  return { node, disk: `disk-${node}`, stable: true, incarnation: 1, sequence: 1, damaged: false };
}

function rows(change: Partial<KeptRows> = {}): KeptRows {
  const slice = { offset: 0, length: 100, chunk: Buffer.from(CHUNK, 'hex'), chunkOffset: 0 };
  return {
    wanted: 2,
    blocks: [{ version: 1, slices: [slice] }],
    chunks: new Map([[CHUNK, chunkRow()]]),
    garbage: new Map(),
    realms: { realms: new Map(), inodes: new Map(), names: [] },
    closed: new Set(),
    todo: new Map([['doomed', []]]),
    ...change,
  };
}

function store(node: string, change: Partial<KeptStore> = {}): KeptStore {
  return { node, disk: `disk-${node}`, duty: 'active', chunks: [CHUNK], damaged: [], ...change };
}

test('D2, D8: a member whose rows and disks agree has nothing left to do', () => {
  assert.deepEqual(whatIsLeft(rows(), [store('n1'), store('n2')]), []);
});

test('D8: a node whose disk is closed although it takes chunks is told', () => {
  const kept = rows({ closed: new Set(['disk-n2']) });
  assert.deepEqual(whatIsLeft(kept, [store('n1'), store('n2')]), ['node n2 is active, and its disk is closed']);
  const emptied = store('n3', { duty: 'draining', chunks: [] });
  assert.deepEqual(whatIsLeft(rows({ closed: new Set(['disk-n3']) }), [store('n1'), store('n2'), emptied]), []);
});

test('D2: what rows still have to do, and garbage, is told', () => {
  const since = { seconds: 1, nanos: 0 };
  const garbage = { since, condemned: true, storedBytes: 0, gone: false };
  const kept = rows({
    todo: new Map([['doomed', [1, 2, 3].map((data) => ({ key: `F${data}`, value: {} }))]]),
    garbage: new Map([
      [CHUNK, garbage],
      [OTHER, { ...garbage, gone: true }],
    ]),
  });
  assert.deepEqual(whatIsLeft(kept, [store('n1'), store('n2')]), [
    '3 rows of doomed',
    `chunk ${CHUNK} is garbage still`,
  ]);
});

test('M3: references that differ from what is there are told', () => {
  const wrong = rows({
    chunks: new Map([
      [CHUNK, chunkRow({ references: 2 })],
      [OTHER, chunkRow({ replicas: [place('n1'), place('n2')] })],
    ]),
  });
  const both = { chunks: [CHUNK, OTHER] };
  assert.deepEqual(whatIsLeft(wrong, [store('n1', both), store('n2', both)]), [
    `chunk ${CHUNK} is named 1 times, its row says 2`,
    `chunk ${OTHER} is not named, its row says 1 times`,
  ]);
});

test('D8: a named chunk that lacks a replica, or has one where none should be, is told', () => {
  const told = (chunk: Partial<ChunkRow>, ...stores: KeptStore[]): string[] =>
    whatIsLeft(rows({ chunks: new Map([[CHUNK, chunkRow(chunk)]]) }), stores);
  const on = (node: string, what: string): string => `the replica of chunk ${CHUNK} on node ${node} ${what}`;
  const [n1, n2] = [store('n1'), store('n2')];
  const empty = { chunks: [] };
  assert.deepEqual(told({ replicas: [place('n1')] }, n1, store('n2', empty)), [
    `chunk ${CHUNK} has 1 replicas instead of 2`,
  ]);
  assert.deepEqual(told({}, n1, store('n2', empty)), [on('n2', 'is missing')]);
  assert.deepEqual(told({}, n1, store('n2', { ...empty, disk: 'another' })), [on('n2', 'lies on a disk that is lost')]);
  assert.deepEqual(told({}, n1, store('n2', { damaged: [CHUNK] })), [on('n2', 'is damaged')]);
  assert.deepEqual(told({}, n1, store('n2', { duty: 'draining' }), store('n3', empty)), [
    on('n2', 'was not moved away'),
  ]);
  assert.deepEqual(told({ replicas: [place('n1'), { ...place('n2'), stable: false }] }, n1, n2), [
    on('n2', 'is not stable'),
  ]);
});

test('D3: what was never stable on enough nodes and went with its last disk stays as it is, and is not told', () => {
  const noted = (table: string): [string, { key: string; value: object }[]] => [
    table,
    [{ key: `x${Buffer.from(CHUNK, 'hex').toString('latin1')}`, value: {} }],
  ];
  const chunks = new Map([[CHUNK, chunkRow({ replicas: [{ ...place('n1'), stable: false }] })]]);
  const lost = rows({ chunks, todo: new Map(['unfirm', 'repair-order'].map(noted)) });
  const otherDisk = [store('n1', { disk: 'another', chunks: [] }), store('n2', { chunks: [] })];
  assert.deepEqual(whatIsLeft(lost, otherDisk), []);
  assert.notDeepEqual(whatIsLeft(rows({ chunks, todo: new Map([noted('repair-order')]) }), otherDisk), []);
  assert.notDeepEqual(whatIsLeft(lost, [store('n1'), store('n2', { chunks: [] })]), []);
});

test('D2: a chunk on a disk that no row names there is told', () => {
  const leaking = [store('n1', { chunks: [CHUNK, OTHER] }), store('n2'), store('n3')];
  assert.deepEqual(whatIsLeft(rows(), leaking), [
    `chunk ${OTHER} lies on node n1 and no row says so`,
    `chunk ${CHUNK} lies on node n3 and no row says so`,
  ]);
});
