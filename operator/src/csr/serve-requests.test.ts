/** T5: what a plan of requests says is done, and what fails is told and comes again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { silentLog } from '@collective/base/log';
import type { CertificateRequestAnswer } from '@collective/client';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { parseTrustDomain, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { KubeError } from '../kube/kube-error.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { Apply, Removal } from '../member/plan-types.ts';
import type { ApplyOutcome, RemoveOutcome } from '../runtime/applier.ts';
import { checkKeptRequest } from './checked-requests.ts';
import type { RequestsPlan } from './plan-requests.ts';
import { serveRequests } from './serve-requests.ts';

const DOMAIN = parseTrustDomain('alice.photos.example');
const ann = spiffeId(DOMAIN, 'user', 'ann');
const { signal } = new AbortController();
const kept = [await checkKeptRequest({ id: 'r1', uri: ann.uri, csr: (await makeCsr(ann)).csr }, DOMAIN)];
const object = { apiVersion: 'cert-manager.io/v1', kind: 'CertificateRequest', metadata: { name: 'alice-csr-1' } };
const plan = (changes: Partial<RequestsPlan>): RequestsPlan => ({
  objects: [],
  removals: [],
  answers: [],
  events: [],
  ...changes,
});

function world({ refuse, answer }: { refuse?: KubeError; answer?: () => Promise<boolean> } = {}) {
  const done: string[] = [];
  const applier = {
    apply: async (intents: readonly Apply[]): Promise<ApplyOutcome> => {
      done.push(...intents.map(({ object: { metadata } }) => `apply ${metadata.name}`));
      const refused = refuse === undefined ? [] : intents.map((intent) => ({ intent, error: refuse }));
      return { objects: [], writes: intents.length, refused, gaveWay: [] };
    },
    remove: async (removals: readonly Removal[]): Promise<RemoveOutcome> => {
      done.push(...removals.map(({ reference }) => `remove ${reference.name}`));
      return { removed: removals.length, refused: [] };
    },
  };
  const certificateRequests = {
    list: async () => ({ requests: [], mark: '' }),
    answer: async (id: string, given: CertificateRequestAnswer): Promise<boolean> => {
      done.push(`answer ${id} ${Object.keys(given).join()}`);
      return await (answer?.() ?? Promise.resolve(true));
    },
  };
  return { done, parts: { applier, admin: { certificateRequests }, log: silentLog } };
}

test('T5: objects are made before answers are given, and removed after', async () => {
  const { done, parts } = world();
  const reference = { resource: RESOURCES.certificateRequests, namespace: 'team', name: 'alice-csr-0' };
  const events = await serveRequests(
    parts,
    {
      kept,
      plan: plan({
        objects: [{ resource: RESOURCES.certificateRequests, object }],
        answers: [{ id: 'r1', certificatePem: 'pem' }],
        removals: [{ reference, uid: 'u0' }],
      }),
    },
    signal,
  );
  assert.deepEqual(done, ['apply alice-csr-1', 'answer r1 certificatePem', 'remove alice-csr-0']);
  assert.deepEqual(events, [
    { type: 'Normal', reason: 'CertificateGiven', message: `A certificate was given to ${ann.uri}` },
  ]);
});

test('T5: a refusal is told with its reason, and an object that cannot be made with what the apiserver says', async () => {
  const error = new KubeError('Apply', { status: 403, reason: 'Forbidden', message: 'exceeded quota' });
  const { parts } = world({ refuse: error });
  const events = await serveRequests(
    parts,
    {
      kept,
      plan: plan({
        objects: [{ resource: RESOURCES.certificateRequests, object }],
        answers: [{ id: 'r1', refused: 'not on Sundays' }],
      }),
    },
    signal,
  );
  assert.deepEqual(
    events.map(({ type, reason }) => [type, reason]),
    [
      ['Warning', 'RequestNotMade'],
      ['Warning', 'RequestRefused'],
    ],
  );
  assert.match(events[0]?.message ?? '', /exceeded quota/);
  assert.match(events[1]?.message ?? '', /user\/ann: not on Sundays$/);
});

test('T5: an answer that a coordinator does not take, or has already, is no event', async () => {
  const answers = [{ id: 'r1', certificatePem: 'pem' }];
  const refusing = async (): Promise<boolean> => {
    throw new CollectiveError('invalid_argument', 'Take the certificate: no root signed it');
  };
  for (const answer of [refusing, async () => false]) {
    const { parts } = world({ answer });
    assert.deepEqual(await serveRequests(parts, { kept, plan: plan({ answers }) }, signal), []);
  }
  const { done, parts } = world();
  await serveRequests({ ...parts, admin: undefined }, { kept, plan: plan({ answers }) }, signal);
  assert.deepEqual(done, [], 'nobody is there to be answered');
});
