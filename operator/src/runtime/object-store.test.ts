import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../kube/kube-object.ts';
import { type ObjectChange, ObjectStore } from './object-store.ts';

function object(
  name: string,
  resourceVersion: string,
  more: { uid?: string; member?: string; namespace?: string } = {},
) {
  const { uid = `uid-${name}`, member = 'alice', namespace = 'members' } = more;
  const metadata = { namespace, name, uid, resourceVersion, labels: { member } };
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata } satisfies KubeObject;
}

const byMember = ({ metadata }: KubeObject): readonly string[] => [metadata.labels?.member ?? ''];
const told = (changes: readonly ObjectChange[]): readonly string[] =>
  changes.map(({ type, object: { metadata } }) => `${type} ${metadata.name} ${metadata.resourceVersion}`);

test('a list tells what is new, what is another version and what is gone, and nothing of the rest', () => {
  const store = new ObjectStore();
  store.replace([object('kept', '1'), object('changed', '2'), object('gone', '3')]);
  const changes = store.replace([object('kept', '1'), object('changed', '5'), object('new', '6')]);
  assert.deepEqual(told(changes), ['removed gone 3', 'changed changed 5', 'added new 6']);
  assert.equal(store.size, 3);
  assert.equal(store.get({ namespace: 'members', name: 'gone' }), undefined);
});

test('an object that is another one under the same name has ended and begun', () => {
  const store = new ObjectStore(byMember);
  store.put(object('a', '1', { uid: 'first' }));
  assert.deepEqual(told(store.put(object('a', '9', { uid: 'second', member: 'bob' }))), ['removed a 1', 'added a 9']);
  assert.deepEqual([store.indexed('alice').length, store.indexed('bob').length], [0, 1]);
});

test('an index follows its objects through changes and to their end', () => {
  const store = new ObjectStore(byMember);
  const names = (member: string): readonly string[] => store.indexed(member).map(({ metadata }) => metadata.name);
  store.put(object('a', '1'));
  store.put(object('b', '2'));
  assert.deepEqual(names('alice'), ['a', 'b']);
  const previous = store.get({ namespace: 'members', name: 'a' });
  const moved = object('a', '3', { member: 'bob' });
  assert.deepEqual(store.put(moved), [{ type: 'changed', object: moved, previous }]);
  assert.deepEqual([names('alice'), names('bob')], [['b'], ['a']]);
  assert.deepEqual(told(store.remove(object('a', '4', { member: 'bob' }))), ['removed a 4']);
  assert.deepEqual([names('bob'), store.remove(moved)], [[], []]);
});

test('objects of one name in two namespaces are two', () => {
  const store = new ObjectStore();
  store.put(object('a', '1', { namespace: 'one' }));
  store.put(object('a', '2', { namespace: 'two' }));
  assert.deepEqual(
    store.list('two').map(({ metadata }) => metadata.resourceVersion),
    ['2'],
  );
  assert.equal(store.list().length, 2);
});
