import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TrustDomain } from '@collective/base/ids';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { GROUPS_MAX, type PeerReport, SESSIONS_SHOWN_MAX, trustStatus } from './trust-report.ts';

const authority = await ScratchAuthority.create('alice.home' as TrustDomain);
const own = await authority.peer('coordinator');
const leaf = { rootFingerprint256: own.rootFingerprint256, notAfterMs: 1_800_000_000_000 };
const user = (name: string, change: Partial<PeerReport> = {}): PeerReport => ({
  peer: `spiffe://alice.home/user/${name}`,
  bundleHash: own.bundleHash,
  leaf,
  ...change,
});
const hash = (n: number): string => n.toString(16).padStart(64, '0');

test('T6: sessions that are alike are one line, those that differ come first, the rest is counted', () => {
  const many = Array.from({ length: SESSIONS_SHOWN_MAX + 20 }, (_, i) => user(`u${String(i).padStart(3, '0')}`));
  const late = user('zoe', { bundleHash: hash(1) });
  const status = trustStatus({ own, nodes: [], sessions: [...many, late, late], connections: [] });
  assert.equal(status.peers.length, SESSIONS_SHOWN_MAX);
  assert.deepEqual(
    [status.peers[0]?.peer, status.peers[0]?.bundleHash, status.peers[0]?.count],
    [late.peer, hash(1), 2],
  );
  assert.equal(status.sessionsLeftOut, 21);
  const root = own.rootFingerprint256;
  assert.deepEqual(status.groups, [
    { kind: 'user', bundleHash: own.bundleHash, root, connected: true, count: SESSIONS_SHOWN_MAX + 20 },
    { kind: 'user', bundleHash: hash(1), root, connected: true, count: 2 },
  ]);
});

test('T6: nodes are all named, also one that is away', () => {
  const node = (name: string, change: Partial<PeerReport> = {}): PeerReport => ({
    ...user(name, change),
    peer: `spiffe://alice.home/node/${name}`,
  });
  const status = trustStatus({
    own,
    nodes: [node('attic'), node('cellar', { leaf: undefined, bundleHash: '' })],
    sessions: [],
    connections: [{ root: own.rootFingerprint256, count: 1 }],
  });
  assert.deepEqual(
    status.peers.map(({ peer, connected, root, notAfter }) => [peer, connected, root, notAfter?.seconds]),
    [
      ['spiffe://alice.home/node/attic', true, own.rootFingerprint256, 1_800_000_000],
      ['spiffe://alice.home/node/cellar', false, '', undefined],
    ],
  );
  assert.deepEqual(status.roots, [own.rootFingerprint256]);
});

test('T6: what peers say can neither grow the answer nor pass for the bundle', () => {
  const liars = Array.from({ length: 3 * GROUPS_MAX }, (_, i) => user('eve', { bundleHash: hash(i) }));
  const garbled = user('eve', { bundleHash: 'x'.repeat(10_000) });
  const { groups, peers } = trustStatus({
    own,
    nodes: [],
    sessions: [...liars, garbled, user('ann')],
    connections: [],
  });
  assert.ok(groups.length <= GROUPS_MAX + 1);
  assert.equal(
    groups.reduce((sum, { count }) => sum + count, 0),
    3 * GROUPS_MAX + 2,
    'all are counted',
  );
  assert.ok(peers.every(({ bundleHash }) => bundleHash === '' || bundleHash.length === 64));
  assert.equal(
    groups.find(({ bundleHash }) => bundleHash === own.bundleHash),
    undefined,
    'beyond the bound nothing is claimed',
  );
});
