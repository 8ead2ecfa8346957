import assert from 'node:assert/strict';
import { test } from 'node:test';
import { healthText } from './member-health.ts';
import type { MemberObject } from './member-object.ts';

function member(status: MemberObject['status'], more: Partial<MemberObject> = {}): MemberObject {
  const metadata = { name: 'alice', namespace: 'photos', generation: 2, ...more.metadata };
  const { spec } = more;
  const seen = status === undefined ? undefined : { observedGeneration: 2, ...status };
  return { apiVersion: 'collective.storage/v1alpha1', kind: 'Member', metadata, spec, status: seen };
}
const states = (all: Record<string, string>, messages: Record<string, string> = {}) =>
  Object.entries(all).map(([type, status]) => ({ type, status, reason: `${type}Reason`, message: messages[type] }));
const WELL = { Ready: 'True', Reconciling: 'False', Stalled: 'False' };

const cases: { name: string; given: MemberObject; want: string }[] = [
  { name: 'ready', given: member({ conditions: states(WELL) }), want: 'OK' },
  {
    name: 'ready, and something goes on',
    given: member({ conditions: states({ ...WELL, Reconciling: 'True' }, { Reconciling: 'rack grows' }) }),
    want: 'OK: rack grows',
  },
  {
    name: 'ready, with copies missing',
    given: member({ conditions: states({ ...WELL, ReplicationHealthy: 'False' }) }),
    want: 'DEGRADED: ReplicationHealthyReason',
  },
  {
    name: 'chunks that cannot be read stand above all else',
    given: member({ conditions: states(WELL), replication: { unreadable: 1 } }),
    want: 'DAMAGED: 1 chunk without a readable copy',
  },
  {
    name: 'so do blocks that were lost, until somebody has settled them',
    given: member({ conditions: states(WELL), replication: { lost: 2 } }),
    want: 'DAMAGED: 2 blocks lost what was written last',
  },
  {
    name: 'both are told',
    given: member({ conditions: states(WELL), replication: { unreadable: 2, lost: 1 } }),
    want: 'DAMAGED: 2 chunks without a readable copy, 1 block lost what was written last',
  },
  {
    name: 'stalled says what to do',
    given: member({ conditions: states({ Ready: 'False', Stalled: 'True' }, { Stalled: 'create the StorageClass' }) }),
    want: 'STALLED: create the StorageClass',
  },
  {
    name: 'the first that is missing explains the others',
    given: member({
      conditions: states(
        {
          NodesReady: 'False',
          CoordinatorReady: 'False',
          CertificatesReady: 'True',
          Ready: 'False',
          Reconciling: 'True',
        },
        { CoordinatorReady: 'its pod is not scheduled' },
      ),
    }),
    want: 'RECONCILING: its pod is not scheduled',
  },
  {
    name: 'nothing goes on, and it is not ready',
    given: member({ conditions: states({ Ready: 'False', Reconciling: 'False', NodesReady: 'Unknown' }) }),
    want: 'NOT READY: NodesReadyReason',
  },
  {
    name: 'a spec that nobody has seen yet',
    given: member({ observedGeneration: 1, conditions: states(WELL) }),
    want: 'RECONCILING: the operator has not seen the newest spec yet',
  },
  {
    name: 'no operator has been here',
    given: member(undefined),
    want: 'UNKNOWN: no operator has looked at it yet: does one run, and for this namespace?',
  },
  {
    name: 'paused',
    given: member({ conditions: states(WELL) }, { spec: { maintenance: { paused: true } } }),
    want: 'PAUSED: spec.maintenance.paused: the operator changes nothing',
  },
  {
    name: 'being deleted',
    given: member(
      { conditions: states(WELL) },
      { metadata: { name: 'alice', deletionTimestamp: '2026-11-20T12:00:00Z' } },
    ),
    want: 'DELETING',
  },
];

for (const { name, given, want } of cases) {
  test(`health of a member: ${name}`, () => {
    assert.equal(healthText(given), want);
  });
}
