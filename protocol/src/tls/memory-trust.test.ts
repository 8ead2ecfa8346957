import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import { MemoryTrust } from './memory-trust.ts';
import { ScratchAuthority } from './scratch-authority.ts';
import type { TrustSet } from './trust-set.ts';

const authority = await ScratchAuthority.create('alice.home' as TrustDomain);
const next = await ScratchAuthority.create('alice.home' as TrustDomain, { generation: 2 });
const first = await authority.peer('operator');
const second = await next.peer('operator');

test('T4: an identity in memory is replaced, and those who use it are told once', () => {
  const trust = new MemoryTrust(first, 'Secret alice-operator');
  const told: TrustSet[] = [];
  const end = trust.onChange((set) => told.push(set));
  assert.equal(trust.replace({ ...first }), false, 'the same set is no change');
  assert.equal(trust.replace({ ...first, bundlePem: first.bundlePem + second.bundlePem }), true);
  assert.equal(trust.current.roots.length, 2);
  assert.equal(trust.replace(second), true);
  assert.equal(trust.current.leaf.fingerprint256, second.leaf.fingerprint256);
  assert.deepEqual(
    told.map(({ roots }) => roots.length),
    [2, 1],
  );
  end();
  trust.replace(first);
  assert.equal(told.length, 2);
});

for (const { name, pems, code } of [
  { name: 'a key of another leaf', pems: { ...second, keyPem: first.keyPem }, code: 'unauthenticated' },
  {
    name: 'a leaf of a root that is not there',
    pems: { ...second, bundlePem: first.bundlePem },
    code: 'unauthenticated',
  },
  { name: "somebody else's leaf", pems: await next.peer('user', 'ann'), code: 'wrong_member' },
])
  test(`T4: ${name} is refused, and the last good set stays in use`, () => {
    const trust = new MemoryTrust(first, 'Secret alice-operator');
    trust.onChange(() => assert.fail('nothing has changed'));
    assert.throws(
      () => trust.replace(pems),
      (thrown: unknown) =>
        thrown instanceof CollectiveError && thrown.code === code && thrown.message.includes('Secret alice-operator'),
    );
    assert.equal(trust.current.leaf.fingerprint256, first.leaf.fingerprint256);
  });
