/** What a coordinator is asked in one look, and what its answers mean. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { Admin } from '@collective/client';
import { exampleMember } from '../member/example-member.ts';
import { answered, byName, exampleObjects } from '../member/example-picture.ts';
import { type AskedCoordinator, askCoordinator } from './ask-coordinator.ts';

const text = (value: string): string => Buffer.from(value).toString('base64');
const secret = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name },
  data: { 'tls.crt': text('leaf'), 'tls.key': text('key') },
});
const objects = {
  ...exampleObjects(['disk-0']),
  secrets: byName([secret('alice-operator-tls')]),
  configMaps: byName([
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'alice-trust' }, data: { 'trust.pem': 'roots' } },
  ]),
};
const one = { id: 'r1', subject: 'spiffe://alice.photos.example/user/ann', csr: Buffer.from('csr') };

/** `list` is how it answers when it is asked for requests. */
async function asked(list: () => Promise<unknown>): Promise<AskedCoordinator> {
  const example = answered();
  assert.ok(example.state === 'answered');
  const admin = {
    status: async () => example.status,
    subjects: async () => [],
    certificateRequests: { list },
  } as unknown as Admin;
  return await askCoordinator({
    access: { admin: async () => admin, forget: () => undefined, [Symbol.dispose]: () => undefined },
    member: exampleMember(),
    trustDomain: 'alice.photos.example',
    objects,
    signal: new AbortController().signal,
    nodesToCount: () => [],
  });
}

test('T5: requests that it keeps come with the answer', async () => {
  const { answer, admin } = await asked(async () => ({ requests: [one], mark: '1' }));
  assert.ok(answer.state === 'answered' && admin !== undefined);
  assert.deepEqual(answer.requests, [{ id: 'r1', uri: one.subject, csr: one.csr }]);
});

const failing = (code: ErrorCode) => (): Promise<never> => Promise.reject(new CollectiveError(code, 'List requests'));

test('T5: one of a version before, which keeps no requests, is not taken for silent: it could not be updated', async () => {
  const { answer } = await asked(failing('unsupported'));
  assert.ok(answer.state === 'answered');
  assert.deepEqual(answer.requests, []);
});

test('one that fails in the middle of its answers is silent', async () => {
  assert.equal((await asked(failing('unavailable'))).answer.state, 'silent');
});
