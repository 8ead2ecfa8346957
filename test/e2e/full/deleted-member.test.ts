/** K3: what becomes of a Member's data when it is deleted: kept and found again by default, gone when that was said. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededFile } from '../../integration/random-file.ts';
import { until } from '../../until.ts';
import { aliceOfThisFile } from '../members-of-file.ts';

const GONE_WITHIN = '120s';
const COLLECTED_WITHIN_MS = 60_000;

const { cluster, alice } = aliceOfThisFile('deleted-member');

const KINDS = {
  Secret: 'v1',
  PersistentVolumeClaim: 'v1',
  Service: 'v1',
  StatefulSet: 'apps/v1',
  Certificate: 'cert-manager.io/v1',
  Issuer: 'cert-manager.io/v1',
} as const;

async function left(): Promise<string[]> {
  const names: string[] = [];
  for (const [kind, apiVersion] of Object.entries(KINDS)) {
    for (const { metadata } of await cluster.api.list(apiVersion, kind, cluster.namespace))
      if (metadata.name.startsWith('alice-') && metadata.deletionTimestamp === undefined)
        names.push(`${kind} ${metadata.name}`);
  }
  return names.sort();
}

async function remove(): Promise<void> {
  await cluster.kubectl(['delete', 'member', 'alice', `--timeout=${GONE_WITHIN}`]);
  await cluster.kubectl(['wait', '--for=delete', 'statefulset', '--all', `--timeout=${GONE_WITHIN}`]);
}

test('K3: Retain keeps volumes and authority, and a Member of that name finds its data', async () => {
  const content = seededFile(7, 1024 * 1024);
  {
    await using session = await alice.connect();
    await session.files.write('/kept', content);
  }
  await remove();
  const kept = await left();
  for (const name of [
    'Certificate alice-ca-g1',
    'Issuer alice-ca-g1',
    'PersistentVolumeClaim alice-coordinator',
    'PersistentVolumeClaim alice-disks-0',
    'PersistentVolumeClaim alice-disks-1',
    'Secret alice-ca-g1',
  ])
    assert.ok(kept.includes(name), `${name} is kept of ${kept.join(', ')}`);

  await alice.apply();
  await alice.whenReady();
  await using session = await alice.connect();
  assert.ok(content.equals(await session.files.readAll('/kept')));
});

test('K3: Delete leaves nothing of the member', async () => {
  await alice.apply({ deletionPolicy: 'Delete' });
  await alice.whenReady();
  await remove();
  await cluster.kubectl(['wait', '--for=delete', 'pvc', '--all', `--timeout=${GONE_WITHIN}`]);
  // What belongs to the Member is collected by Kubernetes, a moment after it has gone.
  let last: readonly string[] = [];
  await until(
    async () => {
      last = await left();
      return last.length === 0;
    },
    'nothing of the member is left',
    COLLECTED_WITHIN_MS,
    () => last.join(', '),
  );
});
