import assert from 'node:assert/strict';
import { test } from 'node:test';
import { certificateRows } from './certificate-rows.ts';
import type { KubeObject } from './kube-object.ts';
import type { MemberObject } from './member-object.ts';

const NOW_MS = Date.parse('2026-11-25T12:00:00Z');
const days = (count: number): string => new Date(NOW_MS + count * 86_400_000).toISOString();

const alice: MemberObject = {
  apiVersion: 'collective.storage/v1alpha1',
  kind: 'Member',
  metadata: { name: 'alice', namespace: 'photos' },
  status: {
    ca: {
      generation: 2,
      generations: [
        { generation: 2, notAfter: days(60) },
        { generation: 1, notAfter: days(900) },
      ],
    },
    certificates: [
      { name: 'alice-rack-0-tls', notAfter: days(20), generation: 2 },
      { name: 'alice-rack-1-tls', notAfter: days(2), generation: 2 },
      { name: 'alice-coordinator-tls', notAfter: days(-1), generation: 2 },
      { name: 'alice-operator-tls', notAfter: days(5), generation: 1 },
      { name: 'alice-rack-2-tls' },
      { name: 'alice-ca-g2', notAfter: days(60), generation: 2 },
      { name: 'alice-ca-g1', notAfter: days(900), generation: 1 },
    ],
  },
};

function certificate(name: string, namespace: string, status: object): KubeObject {
  const labels = { 'collective.storage/member': 'alice' };
  return { apiVersion: 'cert-manager.io/v1', kind: 'Certificate', metadata: { name, namespace, labels }, status };
}

test('T6: authorities come first and once, then leaves by their end; each has the state that somebody must know', () => {
  const rows = certificateRows([alice], [], NOW_MS);
  assert.deepEqual(
    rows.map(({ name, state }) => [name, state]),
    [
      ['alice-ca-g2', 'expires soon'],
      ['alice-ca-g1', 'retiring'],
      ['alice-rack-2-tls', 'unknown'],
      ['alice-coordinator-tls', 'expired'],
      ['alice-rack-1-tls', 'expires soon'],
      ['alice-operator-tls', 'old authority'],
      ['alice-rack-0-tls', 'valid'],
    ],
  );
});

test("cert-manager's word stands beside each, and what it has not issued yet is shown too", () => {
  const refused = {
    conditions: [{ type: 'Ready', status: 'False', reason: 'Pending', message: 'the issuer is missing' }],
  };
  const rows = certificateRows(
    [alice],
    [
      certificate('alice-rack-0-tls', 'photos', { conditions: [{ type: 'Ready', status: 'True' }] }),
      certificate('alice-rack-0-tls', 'elsewhere', refused),
      certificate('alice-rack-9-tls', 'photos', refused),
    ],
    NOW_MS,
  );
  const issuance = new Map(rows.map((row) => [row.name, row.issuance]));
  assert.equal(issuance.get('alice-rack-0-tls'), 'ready');
  assert.equal(issuance.get('alice-rack-9-tls'), 'not ready: the issuer is missing');
  assert.equal(issuance.get('alice-rack-1-tls'), undefined);
});
