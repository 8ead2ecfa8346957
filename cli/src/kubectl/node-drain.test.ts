import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberObject } from './member-object.ts';
import { drainList, drainOrder, drainStep, isGone, orderSaid } from './node-drain.ts';

const DRAIN = 'collective.storage/drain-nodes';

function member(annotation?: string, states: Record<string, string> = {}): MemberObject {
  return {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Member',
    metadata: { name: 'alice', annotations: annotation === undefined ? {} : { [DRAIN]: annotation } },
    status: {
      nodes: ['rack-0', 'rack-1', 'rack-2'].map((name) => ({ name, state: states[name] ?? 'Ready' })),
    },
  };
}

const cases: { name: string; given: MemberObject; nodes: string[]; undo?: boolean; want: object | undefined }[] = [
  { name: 'the first one', given: member(), nodes: ['rack-1'], want: { [DRAIN]: 'rack-1' } },
  { name: 'one more', given: member(' rack-0, '), nodes: ['rack-1'], want: { [DRAIN]: 'rack-0,rack-1' } },
  { name: 'one that is listed', given: member('rack-0,rack-1'), nodes: ['rack-1'], want: undefined },
  { name: 'no names', given: member('rack-0'), nodes: [], want: undefined },
  {
    name: 'undo of one of two',
    given: member('rack-0,rack-1'),
    nodes: ['rack-0'],
    undo: true,
    want: { [DRAIN]: 'rack-1' },
  },
  { name: 'undo of the last', given: member('rack-0'), nodes: ['rack-0'], undo: true, want: { [DRAIN]: null } },
];
for (const { name, given, nodes, undo = false, want } of cases) {
  test(`K2: the list of nodes to drain: ${name}`, () => {
    assert.deepEqual(drainOrder(given, { nodes, undo }), want);
  });
}

test('K2: an unknown node is refused with the names that there are; a pod is known by its node', () => {
  assert.throws(() => drainOrder(member(), { nodes: ['rack-7'], undo: false }), {
    code: 'not_found',
    todo: 'Its nodes: rack-0, rack-1, rack-2.',
  });
  assert.throws(() => drainOrder(member(), { nodes: ['alice-rack-1-0'], undo: false }), {
    todo: 'The node is called rack-1.',
  });
  assert.throws(() => drainOrder(member('rack-0'), { nodes: ['rack-1'], undo: true }), { code: 'not_found' });
});

test('K2: what is being removed cannot be kept any more', () => {
  assert.throws(() => drainOrder(member('rack-0', { 'rack-0': 'Removing' }), { nodes: ['rack-0'], undo: true }), {
    code: 'busy',
  });
});

test('K2: what is said of an order tells a node that is kept from one that is gone', () => {
  const given = member('rack-0,rack-9', { 'rack-0': 'Draining' });
  const said = (nodes: string[], undo: boolean, changed = true): string => orderSaid(given, { nodes, undo }, changed);
  assert.equal(said(['rack-0'], false), 'rack-0 of alice: to be drained.');
  assert.equal(said(['rack-0'], false, false), 'rack-0 of alice: was to be drained already.');
  assert.equal(
    said(['rack-0', 'rack-9'], true),
    'rack-0 of alice: to be kept.\nrack-9 of alice: gone already; a new node may be called so again.',
  );
});

test('a drain is done when the nodes are gone, and tells what is left and why it does not go on', () => {
  const given = member('rack-0', { 'rack-0': 'Draining' });
  assert.deepEqual(drainList(given), ['rack-0']);
  assert.equal(isGone(given, ['rack-0']), false);
  assert.equal(isGone(given, ['rack-9']), true);
  const stuck = 'Node rack-0 cannot go: 1 chunks lie there still; 1 chunks: rack-1 and rack-2 are full';
  const held: MemberObject = {
    ...given,
    status: {
      nodes: [{ name: 'rack-0', state: 'Draining', leftChunks: 1 }],
      conditions: [
        { type: 'Reconciling', status: 'True', reason: 'DrainStuck', message: stuck },
        { type: 'Stalled', status: 'False', reason: 'NotStalled', message: '' },
      ],
    },
  };
  assert.equal(drainStep(held, ['rack-0']), `rack-0 Draining, 1 chunk left (${stuck})`);
  const message = `${stuck}. Volume claim alice-rack-1 cannot grow`;
  const stalled: MemberObject = {
    ...given,
    status: {
      ...held.status,
      conditions: [
        { type: 'Reconciling', status: 'False', reason: 'DrainStuck', message },
        {
          type: 'Stalled',
          status: 'True',
          reason: 'VolumeCannotGrow',
          message: 'Volume claim alice-rack-1 cannot grow',
        },
      ],
    },
  };
  assert.equal(drainStep(stalled, ['rack-0']), `STALLED: ${message}`);
  const going: MemberObject = {
    ...given,
    status: {
      ...held.status,
      conditions: [
        { type: 'Reconciling', status: 'True', reason: 'Draining', message: 'node rack-0 is emptied' },
        { type: 'NodesReady', status: 'False', reason: 'Starting', message: '2 of 3 nodes are ready' },
      ],
    },
  };
  assert.equal(drainStep(going, ['rack-0']), 'rack-0 Draining, 1 chunk left');
});
