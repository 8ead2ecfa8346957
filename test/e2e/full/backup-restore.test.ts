/**
 * M2a, D9, K3 in a cluster: the metadata are saved by a schedule, the coordinator's volume is lost, and one command brings them back.
 * All that a person does here is done with kubectl and its plugin.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCondition, type KubeObject } from '../../apiserver/api-client.ts';
import { seededBytes, sha256Of } from '../../integration/random-file.ts';
import { until } from '../../until.ts';
import { aliceOfThisFile } from '../members-of-file.ts';

const KEEP = 2;
const FILE_BYTES = 24 * 1024 * 1024 + 5;
const BACKUPS_WITHIN_MS = 240_000;
const RESTORED_WITHIN = '4m';
const LEVEL_WITHIN_MS = 120_000;

const backup = { schedule: '* * * * *', keep: KEEP, storage: { size: '1Gi' } };
const { cluster, alice } = aliceOfThisFile('backup-restore', { spec: { backup } });

async function backups(): Promise<string[]> {
  const listed = await cluster.plugin(['backups', 'alice', '--output', 'name', '--quiet']);
  return listed.split('\n').filter(Boolean);
}

test('the schedule makes a backup each minute, and only the newest are kept', async () => {
  const seen = new Set<string>();
  let kept: string[] = [];
  await until(
    async () => {
      kept = await backups();
      for (const name of kept) seen.add(name);
      return seen.size > KEEP;
    },
    'more backups were made than are kept',
    BACKUPS_WITHIN_MS,
    () => [...seen].join(),
  );
  assert.equal(kept.length, KEEP);
  assert.ok(
    kept.every((name) => /^alice-[0-9]{8}T[0-9]{6}Z\.backup$/.test(name)),
    kept.join(),
  );
});

test('K3, M2a: with the volume of the coordinator lost one command restores the newest backup, and every byte of its moment is there', async () => {
  let generation = 0;
  let last = '';
  {
    await using session = await alice.connect();
    await session.files.write('/before', seededBytes(1, FILE_BYTES));
    // The schedule rests, so that what is written next is in no backup.
    await alice.apply({ backup: { ...backup, suspend: true } });
    await cluster.kubectl(['create', 'job', '--from=cronjob/alice-backup', 'alice-backup-by-hand']);
    await cluster.kubectl([
      'wait',
      '--for=condition=Complete',
      'job/alice-backup-by-hand',
      `--timeout=${LEVEL_WITHIN_MS}ms`,
    ]);
    await until(
      async () => {
        const [newest = ''] = await backups();
        const job = await cluster.kubectl(['logs', 'job/alice-backup-by-hand']);
        last = newest;
        return newest !== '' && job.includes(newest);
      },
      'the backup by hand is told',
      LEVEL_WITHIN_MS,
      () => last,
    );
    await session.files.write('/after', seededBytes(2, FILE_BYTES));
    await session.files.remove('/before', { permanent: true });
    ({ generation } = (await session.admin.status()).epoch);
  }
  await assert.rejects(
    cluster.plugin(['restore', 'alice']),
    /its coordinator is Ready and has its volume, which is never overwritten/,
  );

  await cluster.kubectl(['delete', 'pvc', 'alice-coordinator', '--wait=false']);
  await cluster.kubectl(['delete', 'pod', 'alice-coordinator-0']);
  const lost = await alice.when(
    ({ status }) => (status as { coordinator: { state: string } }).coordinator.state === 'VolumeLost',
    'misses the volume',
  );
  assert.ok(hasCondition(lost, 'Stalled'));

  const startedMs = performance.now();
  await cluster.plugin(['restore', 'alice', '--wait', '--timeout', RESTORED_WITHIN]);
  const back = await alice.whenReady();
  console.log(`Restored and ready after ${Math.round((performance.now() - startedMs) / 1000)} s`);
  assert.equal(restoredFrom(back), last);
  assert.deepEqual(Object.keys(back.metadata.annotations ?? {}), []);

  await using session = await alice.connect();
  assert.equal(await sha256Of(session.files.read('/before')), await sha256Of(seededBytes(1, FILE_BYTES)));
  assert.equal(await session.files.exists('/after'), false);
  const status = await session.admin.status();
  assert.ok(status.epoch.generation > generation, 'a new generation');
  assert.deepEqual(
    status.nodes.map(({ state }) => state),
    ['ready', 'ready'],
    'nodes follow it',
  );
  assert.equal(status.garbage.waits, true, 'nothing is removed until somebody has looked');
  let newer = 0;
  await until(
    async () => {
      newer = 0;
      for await (const _ of session.admin.orphans()) newer += 1;
      return newer > 0;
    },
    'chunks that are newer than the backup are kept and listed',
    LEVEL_WITHIN_MS,
  );
  await session.admin.setMaintenance({ garbageWaits: false });
  await session.files.write('/again', seededBytes(3, FILE_BYTES));
  assert.equal(await sha256Of(session.files.read('/again')), await sha256Of(seededBytes(3, FILE_BYTES)));
});

function restoredFrom({ status }: KubeObject): string | undefined {
  return (status as { coordinator: { restored?: { file?: string } } }).coordinator.restored?.file;
}
