import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject, ObjectMeta } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import { AppliedMarks, intentHash, withIntentHash } from './applied-marks.ts';

const reference = { resource: RESOURCES.statefulSets, namespace: 'members', name: 'alice' };
const owner = { apiVersion: 'v1', kind: 'Member', name: 'alice', uid: 'owner', controller: true };
const intent: KubeObject = {
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { namespace: 'members', name: 'alice', labels: { a: '1' }, ownerReferences: [owner] },
  spec: { replicas: 1 },
};
const stored = (more: Partial<ObjectMeta> = {}): KubeObject => ({
  ...intent,
  metadata: { ...intent.metadata, uid: 'u', generation: 1, resourceVersion: '100', ...more },
});

interface Case {
  readonly name: string;
  /** As the server answered our apply. */
  readonly answer?: KubeObject;
  readonly observed: KubeObject | undefined;
  readonly wanted?: KubeObject;
  readonly unchanged: boolean;
  /** Also to an operator that did not apply it. */
  readonly known?: boolean;
}
const withoutGeneration = { generation: undefined } as unknown as Partial<ObjectMeta>;
const cases: readonly Case[] = [
  { name: 'the same', observed: stored(), unchanged: true },
  { name: 'an object that is not there', observed: undefined, unchanged: false },
  { name: 'another object of that name', observed: stored({ uid: 'v' }), unchanged: false },
  {
    name: 'a spec that somebody changed',
    observed: stored({ generation: 2, resourceVersion: '101' }),
    unchanged: false,
  },
  { name: 'a status that went on', observed: stored({ resourceVersion: '101' }), unchanged: true },
  { name: 'a label that somebody took', observed: stored({ resourceVersion: '101', labels: {} }), unchanged: false },
  {
    name: 'a label that somebody added',
    observed: stored({ resourceVersion: '101', labels: { a: '1', b: '2' } }),
    unchanged: true,
  },
  {
    name: 'an owner that somebody took',
    observed: stored({ resourceVersion: '101', ownerReferences: [] }),
    unchanged: false,
  },
  {
    name: 'a cache that is behind our apply',
    observed: stored({ generation: 0, resourceVersion: '99' }),
    unchanged: true,
  },
  { name: 'another intent', observed: stored(), wanted: { ...intent, spec: { replicas: 2 } }, unchanged: false },
  {
    name: 'the same intent with the uid of the object that must exist',
    observed: stored(),
    wanted: { ...intent, metadata: { ...intent.metadata, uid: 'u' } },
    unchanged: true,
  },
  {
    name: 'another version of a kind without generations',
    answer: stored(withoutGeneration),
    observed: stored({ ...withoutGeneration, resourceVersion: '101' }),
    unchanged: false,
  },
  {
    name: 'another version of one that says what was applied',
    answer: stored(withoutGeneration),
    observed: stored({
      ...withoutGeneration,
      resourceVersion: '101',
      annotations: withIntentHash(intent).metadata.annotations,
    }),
    unchanged: true,
    known: true,
  },
];
for (const { name, answer = stored(), observed, wanted = intent, unchanged, known = false } of cases) {
  test(`${name} is ${unchanged ? 'left alone' : 'applied again'}`, () => {
    const marks = new AppliedMarks();
    assert.equal(marks.isUnchanged(reference, wanted, observed), known);
    marks.set(reference, intent, answer);
    assert.equal(marks.isUnchanged(reference, wanted, observed), unchanged);
    marks.forget(reference);
    assert.equal(marks.isUnchanged(reference, wanted, observed), known);
  });
}

test('K1: what an earlier operator applied is left alone by the next, unless something differs', () => {
  const reference = { resource: RESOURCES.services, namespace: 'members', name: 'alice' };
  const service = (spec: object): KubeObject => ({ ...intent, apiVersion: 'v1', kind: 'Service', spec });
  const meant = service({ selector: { app: 'alice' } });
  const applied = withIntentHash(meant);
  const seen: KubeObject = { ...applied, metadata: { ...applied.metadata, uid: 'u', resourceVersion: '100' } };
  const next = new AppliedMarks();
  const isLeftAlone = (wanted: KubeObject, observed: KubeObject): boolean =>
    next.isUnchanged(reference, wanted, observed);
  assert.equal(isLeftAlone(meant, seen), true);
  assert.equal(isLeftAlone(service({ selector: { app: 'bob' } }), seen), false, 'another intent');
  assert.equal(isLeftAlone(service({}), seen), false, 'what is no longer meant must be taken away');
  assert.equal(isLeftAlone(meant, { ...seen, spec: { selector: {} } }), false, 'somebody took a value');
  const foreign = { ...seen, spec: { selector: { app: 'alice', more: 'x' } } };
  assert.equal(isLeftAlone(meant, foreign), false, 'somebody added where nothing but ours may stand');
  assert.equal(isLeftAlone(meant, { ...seen, metadata: { ...seen.metadata, annotations: {} } }), false, 'no hash');
});

test('an intent is told by its content, and the order of a list counts', () => {
  const object = (spec: object): KubeObject => ({ ...intent, spec });
  assert.equal(intentHash(object({ a: { x: 1 }, b: [1, 2] })), intentHash(object({ a: { x: 1 }, b: [1, 2] })));
  assert.notEqual(intentHash(object({ b: [1, 2] })), intentHash(object({ b: [2, 1] })));
});
