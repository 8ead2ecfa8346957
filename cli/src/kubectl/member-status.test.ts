import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberStatus } from './member-object.ts';
import { statusLines } from './member-status.ts';

const NOW_MS = Date.parse('2026-11-20T12:00:00Z');

function replicationLine(replication: MemberStatus['replication']): string | undefined {
  const metadata = { name: 'alice', namespace: 'photos' };
  const status = replication === undefined ? {} : { replication };
  const member = { apiVersion: 'collective.storage/v1alpha1', kind: 'Member', metadata, status };
  return statusLines(member, NOW_MS).find(([name]) => name === 'Replication')?.[1];
}

const cases: readonly { name: string; given: MemberStatus['replication']; want: string | undefined }[] = [
  { name: 'nothing is known', given: undefined, want: undefined },
  { name: 'all is well', given: { underReplicated: 0, lost: 0 }, want: 'all chunks have their copies' },
  { name: 'chunks are counted anew', given: { underReplicated: 3, counting: true }, want: 'being counted' },
  { name: 'blocks were lost', given: { lost: 2 }, want: '2 blocks LOST what was written last' },
  {
    name: 'blocks were lost, and chunks are counted anew',
    given: { lost: 1, counting: true },
    want: '1 block LOST what was written last, being counted',
  },
  {
    name: 'all that can be wrong',
    given: { lost: 2, unreadable: 1, underReplicated: 4, toMove: 3 },
    want: '2 blocks LOST what was written last, 1 UNREADABLE, 4 with too few copies, 3 to move',
  },
];

for (const { name, given, want } of cases) {
  test(`replication in one line: ${name}`, () => {
    assert.equal(replicationLine(given), want);
  });
}
