import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { nodeNameOf, type PeerRole, parseSpiffeId, parseTrustDomain, serverDnsName, spiffeId } from './spiffe-id.ts';

const alice = parseTrustDomain('alice.home');

const good: { uri: string; role: PeerRole; name: string; dnsName: string | undefined }[] = [
  { uri: 'spiffe://alice.home/coordinator', role: 'coordinator', name: '', dnsName: 'coordinator.alice.home' },
  { uri: 'spiffe://alice.home/operator', role: 'operator', name: '', dnsName: undefined },
  { uri: 'spiffe://alice.home/node/node-1', role: 'node', name: 'node-1', dnsName: 'node-1.node.alice.home' },
  { uri: 'spiffe://alice.home/user/ann', role: 'user', name: 'ann', dnsName: undefined },
  { uri: 'spiffe://alice.home/client/backup.daily_2', role: 'client', name: 'backup.daily_2', dnsName: undefined },
];

for (const { uri, role, name, dnsName } of good) {
  test(`T1, T2: ${uri} is read, written again, and has the DNS name ${dnsName ?? 'of no server'}`, () => {
    const id = parseSpiffeId(uri);
    assert.deepEqual(id, { uri, trustDomain: alice, role, name });
    assert.deepEqual(spiffeId(alice, role, name), id);
    assert.equal(serverDnsName(id), dnsName);
  });
}

const bad = [
  '',
  'spiffe://alice.home',
  'spiffe://alice.home/',
  'spiffe://alice.home/coordinator/two',
  'spiffe://alice.home/operator/x',
  'spiffe://alice.home/user',
  'spiffe://alice.home/user/',
  'spiffe://alice.home/user/ann/extra',
  'spiffe://alice.home/user/Ann',
  'spiffe://alice.home/user/.',
  'spiffe://alice.home/user/..',
  'spiffe://alice.home/user/a%2fb',
  `spiffe://alice.home/user/${'a'.repeat(64)}`,
  'spiffe://alice.home/node/node_1',
  'spiffe://alice.home/root',
  'spiffe://alice/user/ann',
  'spiffe://alice.home:443/user/ann',
  'spiffe://ann@alice.home/user/ann',
  'spiffe://Alice.home/user/ann',
  `spiffe://${'a'.repeat(25)}.home/user/ann`,
  'https://alice.home/user/ann',
  'spiffe://alice.home/user/ann?x=1',
  'spiffe://alice.home/user/ann#x',
];

for (const uri of bad) {
  test(`T1: '${uri.slice(0, 60)}' is no name of a peer`, () => {
    assert.throws(
      () => parseSpiffeId(uri),
      (thrown) => thrown instanceof CollectiveError && thrown.code === 'invalid_argument',
    );
  });
}

test('T1: the domain of a collective may have dots, the member may not', () => {
  assert.equal(parseTrustDomain('alice.files.example.org'), 'alice.files.example.org');
  assert.throws(() => parseTrustDomain('alice'), CollectiveError);
});

test('T3: only a node is treated as a node', () => {
  assert.equal(nodeNameOf(spiffeId(alice, 'node', 'node-1')), 'node-1');
  assert.throws(
    () => nodeNameOf(spiffeId(alice, 'user', 'node-1')),
    (thrown) => thrown instanceof CollectiveError && thrown.code === 'permission_denied',
  );
});
