import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '@collective/base/random';
import { chooseReplicas, type NodeCandidate } from './choose-replicas.ts';

const GiB = 1024 ** 3;
const node = (name: string, zone: string, freeBytes: number): NodeCandidate => ({ name, zone, freeBytes });

const cases: { name: string; candidates: NodeCandidate[]; wanted: number; want: (sets: string[][]) => void }[] = [
  {
    name: 'gives each set distinct nodes',
    candidates: [node('a', '', GiB), node('b', '', GiB), node('c', '', GiB)],
    wanted: 2,
    want: (sets) => {
      for (const set of sets) assert.equal(new Set(set).size, 2);
    },
  },
  {
    name: 'spreads over zones before it uses one twice',
    candidates: [node('a', 'attic', 100 * GiB), node('b', 'attic', 100 * GiB), node('c', 'cellar', GiB)],
    wanted: 2,
    want: (sets) => {
      for (const set of sets) assert.ok(set.includes('c'), `${set} has no node in the cellar`);
    },
  },
  {
    name: 'uses a zone twice when there is no other',
    candidates: [node('a', 'attic', GiB), node('b', 'attic', GiB)],
    wanted: 2,
    want: (sets) => {
      for (const set of sets) assert.deepEqual([...set].sort(), ['a', 'b']);
    },
  },
  {
    name: 'gives fewer nodes than wanted when there are no more',
    candidates: [node('a', '', GiB)],
    wanted: 3,
    want: (sets) => {
      for (const set of sets) assert.deepEqual(set, ['a']);
    },
  },
  {
    name: 'gives nothing when all are full',
    candidates: [node('a', '', 0), node('b', '', 0)],
    wanted: 2,
    want: (sets) => assert.deepEqual(sets, []),
  },
  {
    name: 'never places on a full node',
    candidates: [node('a', '', 0), node('b', '', GiB), node('c', '', GiB)],
    wanted: 3,
    want: (sets) => {
      for (const set of sets) assert.deepEqual([...set].sort(), ['b', 'c']);
    },
  },
];

for (const { name, candidates, wanted, want } of cases) {
  test(`D8: placement ${name}`, () => {
    const sets = chooseReplicas(candidates, wanted, 50, new SeededRandom(7));
    if (candidates.some(({ freeBytes }) => freeBytes > 0)) assert.equal(sets.length, 50);
    want(sets);
  });
}

test('D8: placement follows free space', () => {
  const sets = chooseReplicas([node('small', '', GiB), node('large', '', 9 * GiB)], 1, 2000, new SeededRandom(11));
  const large = sets.filter(([first]) => first === 'large').length;
  assert.ok(large > 1700 && large < 1900, `${large} of 2000 on the node with nine tenths of the space`);
});
