import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberStatus, MemberUser } from '../api/member.ts';
import { exampleMember } from '../member/example-member.ts';
import { planSubjects } from './plan-subjects.ts';
import { userLeaves } from './user-leaves.ts';

const DOMAIN = 'alice.photos.example';
const planned = (
  users: readonly MemberUser[],
  stored: MemberStatus['users'],
  subjects: Parameters<typeof planSubjects>[2],
) => planSubjects({ ...exampleMember({ users }), status: { users: stored } }, DOMAIN, subjects);

const ann: MemberUser = { name: 'ann', realms: [{ path: '/photos', readOnly: true }] };
const root: MemberUser = { name: 'root', admin: true, identity: 'Trusted', secretName: 'keys-of-root' };
const seen = (name: string, uid = 70_001) => ({
  role: 'user',
  name,
  admin: false,
  trusted: false,
  uid,
  realms: [{ path: '/', readOnly: false }],
});

test('T3a: a user gets a leaf for clients only, in the Secret that it names or in one of its own', () => {
  assert.deepEqual(userLeaves(exampleMember({ users: [ann, root] }), DOMAIN), [
    { name: 'alice-user-ann', uri: `spiffe://${DOMAIN}/user/ann`, usages: 'client' },
    { name: 'keys-of-root', uri: `spiffe://${DOMAIN}/user/root`, usages: 'client' },
  ]);
});

test('T3a: a name is kept in status before a subject is written under it', () => {
  const first = planned([ann, root], [], []);
  assert.deepEqual([first.puts, first.removals], [[], []]);
  assert.deepEqual(first.users, [
    { name: 'ann', secretName: 'alice-user-ann' },
    { name: 'root', secretName: 'keys-of-root' },
  ]);
  const second = planned([ann, root], first.users, []);
  assert.deepEqual(second.puts, [
    { role: 'user', name: 'ann', admin: false, trusted: false, realms: [{ path: '/photos', readOnly: true }] },
    { role: 'user', name: 'root', admin: true, trusted: true, realms: [] },
  ]);
});

test('T3a: status tells the uid of a squashed user, and none of a trusted one', () => {
  const stored = [
    { name: 'ann', secretName: 'alice-user-ann' },
    { name: 'root', secretName: 'keys-of-root' },
  ];
  assert.deepEqual(planned([ann, root], stored, [seen('ann'), seen('root', 0)]).users, [
    { name: 'ann', secretName: 'alice-user-ann', uid: 70_001 },
    { name: 'root', secretName: 'keys-of-root' },
  ]);
  assert.deepEqual(planned([{ ...ann, uid: 1_000 }], stored.slice(0, 1), []).puts[0]?.uid, 1_000);
});

test('T3a: a user that left is removed and stays in status until it is gone; those of others are never touched', () => {
  const stored = [{ name: 'ann', secretName: 'alice-user-ann', uid: 70_001 }];
  const leaving = planned([], stored, [seen('ann'), seen('by-token'), { ...seen('ann', 5), role: 'client' }]);
  assert.deepEqual([leaving.puts, leaving.removals, leaving.users], [[], ['ann'], stored]);
  const gone = planned([], stored, [seen('by-token')]);
  assert.deepEqual([gone.removals, gone.users], [[], []]);
});

test('T3a: while the coordinator cannot be asked nothing is ordered and nothing forgotten', () => {
  const stored = [
    { name: 'ann', secretName: 'alice-user-ann', uid: 70_001 },
    { name: 'left', secretName: 'alice-user-left' },
  ];
  const plan = planned([ann], stored, undefined);
  assert.deepEqual([plan.puts, plan.removals, plan.users], [[], [], stored]);
});

test('T3a: what the coordinator has already is not written again; what differs in one point is', () => {
  const stored = [{ name: 'ann', secretName: 'alice-user-ann', uid: 70_001 }];
  const written = { ...seen('ann'), realms: [{ path: '/photos', readOnly: true }] };
  assert.deepEqual(planned([ann], stored, [written]).puts, []);
  for (const other of [
    { ...written, admin: true },
    { ...written, trusted: true },
    { ...written, realms: [{ path: '/photos', readOnly: false }] },
    { ...written, realms: [] },
  ])
    assert.equal(planned([ann], stored, [other]).puts.length, 1, JSON.stringify(other));
  assert.equal(planned([{ ...ann, uid: 1_000 }], stored, [written]).puts[0]?.uid, 1_000);
  assert.deepEqual(planned([{ name: 'ann' }], stored, [seen('ann')]).puts, []);
});
