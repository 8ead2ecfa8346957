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
  assert.equal(isMissingSomething(exampleObjects(['disk-0']), NOW_MS), false);
  assert.equal(isMissingSomething(exampleObjects([{ name: 'disk-0', without: ['pod'] }]), NOW_MS), true);
  const objects = exampleObjects([{ name: 'disk-0', isReady: false }]);
  const claim = objects.volumeClaims.get('alice-disk-0') as KubeObject;
  const pending = new Map([['alice-disk-0', { ...claim, status: { phase: 'Pending' } }]]);
  assert.equal(isMissingSomething({ ...objects, volumeClaims: pending }, NOW_MS), true);
});

test('so is what a pod waits for that has long been given a machine: its volume may be attached to another', () => {
  const objects = exampleObjects(['disk-0']);
  const pod = objects.pods.get('alice-disk-0-0') as KubeObject;
  const waitsFor = (ms: number): boolean => {
    const metadata = { ...pod.metadata, creationTimestamp: new Date(NOW_MS - ms).toISOString() };
    const status = { containerStatuses: [{ state: { waiting: { reason: 'ContainerCreating' } } }] };
    return isMissingSomething(
      { ...objects, pods: new Map([...objects.pods, ['alice-disk-0-0', { ...pod, metadata, status }]]) },
      NOW_MS,
    );
  };
  assert.deepEqual([waitsFor(20_000), waitsFor(60_000)], [false, true]);
});

test('what has just been made is not missing anything yet', () => {
  const madeAgo = (ms: number, map: ReadonlyMap<string, KubeObject>): ReadonlyMap<string, KubeObject> => {
    const creationTimestamp = new Date(NOW_MS - ms).toISOString();
    return new Map([...map].map(([name, one]) => [name, { ...one, metadata: { ...one.metadata, creationTimestamp } }]));
  };
  const objects = exampleObjects([{ name: 'disk-0', without: ['pod'] }]);
  const lacks = (ms: number): boolean =>
    isMissingSomething({ ...objects, statefulSets: madeAgo(ms, objects.statefulSets) }, NOW_MS);
  assert.deepEqual([lacks(0), lacks(9_000), lacks(11_000)], [false, false, true]);
  assert.equal(lacks(-60_000), true, 'the clock of the server is ahead');
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

test('K1: many members that lack something are looked at together and cost one question, of warnings alone', async () => {
  const clock = new FakeClock();
  const asked: unknown[] = [];
  const answer = Promise.withResolvers<void>();
  const api = {
    list: async (_resource: unknown, options: object = {}) => {
      asked.push(options);
      await answer.promise;
      return { objects: [{ ...event('a', 'no room', 0), metadata: { name: 'a' } }], resourceVersion: '1' };
    },
  };
  const warnings = new ClusterWarnings({ api, clock });
  const { signal } = new AbortController();
  const lacking = exampleObjects([{ name: 'disk-0', without: ['pod'] }]);
  const looks = Array.from({ length: 8 }, () => warnings.about('team', lacking, signal));
  answer.resolve();
  const [first, ...others] = await Promise.all(looks);
  assert.deepEqual(asked, [{ namespace: 'team', fieldSelector: 'type=Warning', signal }]);
  for (const other of others) assert.equal(other, first);
});

test('a question that failed is asked again by the next look', async () => {
  const clock = new FakeClock();
  let asked = 0;
  const api = {
    list: async () => {
      if (++asked === 1) throw new Error('the server restarts');
      return { objects: [], resourceVersion: '1' };
    },
  };
  const warnings = new ClusterWarnings({ api, clock });
  const { signal } = new AbortController();
  const lacking = exampleObjects([{ name: 'disk-0', without: ['pod'] }]);
  await assert.rejects(warnings.about('team', lacking, signal));
  assert.equal((await warnings.about('team', lacking, signal)).size, 0);
  assert.equal(asked, 2);
});
