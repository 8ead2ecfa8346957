import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '@collective/base/log';
import { KubeError } from '../kube/kube-error.ts';
import type { KubeObject, ObjectReference } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { Removal } from '../member/plan-types.ts';
import { Applier } from './applier.ts';

const removal = (name: string): Removal => ({
  reference: { resource: RESOURCES.services, namespace: 'team', name },
  uid: `uid-${name}`,
});

function world(answers: Readonly<Record<string, KubeError>>, seen: Readonly<Record<string, KubeObject>> = {}) {
  const asked: string[] = [];
  const never = async () => await Promise.reject(new Error('only removals here'));
  const api = {
    apply: never,
    patch: never,
    delete: async ({ name }: ObjectReference): Promise<boolean> => {
      asked.push(name);
      const error = answers[name];
      if (error !== undefined) throw error;
      return true;
    },
  };
  return { asked, applier: new Applier({ api, observed: ({ name }) => seen[name], log: silentLog }) };
}

const forbidden = new KubeError('Delete services team/a', {
  status: 403,
  reason: 'Forbidden',
  message: 'a policy keeps it',
});
const conflict = new KubeError('Delete services team/a', { status: 409, reason: 'Conflict' });

test('a removal that is refused is told, and does not keep the others', async () => {
  const { asked, applier } = world({ a: forbidden });
  const { removed, refused } = await applier.remove([removal('a'), removal('b')]);
  assert.deepEqual(asked, ['a', 'b']);
  assert.equal(removed, 1);
  assert.deepEqual(
    refused.map(({ removal: { uid }, error }) => [uid, error.status]),
    [['uid-a', 403]],
  );
});

test('K3: one that is another object by now is a conflict, which is thrown when all have been tried', async () => {
  const { asked, applier } = world({ a: conflict });
  await assert.rejects(applier.remove([removal('a'), removal('b')]), { status: 409 });
  assert.deepEqual(asked, ['a', 'b']);
});

test('a server that cannot be asked is not asked for more', async () => {
  const { asked, applier } = world({ a: new KubeError('Delete', { status: 0, reason: 'NotConnected' }) });
  await assert.rejects(applier.remove([removal('a'), removal('b')]), { status: 0 });
  assert.deepEqual(asked, ['a']);
});

const service = (name: string, metadata: object): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'team', ...metadata },
});

test('K3: one that is leaving already is not asked again; another object of its name is none of it', async () => {
  const deletionTimestamp = '2026-11-26T12:00:00Z';
  const { asked, applier } = world(
    {},
    {
      a: service('a', { uid: 'uid-a', deletionTimestamp }),
      b: service('b', { uid: 'uid-of-another', deletionTimestamp }),
    },
  );
  const { removed, refused } = await applier.remove([removal('a'), removal('b'), removal('c')]);
  assert.deepEqual(asked, ['b', 'c']);
  assert.deepEqual([removed, refused], [2, []]);
});

test('K3: one that was asked to leave is not asked again before the cache has caught up; one that stays after all is', async () => {
  const seen = { a: service('a', { uid: 'uid-a', resourceVersion: '7' }) };
  const { asked, applier } = world({}, seen);
  assert.equal((await applier.remove([removal('a')])).removed, 1);
  assert.equal((await applier.remove([removal('a')])).removed, 0);
  assert.deepEqual(asked, ['a']);
  seen.a = service('a', { uid: 'uid-a', resourceVersion: '8' });
  assert.equal((await applier.remove([removal('a')])).removed, 1);
  assert.deepEqual(asked, ['a', 'a']);
});

test('K3: a removal that was refused is asked again', async () => {
  const { asked, applier } = world({ a: forbidden }, { a: service('a', { uid: 'uid-a', resourceVersion: '7' }) });
  await applier.remove([removal('a')]);
  await applier.remove([removal('a')]);
  assert.deepEqual(asked, ['a', 'a']);
});
