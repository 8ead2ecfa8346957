/** K3: from when on a coordinator must find what it had, whatever became of the settings of its beginning. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import type { Admin } from '@collective/client';
import type { Member } from '../api/member.ts';
import { applyMember } from './apply-member.ts';
import { exampleCollective, exampleMember } from './example-member.ts';
import { answered, exampleObjects, examplePicture } from './example-picture.ts';
import { statusOf } from './member-status.ts';
import type { MemberPicture } from './picture.ts';
import { conditionsOf, type MemberPlan, planMember } from './plan-member.ts';

const silent = { state: 'silent', why: 'no answer within 5s' } as const;
const there = exampleObjects(['disk-0']);
const volumeLost = {
  ...there,
  pods: new Map(),
  volumeClaims: new Map([...there.volumeClaims].filter(([name]) => name !== 'alice-coordinator')),
};

interface Given {
  readonly coordinator?: MemberPicture['coordinator'];
  readonly status?: Member['status'];
  readonly paused?: boolean;
  readonly objects?: MemberPicture['objects'];
  /** The coordinator refuses the settings. */
  readonly refuses?: boolean;
}

/** One look: what it planned, and the status after it. */
async function look(given: Given): Promise<{ plan: MemberPlan; status: Member['status']; written: number }> {
  const { coordinator = answered(), status, paused = false, objects = there, refuses = false } = given;
  const member = { ...exampleMember({ maintenance: { paused } }), status };
  const collective = exampleCollective({ replication: { replicas: 3 } });
  const picture = examplePicture({ member, collective, objects, coordinator });
  const plan = planMember(picture, { renewalPolicySupported: true, userLeaves: [], peers: undefined });
  assert.ok(plan.kind === 'run');
  let written = 0;
  const setRealm = async (): Promise<void> => {
    if (refuses) throw new CollectiveError('no_space', 'Set the realm /: the volume of the metadata is full');
    written++;
  };
  const admin = coordinator.state === 'answered' ? ({ setRealm } as unknown as Admin) : undefined;
  const applier = {
    apply: async () => ({ objects: [], writes: 0, refused: [], gaveWay: [] }),
    remove: async () => ({ removed: 0, refused: [] }),
  };
  const parts = { api: { patch: async () => member }, applier, clock: new SystemClock(), log: silentLog };
  const outcome = await applyMember(
    parts as unknown as Parameters<typeof applyMember>[0],
    { picture, plan, admin },
    new AbortController().signal,
  );
  const conditions = conditionsOf(plan, picture, outcome.refused);
  return { plan, status: statusOf({ picture, plan, conditions, ...outcome }), written };
}

const cases: readonly { readonly name: string; readonly first: Given }[] = [
  { name: 'whose settings of the beginning are refused', first: { refuses: true } },
  { name: 'that the operator cannot ask', first: { coordinator: silent } },
  { name: 'of a paused member', first: { paused: true } },
];

for (const { name, first } of cases) {
  test(`K3: a coordinator ${name} has begun all the same, and a lost volume is a loss`, async () => {
    const { status, written } = await look(first);
    assert.equal(written, 0);
    assert.equal(status?.coordinator?.began, true);
    assert.equal(
      (await look({ status, objects: volumeLost, coordinator: silent })).plan.volumes.coordinator.state,
      'lost',
    );

    const again = await look({ status });
    assert.equal(again.written, 1, 'the settings are written once they can be');
    assert.equal((await look({ status: again.status })).written, 0, 'and never again');
  });
}

test('K3: a coordinator that has not served yet has nothing to lose', async () => {
  const starting = exampleObjects([]);
  const pods = new Map([...starting.pods].map(([key, pod]) => [key, { ...pod, status: {} }]));
  const { status, plan } = await look({ coordinator: silent, objects: { ...starting, pods } });
  assert.equal(status?.coordinator?.began, undefined);
  assert.equal(plan.volumes.expectsData, false);
});
