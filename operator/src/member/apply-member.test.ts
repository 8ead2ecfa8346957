import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import type { Admin } from '@collective/client';
import { KubeError } from '../kube/kube-error.ts';
import { RESOURCES } from '../kube/resources.ts';
import { type ApplyMemberParts, applyMember, type MemberOutcome } from './apply-member.ts';
import { exampleMember } from './example-member.ts';
import { answered, exampleObjects, examplePicture } from './example-picture.ts';
import { type CoordinatorOrder, planMember } from './plan-member.ts';

const { signal } = new AbortController();

/** What comes of these orders at a coordinator that refuses all with one error; a removal is refused by a policy. */
async function outcome(orders: readonly CoordinatorOrder[], refusal: CollectiveError): Promise<MemberOutcome> {
  const picture = examplePicture({ member: exampleMember(), objects: exampleObjects([]), coordinator: answered() });
  const plan = planMember(picture, { renewalPolicySupported: true, userLeaves: [], peers: undefined });
  assert.ok(plan.kind === 'run');
  const refuse = async () => await Promise.reject(refusal);
  const admin = {
    setNodeDuty: refuse,
    removeNode: refuse,
    putSubject: refuse,
    removeSubject: refuse,
    setRealm: refuse,
  };
  const removal = { reference: { resource: RESOURCES.services, namespace: 'team', name: 'alice-disk-9' }, uid: 'u' };
  const error = new KubeError('Delete services team/alice-disk-9', { status: 403, reason: 'Forbidden' });
  const applier = {
    apply: async () => ({ objects: [], writes: 0, refused: [], gaveWay: [] }),
    remove: async () => ({ removed: 0, refused: [{ removal, error }] }),
  };
  const parts = { api: {}, applier, clock: new SystemClock(), log: silentLog } as unknown as ApplyMemberParts;
  return await applyMember(parts, { picture, plan: { ...plan, orders }, admin: admin as unknown as Admin }, signal);
}

const ann = { role: 'user', name: 'ann', admin: false, trusted: false, realms: [{ path: '/none', readOnly: false }] };
const putAnn = { kind: 'put-subject', subject: ann } as CoordinatorOrder;
const forget: CoordinatorOrder = { kind: 'forget', node: 'disk-0' };

test('what a coordinator refuses is told with its own words and what to do', async () => {
  const { events } = await outcome([putAnn], new CollectiveError('not_found', 'Find the realm /none: it is no realm'));
  assert.deepEqual(
    events.map(({ type, reason }) => [type, reason]),
    [['Warning', 'OrderRefused']],
  );
  assert.match(events[0]?.message ?? '', /^The coordinator refuses: Find the realm \/none: it is no realm\. \S/);
});

test('K3: that chunks lie on a node that is to be forgotten is told; that its pod ended a moment ago is not', async () => {
  const lies = new CollectiveError('busy', 'Remove node disk-0: 3 chunks lie there still', {
    details: { chunks: '3' },
  });
  assert.equal((await outcome([forget], lies)).events.length, 1);
  const runs = new CollectiveError('busy', 'Remove node disk-0: it is running and connected; stop it first');
  assert.equal((await outcome([forget], runs)).events.length, 0);
  assert.equal((await outcome([forget], new CollectiveError('not_found', 'Find node disk-0'))).events.length, 0);
});

test('a coordinator that goes just now is no refusal', async () => {
  assert.deepEqual((await outcome([putAnn], new CollectiveError('unavailable', 'Ask alice'))).events, []);
});

test('a removal that the apiserver refuses is told as a refused write', async () => {
  const { refused } = await outcome([], new CollectiveError('internal', 'unused'));
  assert.deepEqual(
    refused.map(({ kind, name }) => [kind, name]),
    [['Service', 'alice-disk-9']],
  );
});
