/** K2, K3: a pool grows and shrinks while what is stored stays where nodes are left; volumes grow in place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../../apiserver/api-client.ts';
import { seededBytes, sha256Of } from '../../integration/random-file.ts';
import { aliceOfThisFile } from '../members-of-file.ts';

const FILE_BYTES = 64 * 1024 * 1024;
const SEED = 11;

const { cluster, alice } = aliceOfThisFile('pool-size');

const pool = (replicas: number, capacity: string) => ({ nodePools: [{ name: 'disks', replicas, capacity }] });

function nodesOf({ status }: Readonly<Record<string, unknown>>): string[] {
  return (status as { nodes: { name: string }[] }).nodes.map(({ name }) => name).sort();
}

async function volumes(): Promise<KubeObject[]> {
  const all = await cluster.api.list('v1', 'PersistentVolumeClaim', cluster.namespace);
  return all.filter(({ metadata }) => metadata.labels?.['collective.storage/node'] !== undefined);
}

test('K2: a pool grows by a node, loses one by name, and every byte is there', async () => {
  await using session = await alice.connect();
  await session.files.write('/kept', seededBytes(SEED, FILE_BYTES));

  await alice.apply(pool(3, '2Gi'));
  assert.deepEqual(nodesOf(await alice.whenReady()), ['disks-0', 'disks-1', 'disks-2']);

  await cluster.kubectl(['annotate', 'member', 'alice', 'collective.storage/drain-nodes=disks-0', '--overwrite']);
  await alice.apply(pool(2, '2Gi'));
  const shrunk = await alice.when(
    (member) => nodesOf(member).join() === 'disks-1,disks-2',
    'has only the nodes that were not named',
  );
  assert.ok(shrunk !== undefined);
  await alice.whenReady();
  assert.deepEqual((await volumes()).map(({ metadata }) => metadata.name).sort(), ['alice-disks-1', 'alice-disks-2']);
  assert.equal(await sha256Of(session.files.read('/kept')), await sha256Of(seededBytes(SEED, FILE_BYTES)));
  const { replication } = await session.admin.status();
  assert.equal(replication.underReplicated, 0);
});

test('K2: volumes grow by editing the capacity, one node after the other', async () => {
  await alice.apply(pool(2, '3Gi'));
  await alice.when(
    ({ status }) =>
      (status as { nodes: { capacity?: string }[] }).nodes.every(({ capacity = '' }) => !capacity.startsWith('1')),
    'gives more room',
  );
  await alice.whenReady();
  for (const { metadata, status } of await volumes())
    assert.equal((status as { capacity: { storage: string } }).capacity.storage, '3Gi', metadata.name);
  await using session = await alice.connect();
  assert.equal(await sha256Of(session.files.read('/kept')), await sha256Of(seededBytes(SEED, FILE_BYTES)));
});
