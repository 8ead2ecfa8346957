import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberStatus } from '../api/member.ts';
import { statusEvents } from './status-events.ts';

type Told = readonly [type: string, status: 'True' | 'False' | 'Unknown', reason: string];

function status(conditions: readonly Told[], nodes: MemberStatus['nodes'] = []): MemberStatus {
  return {
    nodes,
    conditions: conditions.map(([type, is, reason]) => ({
      type,
      status: is,
      reason,
      message: `says ${reason}`,
      lastTransitionTime: '2026-11-20T12:00:00Z',
    })),
  };
}

function events(before: MemberStatus | undefined, after: MemberStatus): string[] {
  return statusEvents(before, after).map(({ type, reason }) => `${type} ${reason}`);
}

test('a member that becomes ready is told once, and everyday waits are not', () => {
  const ready = status([['Ready', 'True', 'Ready']]);
  assert.deepEqual(events(undefined, ready), ['Normal Ready']);
  assert.deepEqual(events(ready, ready), []);
  assert.deepEqual(events(ready, status([['Ready', 'False', 'Starting']])), []);
});

test('what stops a member is told when it appears, with the words of the condition, and once', () => {
  const pulled = status([['Ready', 'False', 'ImageCannotBePulled']]);
  assert.deepEqual(events(undefined, pulled), ['Warning ImageCannotBePulled']);
  assert.deepEqual(statusEvents(undefined, pulled)[0]?.message, 'says ImageCannotBePulled');
  assert.deepEqual(events(pulled, pulled), []);
  const stalled = status([
    ['Ready', 'True', 'Ready'],
    ['Stalled', 'True', 'VolumeCannotGrow'],
  ]);
  assert.deepEqual(events(status([['Ready', 'True', 'Ready']]), stalled), ['Warning VolumeCannotGrow']);
  const both = status([
    ['Ready', 'False', 'CertManagerMissing'],
    ['Stalled', 'True', 'CertManagerMissing'],
  ]);
  assert.deepEqual(events(undefined, both), ['Warning CertManagerMissing']);
});

test('K2: the way of a node that leaves is told step by step', () => {
  const at = (state: 'Ready' | 'Draining' | 'Drained' | 'Removing') =>
    status([], [{ name: 'disk-2', pool: 'disk', state }]);
  assert.deepEqual(events(at('Ready'), at('Draining')), ['Normal NodeDraining']);
  assert.deepEqual(events(at('Draining'), at('Draining')), []);
  assert.deepEqual(events(at('Draining'), at('Drained')), ['Normal NodeDrained']);
  assert.deepEqual(events(at('Drained'), at('Removing')), ['Normal NodeRemoving']);
  assert.deepEqual(events(at('Removing'), status([])), ['Normal NodeRemoved']);
});

test('K2: a drain that gets stuck is told once, also while something else keeps the member from being ready', () => {
  const before = status([
    ['Ready', 'False', 'PodCrashes'],
    ['Reconciling', 'True', 'PodCrashes'],
  ]);
  const stuck = status([
    ['Ready', 'False', 'PodCrashes'],
    ['Reconciling', 'True', 'DrainStuck'],
  ]);
  const stalled = status([
    ['Ready', 'False', 'PodCrashes'],
    ['Reconciling', 'False', 'DrainStuck'],
  ]);
  assert.deepEqual(events(before, stuck), ['Warning DrainStuck']);
  assert.deepEqual(events(stuck, stuck), []);
  assert.deepEqual(events(before, stalled), ['Warning DrainStuck']);
});

test('D3: blocks that were lost are told once, when the first is, over restarts of the coordinator', () => {
  const told = (lost: number | undefined, [is, reason]: readonly ['True' | 'False' | 'Unknown', string]) => ({
    ...status([['ReplicationHealthy', is, reason]]),
    replication: {
      underReplicated: 0,
      unreadable: 0,
      toMove: 0,
      counting: false,
      ...(lost === undefined ? {} : { lost }),
    },
  });
  const well = told(0, ['True', 'Replicated']);
  const lost = told(2, ['False', 'BlocksLost']);
  const silent = told(2, ['Unknown', 'CoordinatorSilent']);
  assert.deepEqual(statusEvents(well, lost), [{ type: 'Warning', reason: 'BlocksLost', message: 'says BlocksLost' }]);
  assert.deepEqual(events(lost, told(3, ['False', 'BlocksLost'])), []);
  assert.deepEqual(events(lost, silent), []);
  assert.deepEqual(events(silent, lost), []);
  assert.deepEqual(events(lost, well), []);
  assert.deepEqual(events(undefined, lost), ['Warning BlocksLost']);
  // CRDs of the version before: the number is not kept.
  assert.deepEqual(events(told(undefined, ['False', 'BlocksLost']), lost), []);
});

test('D8: chunks without a sound copy are told once, and blocks that are lost beside them too', () => {
  const told = (unreadable: number, lost: number, is: 'False' | 'Unknown' = 'False') => ({
    ...status([['ReplicationHealthy', is, is === 'False' ? 'Unreadable' : 'CoordinatorSilent']]),
    replication: { underReplicated: unreadable, unreadable, toMove: 0, lost, counting: false },
  });
  assert.deepEqual(events(undefined, told(1, 0)), ['Warning Unreadable']);
  assert.deepEqual(events(told(1, 0, 'Unknown'), told(1, 0)), []);
  assert.deepEqual(events(told(1, 0), told(1, 1)), ['Warning BlocksLost']);
});
