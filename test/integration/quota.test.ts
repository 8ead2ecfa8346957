/** M9, M10: a hundred writers at once fill realms to their quotas. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { SystemClock } from '@collective/base/system-clock';
import type { Member, Realm } from '@collective/client';
import { until } from './cli-world.ts';
import { seededFile } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const SESSIONS = 10;
const WRITERS_EACH = 10;
const clock = new SystemClock();
const ENDS = { timeout: 180_000 };

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

test(
  'M10: a hundred writers fill a realm to its quota of bytes and never beyond, and what is used is what was acknowledged',
  ENDS,
  async () => {
    member = await RunningMember.start();
    const quotaBytes = 48 * MiB;
    const admin = await member.connect();
    await admin.admin.createRealm({ path: '/full', quotaBytes, replicas: 1 });
    const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => member.connect()));
    const stop = new AbortController();
    const watched = neverOver(admin, '/full', ({ usedBytes }) => usedBytes <= quotaBytes, stop.signal);
    let acknowledged = 0;
    await writers(sessions, async (files, writer, i) => {
      const size = 1 + ((writer * 7_919 + i * 104_729) % (600 * KiB));
      await files.write(`/full/${writer}-${i}`, [seededFile(writer * 1_000 + i, size)]);
      acknowledged += size;
    });
    // Room that was granted and lies idle is given back with its session; then the realm is filled to the brim.
    await Promise.all(sessions.map((session) => session.close()));
    assert.ok(acknowledged > quotaBytes / 2, `${acknowledged} bytes were stored`);
    await writers([admin], async (files, writer, i) => {
      await files.write(`/full/last-${writer}-${i}`, [seededFile(i, 64 * KiB)]);
      acknowledged += 64 * KiB;
    });
    stop.abort();
    assert.ok((await watched) > 5, 'the use was looked at while it grew');
    assert.equal((await realm(admin, '/full')).usedBytes, acknowledged);
    assert.ok(quotaBytes - acknowledged < 64 * KiB * WRITERS_EACH, `${quotaBytes - acknowledged} bytes are left`);
    assert.equal(await storedBytes(admin, '/full'), acknowledged);
  },
);

test('M9: a hundred makers of files fill a realm to its quota of inodes exactly', ENDS, async () => {
  member = await RunningMember.start();
  const quotaInodes = 1_000;
  const admin = await member.connect();
  await admin.admin.createRealm({ path: '/many', quotaInodes });
  const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => member.connect()));
  const stop = new AbortController();
  const watched = neverOver(admin, '/many', ({ usedInodes }) => usedInodes <= quotaInodes, stop.signal);
  let made = 1; // its root
  await writers(sessions, async (files, writer, i) => {
    await files.mkdir(`/many/${writer}-${i}`);
    made += 1;
  });
  stop.abort();
  await watched;
  assert.equal(made, quotaInodes);
  assert.equal((await realm(admin, '/many')).usedInodes, quotaInodes);
  // One goes, one may come.
  await admin.files.remove('/many/0-0', { recursive: true, permanent: true });
  await admin.files.mkdir('/many/again');
  await assert.rejects(admin.files.mkdir('/many/more'), isOver);
});

/** Every writer goes on until the quota stops it; any other error fails. */
async function writers(
  sessions: readonly Member[],
  write: (files: Member['files'], writer: number, i: number) => Promise<void>,
): Promise<void> {
  const all = sessions.flatMap((session) => Array.from({ length: WRITERS_EACH }, () => session));
  await Promise.all(
    all.map(async ({ files }, writer) => {
      for (let i = 0; ; i++) {
        try {
          await write(files, writer, i);
        } catch (thrown) {
          if (isOver(thrown)) return;
          throw thrown;
        }
      }
    }),
  );
}

function isOver(thrown: unknown): boolean {
  return thrown instanceof CollectiveError && thrown.code === 'quota_exceeded';
}

/** Looks until it is aborted; answers how often. */
async function neverOver(
  session: Member,
  path: string,
  isWithin: (realm: Realm) => boolean,
  signal: AbortSignal,
): Promise<number> {
  let looks = 0;
  await until(
    async () => {
      const now = await realm(session, path);
      assert.ok(isWithin(now), `over the quota: ${JSON.stringify(now)}`);
      looks += 1;
      await sleep(clock, 20);
      return signal.aborted;
    },
    'the writers have ended',
    ENDS.timeout,
  );
  return looks;
}

async function realm(session: Member, path: string): Promise<Realm> {
  const found = (await session.admin.realms()).find((each) => each.path === path);
  assert.ok(found !== undefined, `there is a realm ${path}`);
  return found;
}

async function storedBytes(session: Member, path: string): Promise<number> {
  let sum = 0;
  for await (const { type, attributes } of session.files.walk(path)) if (type === 'file') sum += attributes.sizeBytes;
  return sum;
}
