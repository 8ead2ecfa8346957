/** The scheduled backup of a member: its job is started by hand here, as `kubectl create job --from=cronjob/...` does. */
import assert from 'node:assert/strict';
import { createReadStream, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inspectBackup } from '@collective/coordinator/backup/inspect-backup';
import type { KubeObject } from './api-client.ts';
import { MemberWorld, NAMESPACE, pool } from './member-world.ts';

const JOB_WITHIN_MS = 90_000;
const OLDER = ['alice-20250101T000000Z.backup', 'alice-20250102T000000Z.backup'];

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
  await world.applyMember('alice', { nodePools: [pool(1)], backup: { schedule: '0 0 1 1 *', keep: 2 } });
  await world.ready('alice');
});
after(() => running.disposeAsync());

test('M2a: the job writes a whole backup into the volume of the backups, keeps the newest and is told in status', async () => {
  const claim = await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-backup'));
  const cronJob = await world.server.admin.find(world.object('batch/v1', 'CronJob', 'alice-backup'));
  assert.ok(claim !== undefined && cronJob !== undefined);
  const { jobTemplate } = cronJob.spec as {
    jobTemplate: { metadata: { labels: Record<string, string> }; spec: object };
  };
  const { labels } = jobTemplate.metadata;
  const job = world.object('batch/v1', 'Job', 'alice-backup-now');
  const metadata = { name: 'alice-backup-now', namespace: NAMESPACE, labels };
  await world.server.admin.apply({ ...job, metadata, spec: jobTemplate.spec } as KubeObject);
  const folder = world.kubelet.volumeFolder(claim.metadata.uid ?? '');
  await world.server.admin.when(job, ({ status }) => hasPod(status), 'has a pod', JOB_WITHIN_MS);
  await world.server.admin.when(job, ({ status }) => hasSucceeded(status), 'has succeeded', JOB_WITHIN_MS);
  const alice = await world.whenMember(
    'alice',
    ({ status }) => (status as { backup?: { lastSuccess?: string } }).backup?.lastSuccess !== undefined,
    'tells of the backup',
  );
  assert.equal((alice.status as { backup: { message?: string } }).backup.message, undefined);
  const [name, ...others] = backupsIn(folder);
  assert.deepEqual(others, []);
  const { facts } = await inspectBackup(createReadStream(join(folder, name ?? '')));
  assert.equal(`${facts.member}.${facts.collective}`, 'alice.photos.test');

  // Older ones go when the next is whole.
  for (const older of OLDER) writeFileSync(join(folder, older), '');
  const again = { ...job, metadata: { ...metadata, name: 'alice-backup-again' } };
  await world.server.admin.apply({ ...again, spec: jobTemplate.spec } as KubeObject);
  await world.server.admin.when(again, ({ status }) => hasSucceeded(status), 'has succeeded', JOB_WITHIN_MS);
  const kept = backupsIn(folder);
  assert.equal(kept.length, 2);
  assert.ok(kept.includes(name ?? '') && !kept.some((each) => OLDER.includes(each)), kept.join(', '));
});

test('a Member that asks for no backups has no job, and the backups that there are stay', async () => {
  await world.applyMember('alice', { nodePools: [pool(1)] });
  await world.whenMember('alice', ({ status }) => !('backup' in (status as object)), 'tells of no backup');
  assert.equal(await world.server.admin.find(world.object('batch/v1', 'CronJob', 'alice-backup')), undefined);
  assert.ok((await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-backup'))) !== undefined);
});

function backupsIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.backup'));
}

function hasPod(status: unknown): boolean {
  const { active = 0, succeeded = 0 } = (status ?? {}) as { active?: number; succeeded?: number };
  return active + succeeded > 0;
}

function hasSucceeded(status: unknown): boolean {
  return ((status ?? {}) as { succeeded?: number }).succeeded === 1;
}
