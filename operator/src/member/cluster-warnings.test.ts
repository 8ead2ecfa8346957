import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import type { KubeObject } from '../kube/kube-object.ts';
import { ClusterWarnings, isMissingSomething, warningsOf } from './cluster-warnings.ts';
import { exampleObjects, NOW_MS } from './example-picture.ts';

function event(name: string, note: string, agoMs: number, type = 'Warning'): KubeObject {
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: `${name}.${agoMs}`, creationTimestamp: new Date(NOW_MS - agoMs).toISOString() },
    type,
    reason: 'FailedCreate',
    note,
    regarding: { kind: 'StatefulSet', name },
  };
}

test('of each object the newest warning counts, and none that is old or is no warning', () => {
  const events = [
    event('a', 'older', 9_000),
    event('a', 'newer', 1_000),
    event('a', 'oldest', 60_000),
    event('b', 'long ago', 11 * 60_000),
    event('c', 'all is well', 1_000, 'Normal'),
    { ...event('d', 'again', 30 * 60_000), series: { lastObservedTime: new Date(NOW_MS - 5_000).toISOString() } },
  ];
  assert.deepEqual(
    [...warningsOf(events, NOW_MS)].map(([key, { message }]) => `${key}: ${message}`),
    ['StatefulSet/a: newer', 'StatefulSet/d: again'],
  );
});

test('something is missing: a pod of a StatefulSet, or the volume of a claim', () => {
  assert.equal(isMissingSomething(exampleObjects(['disk-0'])), false);
  assert.equal(isMissingSomething(exampleObjects([{ name: 'disk-0', without: ['pod'] }])), true);
  const objects = exampleObjects([{ name: 'disk-0', isReady: false }]);
  const claim = objects.volumeClaims.get('alice-disk-0') as KubeObject;
  const pending = new Map([['alice-disk-0', { ...claim, status: { phase: 'Pending' } }]]);
  assert.equal(isMissingSomething({ ...objects, volumeClaims: pending }), true);
});

test('events are asked for only while something is missing, and then not too often', async () => {
  const clock = new FakeClock();
  let asked = 0;
  const api = {
    list: async () => {
      asked++;
      return { objects: [], resourceVersion: '1' };
    },
  };
  const warnings = new ClusterWarnings({ api, clock });
  const { signal } = new AbortController();
  await warnings.about('team', exampleObjects(['disk-0']), signal);
  assert.equal(asked, 0);
  const lacking = exampleObjects([{ name: 'disk-0', without: ['pod'] }]);
  await warnings.about('team', lacking, signal);
  await warnings.about('team', lacking, signal);
  assert.equal(asked, 1);
  await warnings.about('other', lacking, signal);
  assert.equal(asked, 2);
});
