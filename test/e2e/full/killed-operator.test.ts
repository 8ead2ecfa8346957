/** K1 in a cluster: an operator that dies in the middle of its work leaves nothing half done for long, and nobody who stores files notices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { OPERATOR_NAMESPACE } from '../installed-operator.ts';
import { aliceOfThisFile } from '../members-of-file.ts';
import { SteadyWriter } from '../steady-writer.ts';

const OPERATOR = 'app.kubernetes.io/component=operator';
const KILLS_EACH = 4;
/** Some kills come before the new leader has its Lease, some in the middle of its first look. */
const KILL_EVERY_MS = 8_000;

const { cluster, alice } = aliceOfThisFile('killed-operator');
const clock = new SystemClock();

const pool = (replicas: number) => ({ nodePools: [{ name: 'disks', replicas, capacity: '2Gi' }] });

function nodesOf({ status }: Readonly<Record<string, unknown>>): string {
  const { nodes } = status as { nodes: { name: string }[] };
  return nodes.map(({ name }) => name).join();
}

async function killOperator(): Promise<void> {
  await cluster.kubectl(['-n', OPERATOR_NAMESPACE, 'delete', 'pod', '-l', OPERATOR, '--grace-period=0', '--force']);
}

async function killAgainAndAgain(): Promise<void> {
  for (let kill = 0; kill < KILLS_EACH; kill++) {
    await killOperator();
    await sleep(clock, KILL_EVERY_MS);
  }
}

test('K1: a pool grows and shrinks to its end although the operator is killed again and again; a writer sees no error', async () => {
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await writer.progress();
  await alice.apply(pool(3));
  await writer.during(killAgainAndAgain());
  assert.equal(nodesOf(await writer.during(alice.whenReady())), 'disks-0,disks-1,disks-2');

  await cluster.kubectl(['annotate', 'member', alice.name, 'collective.storage/drain-nodes=disks-0', '--overwrite']);
  await alice.apply(pool(2));
  await writer.during(killAgainAndAgain());
  await writer.during(
    alice.when((member) => nodesOf(member) === 'disks-1,disks-2', 'has lost the node that was named'),
  );
  await writer.during(alice.whenReady());
  const claims = await cluster.api.list('v1', 'PersistentVolumeClaim', cluster.namespace);
  assert.deepEqual(claims.map(({ metadata }) => metadata.name).sort(), [
    'alice-coordinator',
    'alice-disks-1',
    'alice-disks-2',
  ]);
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
  const { replication } = await session.admin.status();
  assert.deepEqual([replication.underReplicated, replication.unreadable], [0, 0]);
});
