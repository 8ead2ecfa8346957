import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, chunkIdOf } from '@collective/base/ids';
import type { ChunkRow, ReplicaPlace } from '../tables/gen/tables.ts';
import { compareInventory, type Inventory, isNeeded, isTooMany } from './plan-inventory.ts';

const id = (number: number): ChunkId => chunkIdOf({ generation: 7, start: 1 }, number);
const place = (node: string, more: Partial<ReplicaPlace> = {}): ReplicaPlace => ({
  node,
  disk: `disk-${node}`,
  stable: true,
  incarnation: 3,
  sequence: 50,
  damaged: false,
  ...more,
});
const row = (replicas: ReplicaPlace[], more: Partial<ChunkRow> = {}): ChunkRow => ({
  length: 10,
  storedLength: 10,
  digest: Buffer.alloc(4),
  replicas,
  wanted: 2,
  references: 1,
  inode: 5,
  block: 0,
  realm: 1,
  ...more,
});
const inventory = (numbers: number[], more: Partial<Inventory> = {}): Inventory => ({
  node: 'n1',
  disk: 'disk-n1',
  incarnation: 3,
  sequence: 50,
  chunks: new Set(numbers.map(id)),
  ...more,
});
const note = (number: number, leaving = false) => ({
  chunk: id(number),
  row: { since: undefined, leaving, forgotten: undefined },
});

/** Whether the one chunk of these is found missing on n1. */
const MISSING: readonly { readonly name: string; readonly place: Partial<ReplicaPlace>; readonly missing: boolean }[] =
  [
    { name: 'put before the list was made', place: { sequence: 50 }, missing: true },
    { name: 'put after the list was made', place: { sequence: 51 }, missing: false },
    {
      name: 'put in an earlier start of the store, whatever its number',
      place: { incarnation: 2, sequence: 999 },
      missing: true,
    },
    { name: 'put in a later start of the store', place: { incarnation: 4, sequence: 1 }, missing: false },
    { name: 'not yet stable: its node is asked (D3)', place: { stable: false, sequence: 1 }, missing: false },
    { name: 'not yet stable in an earlier start', place: { stable: false, incarnation: 1 }, missing: false },
    { name: 'on another disk of the node', place: { disk: 'earlier-disk' }, missing: false },
    { name: 'known as damaged', place: { damaged: true }, missing: true },
  ];

for (const { name, place: more, missing } of MISSING)
  test(`D2: a replica that the list lacks is ${missing ? '' : 'not '}missing: ${name}`, () => {
    const found = compareInventory(inventory([]), [{ chunk: id(1), row: row([place('n1', more), place('n2')]) }], []);
    assert.deepEqual(
      found.missing.map(({ chunk }) => chunk),
      missing ? [id(1)] : [],
    );
    assert.deepEqual([found.orphans, found.settled, found.strays, found.unnamed], [[], [], [], 0]);
  });

test('D8: what no row says to be on this disk is an orphan, noted once', () => {
  const rows = [
    { chunk: id(2), row: row([place('n1'), place('n2')]) },
    { chunk: id(3), row: row([place('n2'), place('n3')]) },
    { chunk: id(4), row: row([place('n1', { disk: 'earlier-disk' }), place('n2')]) },
  ];
  const found = compareInventory(inventory([1, 2, 3, 4, 5]), rows, [note(5)]);
  assert.deepEqual(found.orphans, [id(1), id(3), id(4)]);
  assert.equal(found.unnamed, 4);
  assert.deepEqual(
    found.strays.map(({ chunk }) => chunk),
    [id(3), id(4)],
  );
});

test('a note is settled when a row names the copy, or the copy has gone; not while it is on its way out', () => {
  const rows = [{ chunk: id(1), row: row([place('n1'), place('n2')]) }];
  const found = compareInventory(inventory([1, 3]), rows, [note(1), note(2), note(3), note(4, true)]);
  assert.deepEqual(found.settled, [id(1), id(2)]);
});

test('the only replica, found damaged or missing before, is a stray when it shows again', () => {
  const only = row([place('n1', { damaged: true })]);
  assert.equal(compareInventory(inventory([1]), [{ chunk: id(1), row: only }], []).strays.length, 1);
  const other = row([place('n1', { damaged: true }), place('n2')]);
  assert.equal(compareInventory(inventory([1]), [{ chunk: id(1), row: other }], []).strays.length, 0);
});

test('D8: a stray is needed where replicas are missing, too many where the others suffice, and neither in between', () => {
  const judge = (given: ChunkRow, noted = false): string =>
    `${isNeeded(given, noted) ? 'needed' : ''}${isTooMany(given, noted, { node: 'n1' }) ? 'too many' : ''}`;
  assert.equal(judge(row([place('n2')])), 'needed');
  assert.equal(judge(row([place('n2'), place('n3', { damaged: true })])), 'needed');
  assert.equal(judge(row([place('n2'), place('n3')])), 'too many');
  assert.equal(judge(row([place('n2'), place('n1', { disk: 'earlier-disk' })])), '', 'the other place is on this node');
  assert.equal(judge(row([place('n2')], { references: 0 })), '', 'nobody misses replicas of garbage');
  assert.equal(judge(row([place('n2'), place('n3')]), true), 'needed', 'one of their nodes is lost');
});
