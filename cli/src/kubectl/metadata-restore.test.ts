import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberObject, MemberStatus } from './member-object.ts';
import { isRestored, restoreOrder, restoreStep } from './metadata-restore.ts';

const KEY = 'collective.storage/restore-from';
const KEPT = ['alice-20261126T034500Z.backup', 'alice-20261126T024500Z.backup'];

function member(status: MemberStatus, annotations: Record<string, string> = {}): MemberObject {
  const metadata = { name: 'alice', namespace: 'photos', annotations };
  return { apiVersion: 'collective.storage/v1alpha1', kind: 'Member', metadata, status };
}

test('K3: a coordinator that has its volume is not restored, and it is said what would have to be given up', () => {
  for (const state of ['Ready', 'Starting', 'Unreachable', 'Pending'])
    assert.throws(() => restoreOrder(member({ coordinator: { state } }), 'latest'), {
      code: 'busy',
      message: new RegExp(`${state} and has its volume, which is never overwritten`),
    });
});

test('the order names a backup that is known, and is given once', () => {
  const lost = { coordinator: { state: 'VolumeLost' }, backup: { kept: KEPT } };
  assert.deepEqual(restoreOrder(member(lost), 'latest'), { [KEY]: 'latest' });
  assert.deepEqual(restoreOrder(member(lost), KEPT[1] ?? ''), { [KEY]: KEPT[1] });
  assert.equal(restoreOrder(member(lost, { [KEY]: 'latest' }), 'latest'), undefined);
  assert.throws(() => restoreOrder(member(lost), 'alice-2020.backup'), { code: 'not_found' });
  // What a Member in a new cluster cannot know yet.
  const unknown = { coordinator: { state: 'VolumeLost' } };
  assert.deepEqual(restoreOrder(member(unknown), KEPT[0] ?? ''), { [KEY]: KEPT[0] });
});

test('a restore is told in the words of the operator, and is over when the coordinator serves', () => {
  const status = (type: string, is: string, message: string) => ({ conditions: [{ type, status: is, message }] });
  assert.equal(restoreStep(member(status('Stalled', 'True', 'it is cut'))), 'STALLED: it is cut');
  assert.equal(restoreStep(member(status('CoordinatorReady', 'False', 'by job x'))), 'by job x');
  assert.equal(isRestored(member({ coordinator: { state: 'Ready' } })), false);
  assert.equal(isRestored(member({ coordinator: { state: 'Ready', restored: { order: 'latest' } } })), true);
});
