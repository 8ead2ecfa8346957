import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomBelow, SeededRandom } from '@collective/base/random';
import type { ChunkRow } from '../tables/gen/tables.ts';
import type { PicturedNode } from './node-picture.ts';
import { evenEnough, isWithinHours, NodeLoads, planMove } from './plan-rebalance.ts';

const random = new SeededRandom(1);

function node(name: string, change: Partial<PicturedNode> = {}): PicturedNode {
  return {
    name,
    disk: `disk-${name}`,
    incarnation: 1,
    heard: 'ready',
    duty: 'active',
    zone: '',
    capacityBytes: 1_000,
    usedBytes: 0,
    freeBytes: 1_000,
    awayForMs: 0,
    lost: false,
    ...change,
  };
}

type Row = Pick<ChunkRow, 'replicas' | 'storedLength'>;

function row(nodes: readonly string[], storedLength = 10): Row {
  const place = (name: string) => ({
    node: name,
    disk: `disk-${name}`,
    stable: true,
    damaged: false,
    incarnation: 1,
    sequence: 1,
  });
  return { storedLength, replicas: nodes.map(place) };
}

/** With what they hold as what they use. */
function pictureOf(nodes: readonly PicturedNode[], bytes: ReadonlyMap<string, number>): Map<string, PicturedNode> {
  return new Map(nodes.map((each) => [each.name, { ...each, usedBytes: bytes.get(each.name) ?? 0 }]));
}

test('D8: a move goes from the fullest holder to the emptiest other node', () => {
  const bytes = new Map([
    ['a', 500],
    ['b', 800],
    ['c', 300],
    ['d', 100],
  ]);
  const picture = pictureOf(
    ['a', 'b', 'c', 'd'].map((name) => node(name)),
    bytes,
  );
  const move = planMove(row(['a', 'b']), 2, new NodeLoads(bytes, picture), 0.02, { picture, random });
  assert.deepEqual([move?.from.node, move?.to.node, move?.sources], ['b', 'd', ['a', 'b']]);
});

test('D8: shares count, not bytes: a large node takes more', () => {
  const bytes = new Map([
    ['a', 300],
    ['b', 400],
  ]);
  const picture = pictureOf([node('a'), node('b', { capacityBytes: 10_000 })], bytes);
  const loads = new NodeLoads(bytes, picture);
  const move = planMove(row(['a']), 1, loads, 0.02, { picture, random });
  assert.deepEqual([move?.from.node, move?.to.node], ['a', 'b']);
});

test('many nodes that are a little above the average give to one that is far below it', () => {
  const names = Array.from({ length: 60 }, (_, i) => `n${i}`);
  const bytes = new Map(names.map((name) => [name, name === 'n59' ? 0 : 500]));
  const picture = pictureOf(
    names.map((name) => node(name)),
    bytes,
  );
  const move = planMove(row(['n1', 'n2'], 5), 2, new NodeLoads(bytes, picture), 0.02, { picture, random });
  assert.equal(move?.to.node, 'n59');
});

const unfit: readonly [string, Row, number, Partial<PicturedNode>][] = [
  ['has a copy too few', row(['a']), 2, {}],
  ['has a copy too many', row(['a', 'b', 'c']), 2, {}],
  ['lies on a node that is not known', row(['a', 'x']), 2, {}],
  ['is larger than what may move', row(['a', 'b'], 700), 2, {}],
  ['would not fit', row(['a', 'b']), 2, { freeBytes: 9 }],
  ['would go to a full node', row(['a', 'b']), 2, { heard: 'full' }],
  ['would go to a node that takes none', row(['a', 'b']), 2, { duty: 'cordoned' }],
];
for (const [name, chunk, wanted, change] of unfit)
  test(`a chunk that ${name} stays`, () => {
    const bytes = new Map([
      ['a', 800],
      ['b', 800],
      ['c', 0],
    ]);
    const picture = pictureOf([node('a'), node('b'), node('c', change)], bytes);
    assert.equal(planMove(chunk, wanted, new NodeLoads(bytes, picture), 0.02, { picture, random }), undefined);
  });

test('D8: whatever lies where, moves end, nothing moves back, and copies keep their number and their zones', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const draw = new SeededRandom(seed);
    const nodes = Array.from({ length: 3 + randomBelow(draw, 4) }, (_, i) =>
      node(`n${i}`, {
        capacityBytes: 2_000 + randomBelow(draw, 6_000),
        zone: ['', 'x', 'y'][randomBelow(draw, 3)] ?? '',
      }),
    );
    const rows: Row[] = Array.from({ length: 150 }, () => {
      const first = randomBelow(draw, nodes.length);
      const second = (first + 1 + randomBelow(draw, nodes.length - 1)) % nodes.length;
      return row([nodes[first]?.name ?? '', nodes[second]?.name ?? ''], 1 + randomBelow(draw, 40));
    });
    const bytes = new Map<string, number>();
    const add = (name: string, more: number): void => void bytes.set(name, (bytes.get(name) ?? 0) + more);
    for (const { replicas, storedLength } of rows) for (const { node: name } of replicas) add(name, storedLength);
    const zones = ({ replicas }: Row): number =>
      new Set(replicas.map(({ node: name }) => nodes.find((each) => each.name === name)?.zone || name)).size;
    const gave = new Set<string>();
    const took = new Set<string>();
    let moves = 0;
    for (let pass = 0, before = -1; before !== moves; pass++) {
      assert.ok(pass < 10, `seed ${seed} ends`);
      before = moves;
      for (const [i, each] of rows.entries()) {
        const picture = pictureOf(nodes, bytes);
        const loads = new NodeLoads(bytes, picture);
        const move = planMove(each, 2, loads, 0.02, { picture, random: draw });
        if (move === undefined) continue;
        const { spread } = loads;
        loads.moved(move, each.storedLength);
        assert.ok(loads.spread <= spread, `seed ${seed}: no node gets further away`);
        add(move.from.node, -each.storedLength);
        add(move.to.node, each.storedLength);
        gave.add(move.from.node);
        took.add(move.to.node);
        const moved = row(
          [...each.replicas.map((place) => place.node).filter((name) => name !== move.from.node), move.to.node],
          each.storedLength,
        );
        assert.equal(new Set(moved.replicas.map((place) => place.node)).size, 2);
        assert.ok(zones(moved) >= zones(each), `seed ${seed}: zones`);
        rows[i] = moved;
        moves += 1;
      }
    }
    assert.deepEqual(
      [...gave].filter((name) => took.has(name)),
      [],
      `seed ${seed}: who gives does not take`,
    );
  }
});

test('a rebalance ends well below what begins it', () => {
  assert.deepEqual([evenEnough(0), evenEnough(10), evenEnough(2), evenEnough(1)], [0.02, 0.02, 0.01, 0.005]);
});

test('hours are from the first to before the second, also over midnight', () => {
  const within = (hours: string): number[] =>
    Array.from({ length: 24 }, (_, i) => i).filter((hour) => isWithinHours(hours, hour));
  assert.deepEqual(within('01-05'), [1, 2, 3, 4]);
  assert.deepEqual(within('22-02'), [0, 1, 22, 23]);
  assert.equal(within('').length, 24);
  assert.deepEqual(within('05-05'), []);
});
