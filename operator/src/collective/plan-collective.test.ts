import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Collective } from '../api/collective.ts';
import type { Member } from '../api/member.ts';
import { exampleCollective, exampleMember } from '../member/example-member.ts';
import { NOW_MS } from '../member/example-picture.ts';
import { planCollective } from './plan-collective.ts';

function member(name: string, conditions: Readonly<Record<string, 'True' | 'False'>>, change: object = {}): Member {
  return {
    ...exampleMember({}, { name, labels: { team: name } }),
    status: {
      capacity: '100Gi',
      used: '10Gi',
      conditions: Object.entries(conditions).map(([type, status]) => ({
        type,
        status,
        reason: 'Some',
        message: '',
        lastTransitionTime: '',
      })),
    },
    ...change,
  };
}

const ready = { Ready: 'True', Stalled: 'False' } as const;
const starting = { Ready: 'False', Stalled: 'False' } as const;

function told(members: readonly Member[], collective: Collective = exampleCollective()): string {
  const { membersReady, capacity, used, conditions = [] } = planCollective(collective, members, NOW_MS);
  return [membersReady, capacity, used, ...conditions.map(({ type, status }) => `${type}=${status}`)].join(' ');
}

test('a Collective counts its Members, and adds up what they have', () => {
  assert.equal(told([]), '0/0 0 0 Ready=True Reconciling=False Stalled=False');
  assert.equal(
    told([member('a', ready), member('b', ready)]),
    '2/2 200Gi 20Gi Ready=True Reconciling=False Stalled=False',
  );
  assert.equal(
    told([member('a', ready), member('b', starting)]),
    '1/2 200Gi 20Gi Ready=False Reconciling=True Stalled=False',
  );
});

test('a Member that is stalled stalls it, and is named', () => {
  const members = [member('a', ready), member('b', { Ready: 'False', Stalled: 'True' })];
  assert.equal(told(members), '1/2 200Gi 20Gi Ready=False Reconciling=False Stalled=True');
  const { conditions = [] } = planCollective(exampleCollective(), members, NOW_MS);
  assert.equal(conditions.find(({ type }) => type === 'Stalled')?.message, 'Look at the conditions of b');
});

test('a Member that is not selected does not count, and one that ends is not ready', () => {
  const collective = exampleCollective();
  const selecting = { ...collective, spec: { ...collective.spec, memberSelector: { matchLabels: { team: 'a' } } } };
  assert.match(told([member('a', ready), member('b', ready)], selecting), /^1\/1 100Gi/);
  const ending = member('a', ready);
  const deleted = { ...ending, metadata: { ...ending.metadata, deletionTimestamp: '2026-11-20T12:00:00Z' } };
  assert.match(told([deleted]), /^0\/1/);
});

test('of many Members that are not ready some are named', () => {
  const members = ['g', 'f', 'e', 'd', 'c', 'b', 'a'].map((name) => member(name, starting));
  const { conditions = [] } = planCollective(exampleCollective(), members, NOW_MS);
  assert.equal(conditions[0]?.message, '0 of 7 members are ready; not: a, b, c, d, e and 2 more');
});
