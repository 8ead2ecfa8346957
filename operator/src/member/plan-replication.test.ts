import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answered } from './example-picture.ts';
import { hasAllReplicas, replicationCondition, replicationGate } from './plan-replication.ts';

interface Given {
  readonly underReplicated?: number;
  readonly unreadable?: number;
  readonly lost?: number;
  readonly counting?: boolean;
}

/** As a coordinator counts: what has no sound copy is among what lacks replicas. */
const cases: readonly {
  readonly name: string;
  readonly given: Given;
  readonly want: string;
  /** May a pod start anew, and may a node be evicted? */
  readonly goes: readonly [rollout: boolean, eviction: boolean];
}[] = [
  { name: 'all is well', given: {}, want: 'True Replicated', goes: [true, true] },
  { name: 'chunks lack copies', given: { underReplicated: 1 }, want: 'False UnderReplicated', goes: [false, false] },
  { name: 'all are counted anew', given: { counting: true }, want: 'Unknown Counting', goes: [false, false] },
  {
    name: 'some have no copy left',
    given: { unreadable: 2, underReplicated: 2 },
    want: 'False Unreadable',
    goes: [true, false],
  },
  {
    name: 'some have no copy left, and others lack one',
    given: { unreadable: 2, underReplicated: 3 },
    want: 'False Unreadable',
    goes: [false, false],
  },
  {
    name: 'some have no copy left, and all are counted anew',
    given: { unreadable: 2, underReplicated: 2, counting: true },
    want: 'False Unreadable',
    goes: [false, false],
  },
  {
    name: 'more have no copy left than are counted',
    given: { unreadable: 10_000, underReplicated: 10_000 },
    want: 'False Unreadable',
    goes: [false, false],
  },
  { name: 'blocks were lost', given: { lost: 1 }, want: 'False BlocksLost', goes: [true, true] },
  {
    name: 'blocks were lost, and chunks lack copies',
    given: { lost: 1, underReplicated: 1 },
    want: 'False BlocksLost',
    goes: [false, false],
  },
  {
    name: 'blocks were lost, and all are counted anew',
    given: { lost: 1, counting: true },
    want: 'False BlocksLost',
    goes: [false, false],
  },
];

for (const { name, given, want, goes } of cases) {
  test(`K2, D8: ${name}: ${want}, and what may go on meanwhile`, () => {
    const answer = answered({ replication: given });
    const { status, reason } = replicationCondition(answer);
    assert.equal(`${status} ${reason}`, want);
    assert.deepEqual([replicationGate(answer).isHealthy, hasAllReplicas(answer)], goes);
  });
}

test('K2: nothing goes on while the coordinator cannot be asked', () => {
  const silent = { state: 'silent', why: 'no answer within 5s' } as const;
  assert.equal(replicationCondition(silent).reason, 'CoordinatorSilent');
  assert.deepEqual([replicationGate(silent).isHealthy, hasAllReplicas(silent)], [false, false]);
});

test('D3: the message says how many blocks were lost and which commands come next, beside all else that is wrong', () => {
  const says = (replication: Given): string => replicationCondition(answered({ replication })).message;
  assert.match(
    says({ lost: 3 }),
    /^3 blocks lost what was written last .* `collective events --kind block-reverted` .* then `collective maintenance settle-losses`$/,
  );
  assert.match(says({ lost: 1 }), /^1 block lost what was written last and shows what was before; /);
  assert.match(
    says({ lost: 3, unreadable: 1, underReplicated: 2 }),
    /^No sound copy is left of some chunks; .*\. 3 blocks lost .*\. Chunks lack replicas and are copied$/,
  );
});
