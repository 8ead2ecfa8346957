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
/** A session that did not give its grant back in time is not asked again for so long (`space-recalls.ts`). */
const ASKED_AGAIN_MS = 250;
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
    // The sessions stay: what they were granted and do not use is no hindrance to fill the realm to the brim.
    assert.ok(acknowledged > quotaBytes / 2, `${acknowledged} bytes were stored`);
    // A session that is slow to give its grant back is asked again a moment later: full is what is so twice in a row.
    for (let round = 0, refusals = 0; refusals < 2; round++) {
      const before = acknowledged;
      await writers([admin], async (files, writer, i) => {
        await files.write(`/full/last-${round}-${writer}-${i}`, [seededFile(i, 64 * KiB)]);
        acknowledged += 64 * KiB;
      });
      refusals = acknowledged === before ? refusals + 1 : 0;
      await sleep(clock, 2 * ASKED_AGAIN_MS);
    }
    stop.abort();
    assert.ok((await watched) > 5, 'the use was looked at while it grew');
    assert.equal((await realm(admin, '/full')).usedBytes, acknowledged);
    assert.ok(quotaBytes - acknowledged < 64 * KiB * WRITERS_EACH, `${quotaBytes - acknowledged} bytes are left`);
    assert.equal(await storedBytes(admin, '/full'), acknowledged);
  },
);

test('M10: what an idle client was granted of a small quota is there for another, to the last byte', ENDS, async () => {
  member = await RunningMember.start();
  const admin = await member.connect();
  await admin.admin.createRealm({ path: '/small', quotaBytes: 2 * MiB, replicas: 1 });
  const idle = await member.connect();
  await idle.files.write('/small/idle', [seededFile(1, 64 * KiB)]);
  // The first grant of a client is more than what is left.
  const other = await member.connect();
  await fits(other, '/small/other', seededFile(2, 2 * MiB - 64 * KiB));
  await assert.rejects(other.files.write('/small/more', [seededFile(3, 1)]), isOver);
  await assert.rejects(idle.files.write('/small/more', [seededFile(3, 1)]), isOver);
  await other.files.remove('/small/other', { permanent: true });
  await fits(idle, '/small/back', seededFile(4, 2 * MiB - 64 * KiB));
  assert.equal((await realm(admin, '/small')).usedBytes, 2 * MiB);
});

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

/** Whoever holds a grant that is needed may be slow to give it back: then the write is refused, and tried again. */
async function fits({ files }: Member, path: string, content: Buffer): Promise<void> {
  await until(
    async () => {
      try {
        await files.write(path, [content]);
        return true;
      } catch (thrown) {
        if (!isOver(thrown)) throw thrown;
        await sleep(clock, 2 * ASKED_AGAIN_MS);
        return false;
      }
    },
    `${path} fits in`,
    60_000,
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
