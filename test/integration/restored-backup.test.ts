/**
 * The metadata is lost, and a backup from before many changes is all there is. RUNS_SECONDS draws the changes out: a few seconds make hundreds.
 * Nothing that is written is freed meanwhile, so who writes for an hour pauses between calls as people do, or fills the disk.
 */
import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { SystemClock } from '@collective/base/system-clock';
import { CliWorld, until } from './cli-world.ts';
import { MixedLoad } from './mixed-load.ts';
import { RunningMember } from './running-member.ts';

const RUNS_MS = Number(process.env.RUNS_SECONDS ?? 8) * 1_000;
const LONG_RUN_MS = 60_000;
const BEFORE_MS = Math.min(RUNS_MS, LONG_RUN_MS);
const HABITS = { pauseMs: RUNS_MS > LONG_RUN_MS ? 250 : 0 };
const QUIET_WITHIN_MS = 120_000;
const clock = new SystemClock();

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

test('M2a, D9: a backup from before many changes, made while people write, restores every byte of its moment; what is newer is kept and listed', {
  timeout: 2 * RUNS_MS + 600_000,
}, async (t) => {
  await using world = await CliWorld.create();
  member = await RunningMember.start();
  const session = await member.connect();
  const still = await MixedLoad.start(session, '/still', 3, 1);
  await sleep(clock, BEFORE_MS);
  await hasWritten(still);
  await still.stop();
  const busy = await MixedLoad.start(session, '/busy', 3, 2, HABITS);
  await sleep(clock, BEFORE_MS / 4);
  await hasWritten(busy);

  const pieces: Uint8Array[] = [];
  for await (const piece of session.admin.backup()) pieces.push(piece);
  const backup = join(world.work, 'alice.backup');
  await writeFile(backup, Buffer.concat(pieces));

  // An hour of changes: all that is in the backup is written anew, cut, moved or removed.
  const later = await MixedLoad.start(session, '/later', 2, 3, HABITS);
  await sleep(clock, RUNS_MS);
  await hasWritten(later);
  await Promise.all([busy.stop(), later.stop()]);
  await session.files.remove('/still', { recursive: true, permanent: true });
  await session.admin.trash.empty();
  // Nothing is due: its grace time is longer than the backup is old.
  const { chunks: garbage } = await session.admin.collectGarbage({ wait: true });
  assert.ok(garbage > 0, 'there is garbage within its grace time');
  await session.close();
  await member.coordinator.kill();
  const data = join(member.folder, 'coordinator');
  await rename(data, join(member.folder, 'broken'));
  assert.equal((await world.run(['backup', 'restore', backup, '--data', data])).exit, 0);
  // The authority was not in the backup.
  await rename(join(member.folder, 'broken', 'ca'), join(data, 'ca'));
  await member.coordinator.start();

  const restored = await member.connect();
  await member.untilStatus(({ nodes }) => nodes.every(({ state }) => state === 'ready'), 'the nodes follow', 20_000);
  await still.check(restored, '/still');
  let read = 0;
  for await (const { path, type, attributes } of restored.files.walk('/busy')) {
    if (type !== 'file') continue;
    assert.equal((await restored.files.readAll(path)).length, attributes.sizeBytes, path);
    read += 1;
  }
  assert.ok(read > 0, 'the files of the moment of the backup are read, whatever became of them');
  assert.equal(await restored.files.exists('/later'), false);

  // What is newer than the backup is kept, and it is known.
  const refused = restored.admin.collectGarbage({ graceSeconds: 0, wait: true });
  await assert.rejects(refused, (thrown) => thrown instanceof CollectiveError && thrown.code === 'not_permitted');
  let orphans = 0;
  await until(
    async () => {
      orphans = 0;
      for await (const _ of restored.admin.orphans()) orphans += 1;
      return orphans > 0;
    },
    'chunks that are newer than the backup are listed',
    QUIET_WITHIN_MS,
  );
  await restored.admin.setMaintenance({ garbageWaits: false });
  // A collection begins when the leases of sessions that do not come back are over, which a short run does not wait for.
  const collected = restored.admin.collectGarbage({ wait: RUNS_MS >= LONG_RUN_MS });
  assert.equal((await collected).waits, false);
  await still.check(restored, '/still');
  t.diagnostic(`${still.calls} calls before, ${busy.calls + later.calls} calls after it, ${orphans} newer chunks kept`);
});

/** However slow the machine is: something is there to be looked at. */
async function hasWritten(load: MixedLoad): Promise<void> {
  await until(
    () => load.files.size > 5,
    'people have written files',
    QUIET_WITHIN_MS,
    () => `${load.files.size} files`,
  );
}
