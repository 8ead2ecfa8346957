/** The scheduled backup of a member and the way back: its job is started by hand here, as `kubectl create job --from=cronjob/...` does. */
import assert from 'node:assert/strict';
import { createReadStream, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inspectBackup } from '@collective/coordinator/backup/inspect-backup';
import { seededBytes, sha256Of } from '../integration/random-file.ts';
import { until } from '../until.ts';
import { conditionOf, type KubeObject } from './api-client.ts';
import { isSettled, MemberWorld, NAMESPACE, pool } from './member-world.ts';

const RESTORE_FROM = 'collective.storage/restore-from';
const JOB_WITHIN_MS = 90_000;
const FILE_BYTES = 5 * 1024 * 1024 + 3;
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
  const folder = await backupFolder();
  await makeBackup('alice-backup-now');
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
  await makeBackup('alice-backup-again');
  const kept = backupsIn(folder);
  assert.equal(kept.length, 2);
  assert.ok(kept.includes(name ?? '') && !kept.some((each) => OLDER.includes(each)), kept.join(', '));
  await world.whenMember('alice', ({ status }) => keptIn(status).join() === kept.join(), 'tells which are kept');
});

test('K3, M2a: a lost volume is restored by an order: a backup that is damaged says so, the newest brings every byte of its moment', async () => {
  const folder = await backupFolder();
  let generation = 0;
  {
    await using session = await world.userSession('alice');
    await session.files.write('/before', seededBytes(1, FILE_BYTES));
    await makeBackup('alice-backup-before');
    await session.files.write('/after', seededBytes(2, FILE_BYTES));
    await session.files.remove('/before', { permanent: true });
    ({ generation } = (await session.admin.status()).epoch);
  }
  await order('latest');
  const refused = await world.whenMember(
    'alice',
    ({ metadata }) => orderOf(metadata) === undefined,
    'refuses the order',
  );
  assert.equal((refused.status as { coordinator: { restored?: object } }).coordinator.restored, undefined);

  const claim = world.object('v1', 'PersistentVolumeClaim', 'alice-coordinator');
  await world.server.admin.remove(claim);
  await world.server.admin.remove(world.object('v1', 'Pod', 'alice-coordinator-0'));
  const lost = await world.whenMember(
    'alice',
    (each) => conditionOf(each, 'Stalled').reason === 'CoordinatorVolumeLost',
    'misses the volume',
  );
  assert.match(
    conditionOf(lost, 'Stalled').message,
    /restore the newest backup: kubectl annotate .*restore-from=latest/i,
  );

  writeFileSync(join(folder, OLDER[0] ?? ''), 'no backup');
  await order(OLDER[0] ?? '');
  const failed = await world.whenMember(
    'alice',
    (each) => conditionOf(each, 'Stalled').reason === 'RestoreFailed',
    'says that it failed',
  );
  assert.match(conditionOf(failed, 'Stalled').message, /backup_damaged|is no backup|Read a backup/);
  assert.equal(await world.server.admin.find(world.object('v1', 'Pod', 'alice-coordinator-0')), undefined);

  await order('latest');
  const back = await world.whenMember(
    'alice',
    (each) => isSettled(each) && orderOf(each.metadata) === undefined,
    'is back',
  );
  const { coordinator } = back.status as {
    coordinator: { restored: { order: string; file: string; volumeUid: string } };
  };
  const newest = backupsIn(folder).at(-1);
  assert.deepEqual([coordinator.restored.order, coordinator.restored.file], ['latest', newest]);
  // The claim is marked by the look after the one that tells of it in the status.
  const made = await world.server.admin.when(
    claim,
    ({ metadata }) => metadata.annotations?.['collective.storage/began'] === 'true',
    'is marked as the one that has served',
    JOB_WITHIN_MS,
  );
  assert.equal(made.metadata.uid, coordinator.restored.volumeUid);
  const marks = Object.keys(made.metadata.annotations ?? {}).sort();
  assert.deepEqual(marks, ['collective.storage/applied', 'collective.storage/began'], 'no order is left');

  await using session = await world.userSession('alice');
  assert.equal(await sha256Of(session.files.read('/before')), await sha256Of(seededBytes(1, FILE_BYTES)));
  assert.equal(await session.files.exists('/after'), false);
  const status = await session.admin.status();
  assert.ok(status.epoch.generation > generation);
  assert.deepEqual([status.garbage.waits, status.nodes.map(({ state }) => state)], [true, ['ready']]);
  let orphans = 0;
  await until(
    async () => {
      orphans = 0;
      for await (const _ of session.admin.orphans()) orphans += 1;
      return orphans > 0;
    },
    'chunks that are newer than the backup are listed',
    JOB_WITHIN_MS,
  );

  const before = backupsIn(folder);
  await makeBackup('alice-backup-unsure');
  assert.equal(backupsIn(folder).length, before.length + 1, 'none goes while nobody has looked');
  await session.admin.setMaintenance({ garbageWaits: false });
  await makeBackup('alice-backup-sure');
  assert.equal(backupsIn(folder).length, 2);
});

test('a Member that asks for no backups has no job, and the backups that there are stay', async () => {
  await world.applyMember('alice', { nodePools: [pool(1)] });
  await world.whenMember('alice', ({ status }) => !('backup' in (status as object)), 'tells of no backup');
  assert.equal(await world.server.admin.find(world.object('batch/v1', 'CronJob', 'alice-backup')), undefined);
  assert.ok((await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-backup'))) !== undefined);
});

async function backupFolder(): Promise<string> {
  const claim = await world.server.admin.find(world.object('v1', 'PersistentVolumeClaim', 'alice-backup'));
  assert.ok(claim !== undefined);
  return world.kubelet.volumeFolder(claim.metadata.uid ?? '');
}

/** As `kubectl create job --from=cronjob/alice-backup` does. */
async function makeBackup(name: string): Promise<void> {
  const cronJob = await world.server.admin.find(world.object('batch/v1', 'CronJob', 'alice-backup'));
  assert.ok(cronJob !== undefined);
  const { jobTemplate } = cronJob.spec as {
    jobTemplate: { metadata: { labels: Record<string, string> }; spec: object };
  };
  const { labels } = jobTemplate.metadata;
  const job = world.object('batch/v1', 'Job', name);
  const metadata = { name, namespace: NAMESPACE, labels };
  await world.server.admin.apply({ ...job, metadata, spec: jobTemplate.spec } as KubeObject);
  await world.server.admin.when(job, ({ status }) => hasPod(status), 'has a pod', JOB_WITHIN_MS);
  await world.server.admin.when(job, ({ status }) => hasSucceeded(status), 'has succeeded', JOB_WITHIN_MS);
}

async function order(from: string): Promise<void> {
  await world.server.admin.patch(world.member('alice'), { metadata: { annotations: { [RESTORE_FROM]: from } } });
}

function orderOf({ annotations }: KubeObject['metadata']): string | undefined {
  return annotations?.[RESTORE_FROM];
}

/** Oldest first, as a folder lists them. */
function keptIn(status: unknown): string[] {
  const { backup } = status as { backup?: { kept?: readonly string[] } };
  return [...(backup?.kept ?? [])].reverse();
}

function backupsIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.backup'))
    .sort();
}

function hasPod(status: unknown): boolean {
  const { active = 0, succeeded = 0 } = (status ?? {}) as { active?: number; succeeded?: number };
  return active + succeeded > 0;
}

function hasSucceeded(status: unknown): boolean {
  return ((status ?? {}) as { succeeded?: number }).succeeded === 1;
}
