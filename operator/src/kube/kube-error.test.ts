import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KubeError, NO_ANSWER, noAnswer } from './kube-error.ts';
import { collectionPath, describeReference, objectPath } from './resource-path.ts';
import { RESOURCES } from './resources.ts';
import { statusError } from './watch-lines.ts';

test("an error says what was asked, the server's words, and has a code of the catalogue", () => {
  const told = { code: 403, reason: 'Forbidden', message: 'configmaps is forbidden: User "op" cannot list' };
  const error = statusError('List configmaps', told);
  assert.equal(error.message, 'List configmaps: 403 Forbidden: configmaps is forbidden: User "op" cannot list');
  assert.equal(error.code, 'permission_denied');
  assert.match(error.todo, /the right that the message names/);
  assert.deepEqual(
    [error.isForbidden, error.isRefusal, error.isConflict, error.missing],
    [true, true, false, undefined],
  );
});

test('of what is not found it says whether the object is missing or its kind', () => {
  const object = statusError('Get', { code: 404, reason: 'NotFound', details: { name: 'a', kind: 'configmaps' } });
  const kind = statusError('Get', { code: 404, reason: 'NotFound', details: {} });
  assert.deepEqual([object.missing, kind.missing], ['object', 'kind']);
});

test('a conflict and a name that is taken differ by their codes', () => {
  const codes = ['Conflict', 'AlreadyExists'].map((reason) => new KubeError('Create', { status: 409, reason }).code);
  assert.deepEqual(codes, ['busy', 'exists']);
});

test('without an answer it says whether anything was sent, and keeps the cause', () => {
  const cause = new Error('connect ECONNREFUSED 127.0.0.1:1');
  const refused = noAnswer('Get', cause, false);
  assert.equal(refused.message, 'Get: NotConnected: connect ECONNREFUSED 127.0.0.1:1');
  assert.equal(refused.cause, cause);
  assert.equal(refused.code, 'unavailable');
  assert.equal(noAnswer('Get', cause, true).reason, NO_ANSWER.connectionLost);
  assert.equal(noAnswer('Get', refused, true), refused);
  assert.equal(new KubeError('Get', { status: 0, reason: NO_ANSWER.timeout }).code, 'deadline_exceeded');
});

test('the core group and named groups have their own places, and names are written as one segment', () => {
  const reference = { resource: RESOURCES.configMaps, namespace: 'members', name: 'system:a/b' };
  assert.equal(collectionPath(RESOURCES.configMaps), '/api/v1/configmaps');
  assert.equal(collectionPath(RESOURCES.statefulSets, 'members'), '/apis/apps/v1/namespaces/members/statefulsets');
  assert.equal(objectPath(reference, 'status'), '/api/v1/namespaces/members/configmaps/system%3Aa%2Fb/status');
  assert.equal(describeReference(reference), 'configmaps members/system:a/b');
});
