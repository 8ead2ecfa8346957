/** Ten minutes in which any process may be killed at any moment, with people at work and the member looking after itself. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { Member } from '@collective/client';
import { until } from '../cli-world.ts';
import { MixedLoad } from '../mixed-load.ts';
import type { PartProcess } from '../part-process.ts';
import { RunningMember } from '../running-member.ts';
import { checkUploads, Uploads } from '../uploads.ts';

const MiB = 1024 * 1024;
const RUNS_MS = Number(process.env.RUNS_SECONDS ?? 600) * 1_000;
const QUIET_WITHIN_MS = 400_000;
const clock = new SystemClock();

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

test('D2, D3, D8, M5: ten minutes of random kills, stops and hangs of all processes lose nothing, do nothing twice and leak nothing', async (t) => {
  const seed = Number(process.env.SEED ?? clock.now().seconds % 100_000);
  t.diagnostic(`SEED=${seed}`);
  const random = new SeededRandom(seed);
  member = await RunningMember.start({ nodes: [{ name: 'node-1' }, { name: 'node-2' }, { name: 'node-3' }] });
  const session = await member.connect({ reconnectWithinMs: 60_000 });
  // Everything that the member does by itself is done all the time: a node that is away for a moment is given up.
  await session.admin.setMaintenance({ repairAfterSeconds: 2, garbageGraceSeconds: 0, scrubPeriodSeconds: 3_600 });
  await session.files.mkdir('/up');
  using uploads = new Uploads(session, '/up', 600 * MiB);
  const load = await MixedLoad.start(session, '/load', 6, seed);
  const stop = new AbortController();
  const made: string[] = [];
  const namespace = makeAndMove(stop.signal, made);
  namespace.catch(() => undefined);

  const blows = await strike(random);
  stop.abort();
  await Promise.all(member.parts.map((part) => part.ready()));
  await uploads.stop();
  await load.stop();
  await namespace;
  t.diagnostic(
    `${blows} blows, ${uploads.all.length} uploads, ${load.calls} calls of the mixed load (${load.unavailable} reads tried again), ${made.length} folders`,
  );

  const after = await member.connect();
  await checkUploads(after, uploads.all);
  for (const { path, outcome } of uploads.all)
    assert.equal(outcome, 'acknowledged', `${path} failed, although everything came back in time`);
  await load.check(after, '/load');
  for (const path of made) assert.equal((await after.files.stat(path)).type, 'directory', path);
  const { events, replication } = await member.untilStatus(
    ({ replication: { unstable, underReplicated, toMove } }) => unstable + underReplicated + toMove === 0,
    'all replicas are there, stable and none too many',
    QUIET_WITHIN_MS,
  );
  assert.deepEqual([replication.lost, replication.unreadable], [0, 0]);
  const bad = events.filter(({ kind }) => ['replay-differs', 'block-reverted', 'disk-lost'].includes(kind));
  assert.deepEqual(bad, []);

  const paths = [...uploads.all.map(({ path }) => path), ...load.files.keys()];
  t.diagnostic(`${await nothingLeaks(after, paths)} orphans of calls that were cut off are kept for their grace time`);
  await after.files.remove('/load', { recursive: true, permanent: true });
  await after.files.remove('/up', { recursive: true, permanent: true });
  await nothingLeaks(after, []);

  /** M5: a folder that was made by the first try is no EEXIST for the second. */
  async function makeAndMove(signal: AbortSignal, names: string[]): Promise<void> {
    for (let i = 0; !signal.aborted; i++) {
      try {
        await session.files.mkdir(`/made-${i}`);
        await session.files.rename(`/made-${i}`, `/moved-${i}`);
        names.push(`/moved-${i}`);
      } catch (thrown) {
        assert.ok(thrown instanceof CollectiveError);
        assert.fail(`folder ${i}: ${thrown.code}: ${thrown.message}`);
      }
      // Thousands of folders are enough.
      await sleep(clock, 50);
    }
  }
});

/** Answers how many blows there were. */
async function strike(random: SeededRandom): Promise<number> {
  const endsAtMs = clock.bootMs() + RUNS_MS;
  let blows = 0;
  for (; clock.bootMs() < endsAtMs; blows++) {
    await sleep(clock, 200 + randomBelow(random, 2_500));
    const part = member.parts[randomBelow(random, member.parts.length)] as PartProcess;
    const what = (['kill', 'kill', 'kill', 'end', 'freeze'] as const)[randomBelow(random, 5)] ?? 'kill';
    if (what === 'freeze') {
      part.freeze();
      await sleep(clock, randomBelow(random, 4_000));
      part.thaw();
    } else {
      await (what === 'kill' ? part.kill() : part.end());
      await sleep(clock, randomBelow(random, 4_000));
      part.launch();
    }
  }
  return blows;
}

/**
 * D8: with the trash emptied and garbage collected, the nodes hold what files name, and besides only chunks that are known as orphans
 * within their grace time. Every replica is read and verified. Answers how many orphans there are.
 */
async function nothingLeaks(session: Member, paths: readonly string[]): Promise<number> {
  await session.admin.trash.empty();
  const begunSeconds = clock.now().seconds;
  await session.admin.collectGarbage({ graceSeconds: 0, wait: true }, { signal: AbortSignal.timeout(QUIET_WITHIN_MS) });
  await until(
    async () => {
      const { inventories, chunks, removedFiles } = await session.admin.garbage();
      const compared = inventories.filter(({ ended }) => (ended?.seconds ?? 0) >= begunSeconds);
      return compared.length === 3 && chunks === 0 && removedFiles === 0;
    },
    'all nodes are compared, and no garbage is left',
    QUIET_WITHIN_MS,
  );
  let seen: unknown;
  let orphans = 0;
  await until(
    async () => {
      let named = 0;
      for (const path of paths) {
        const report = await session.files.verify(path);
        assert.deepEqual([report.bad, report.lost], [[], 0], path);
        named += report.replicas;
      }
      orphans = 0;
      for await (const { forgotten } of session.admin.orphans()) if (forgotten === undefined) orphans += 1;
      const { nodes } = await member.status();
      const held = nodes.reduce((sum, { chunks }) => sum + chunks, 0);
      seen = { named, orphans, held };
      return held === named + orphans;
    },
    'the nodes hold what is named and known orphans, nothing else',
    QUIET_WITHIN_MS,
    () => JSON.stringify(seen),
  );
  return orphans;
}
