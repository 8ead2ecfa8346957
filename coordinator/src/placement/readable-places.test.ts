import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ReplicaPlace } from '../tables/gen/tables.ts';
import { readablePlaces } from './readable-places.ts';

const place = (node: string, more: Partial<ReplicaPlace> = {}): ReplicaPlace => ({
  node,
  disk: `disk-${node}`,
  stable: true,
  incarnation: 1,
  sequence: 1,
  damaged: false,
  ...more,
});

const cases: { name: string; places: ReplicaPlace[]; want: string[] }[] = [
  { name: 'to all sound replicas', places: [place('a'), place('b')], want: ['a', 'b'] },
  { name: 'not to a damaged one beside a sound one', places: [place('a', { damaged: true }), place('b')], want: ['b'] },
  { name: 'not to a disk that the node has no more', places: [place('a', { disk: 'old' }), place('b')], want: ['b'] },
  { name: 'not to a node that the member does not know', places: [place('x'), place('b')], want: ['b'] },
  {
    name: 'to damaged ones when there is nothing else, since damage costs only its frames',
    places: [place('a', { damaged: true }), place('b', { damaged: true }), place('c', { disk: 'old' })],
    want: ['a', 'b'],
  },
  { name: 'nowhere when all disks are gone', places: [place('a', { disk: 'old' })], want: [] },
];

for (const { name, places, want } of cases) {
  test(`D6: a reader is sent ${name}`, () => {
    const diskOf = (node: string): string | undefined => (node === 'x' ? undefined : `disk-${node}`);
    assert.deepEqual(
      readablePlaces(places, diskOf).map(({ node }) => node),
      want,
    );
  });
}
