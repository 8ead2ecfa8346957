import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { planImport, planInvited } from './context-import.ts';
import type { MemberObject } from './member-object.ts';

const kubernetes = { context: 'lab' };

function member(spec: MemberObject['spec'] = {}, status: MemberObject['status'] = {}): MemberObject {
  return {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Member',
    metadata: { name: 'alice', namespace: 'photos' },
    spec: { users: [{ name: 'anna' }], ...spec },
    status: { trustDomain: 'alice.photos.example', ...status },
  };
}

test('D10: a member that is not exposed is reached by forwarded ports, and the context says all that this takes', () => {
  const kubeconfig = '/home/anna/lab.yaml';
  assert.deepEqual(planImport(member(), { kubernetes: { ...kubernetes, kubeconfig } }), {
    user: 'anna',
    secretName: 'alice-user-anna',
    bundleName: 'alice-trust',
    settings: {
      trustDomain: 'alice.photos.example',
      coordinator: 'alice-coordinator.photos.svc:7420',
      listener: 'internal',
      via: { kind: 'kubernetes', settings: { kubeconfig, context: 'lab', namespace: 'photos', member: 'alice' } },
    },
  });
});

test('D10: an exposed one is dialled where it is advertised, unless forwarded ports are asked for', () => {
  const exposed = member(
    {},
    { endpoints: { external: 'alice.example:30420', internal: 'alice-coordinator.photos.svc:7420' } },
  );
  const { settings } = planImport(exposed, { kubernetes });
  assert.deepEqual(settings, {
    trustDomain: 'alice.photos.example',
    coordinator: 'alice.example:30420',
    listener: 'external',
  });
  const forwarded = planImport(exposed, { kubernetes, via: 'port-forward' }).settings;
  assert.equal(forwarded.via?.kind, 'kubernetes');
  assert.throws(() => planImport(member(), { kubernetes, via: 'external' }), {
    code: 'not_found',
    todo: /spec\.exposure/,
  });
});

test('T3a: the user is the only one, or the one that is named; the Secret is the one that the operator says', () => {
  const two = { users: [{ name: 'anna' }, { name: 'ben', secretName: 'bens' }] };
  assert.throws(() => planImport(member(two), { kubernetes }), { code: 'invalid_argument', todo: /anna, ben/ });
  assert.throws(() => planImport(member(two), { kubernetes, user: 'eve' }), { code: 'not_found', todo: /anna, ben/ });
  assert.throws(() => planImport(member({ users: [] }), { kubernetes }), { code: 'not_found', todo: /spec\.users/ });
  assert.equal(planImport(member(two), { kubernetes, user: 'ben' }).secretName, 'bens');
  const seen = member(two, { users: [{ name: 'ben', secretName: 'of-ben' }] });
  assert.equal(planImport(seen, { kubernetes, user: 'ben' }).secretName, 'of-ben');
});

test('T3: with an invitation the Member says the way, no user is needed, and the invitation must be one to this member', () => {
  const trustDomain = parseTrustDomain('alice.photos.example');
  const invited = { role: 'user', trustDomain } as const;
  const nobody = member({ users: [] });
  assert.deepEqual(
    planInvited(nobody, invited, { kubernetes }),
    planImport(member(), { kubernetes, user: 'anna' }).settings,
  );
  assert.throws(() => planInvited(nobody, { ...invited, trustDomain: parseTrustDomain('bob.home') }, { kubernetes }), {
    code: 'wrong_member',
  });
  assert.throws(() => planInvited(nobody, { ...invited, role: 'node' }, { kubernetes }), {
    code: 'invalid_argument',
    todo: /collective node --invitation/,
  });
});

test('what cannot be imported yet, or at all, says so', () => {
  assert.throws(() => planImport(member({}, { trustDomain: undefined }), { kubernetes }), { code: 'busy' });
  assert.throws(() => planImport(member({ external: { endpoint: 'x:1' } }), { kubernetes }), { code: 'unsupported' });
});
