import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exampleCollective, exampleMember } from './example-member.ts';
import { rootRealm } from './root-realm.ts';

test('D8: a root realm is left as it is where nobody says anything', () => {
  assert.deepEqual(rootRealm(exampleMember(), exampleCollective()), {});
  assert.deepEqual(rootRealm(exampleMember(), undefined), {});
});

test('D8: a root realm gets what the Collective says', () => {
  const collective = exampleCollective({
    replication: { replicas: 3, minReplicas: 2 },
    compression: 'Disabled',
    quotas: { bytes: '2Ti', inodes: 1_000_000 },
  });
  assert.deepEqual(rootRealm(exampleMember(), collective), {
    replicas: 3,
    minReplicas: 2,
    compression: false,
    quotaBytes: 2 * 2 ** 40,
    quotaInodes: 1_000_000,
  });
});

test('D8: what a Member says of replication is not mixed with what its Collective says', () => {
  const collective = exampleCollective({ replication: { replicas: 3, minReplicas: 2 } });
  assert.deepEqual(rootRealm(exampleMember({ replication: { replicas: 1 } }), collective), { replicas: 1 });
});
