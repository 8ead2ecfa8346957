import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { PartProcess } from '../part-process.ts';
import { RunningMember } from '../running-member.ts';
import { checkUploads, Uploads } from '../uploads.ts';

const MiB = 1024 * 1024;
const RUNS_MS = 150_000;
const clock = new SystemClock();

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

test('D2, D3, M5: two and a half minutes of random kills, stops and hangs of all processes lose nothing and do nothing twice', async (t) => {
  const seed = Number(process.env.SEED ?? clock.now().seconds % 100_000);
  t.diagnostic(`SEED=${seed}`);
  const random = new SeededRandom(seed);
  member = await RunningMember.start({ nodes: [{ name: 'node-1' }, { name: 'node-2' }, { name: 'node-3' }] });
  const session = await member.connect({ reconnectWithinMs: 60_000 });
  await session.files.mkdir('/up');
  const uploads = new Uploads(session, '/up', 600 * MiB);
  const stop = new AbortController();
  const made: string[] = [];
  const namespace = makeAndMove(stop.signal, made);
  namespace.catch(() => undefined);

  const done: string[] = [];
  const endsAtMs = clock.bootMs() + RUNS_MS;
  while (clock.bootMs() < endsAtMs) {
    await sleep(clock, 200 + randomBelow(random, 2_500));
    const part = member.parts[randomBelow(random, member.parts.length)] as PartProcess;
    const what = (['kill', 'kill', 'kill', 'end', 'freeze'] as const)[randomBelow(random, 5)] ?? 'kill';
    done.push(`${what} ${part.name}`);
    if (what === 'freeze') {
      part.freeze();
      await sleep(clock, randomBelow(random, 4_000));
      part.thaw();
    } else {
      await (what === 'kill' ? part.kill() : part.end());
      await sleep(clock, randomBelow(random, 1_500));
      part.launch();
    }
  }
  stop.abort();
  await Promise.all(member.parts.map((part) => part.ready()));
  await uploads.stop();
  await namespace;
  t.diagnostic(`${done.length} blows, ${uploads.all.length} uploads, ${made.length} folders`);

  const after = await member.connect();
  await checkUploads(after, uploads.all);
  for (const { path, outcome } of uploads.all)
    assert.equal(outcome, 'acknowledged', `${path} failed, although everything came back in time`);
  for (const path of made) assert.equal((await after.files.stat(path)).type, 'directory', path);
  const { events, replication } = await member.untilStatus(
    ({ replication }) => replication.unstable === 0,
    'all replicas are stable',
    20_000,
  );
  assert.equal(replication.lost, 0);
  const bad = events.filter(({ kind }) => ['replay-differs', 'block-reverted', 'disk-lost'].includes(kind));
  assert.deepEqual(bad, []);
  for (const { path } of uploads.all.slice(0, 200)) assert.deepEqual((await after.files.verify(path)).bad, [], path);

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
    }
  }
});
