/** M9: a directory with much in it becomes a realm and is dissolved again while people work in it and the coordinator is killed. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import type { Job, Member, Realm } from '@collective/client';
import { until } from './cli-world.ts';
import { MixedLoad } from './mixed-load.ts';
import { seededFile } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const FOLDERS = 40;
const LINKS_EACH = 100;
const FILES_EACH = 40;
const ENDS = { timeout: 300_000 };
const MOVED_WITHIN_MS = 120_000;
/** So many dissolved realms the coordinator still leads to what they are a part of. */
const DISSOLVED_KNOWN = 100;
/** Some are empty. */
const FILE_BYTES_MAX = 3_000;
const clock = new SystemClock();

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

test(
  'M9: a directory in use becomes a realm and is dissolved, over kills of the coordinator, and every figure and byte is right',
  ENDS,
  async (t) => {
    member = await RunningMember.start();
    const session = await member.connect({ reconnectWithinMs: 60_000 });
    await session.files.mkdir('/studio');
    for (let folder = 0; folder < FOLDERS; folder++) {
      await session.files.mkdir(`/studio/${folder}`);
      await Promise.all([
        ...Array.from({ length: LINKS_EACH }, (_, i) => session.files.symlink(`../${i}`, `/studio/${folder}/l${i}`)),
        ...Array.from({ length: FILES_EACH }, (_, i) =>
          session.files.write(fileName(folder, i), [fileBytes(folder, i)]),
        ),
      ]);
    }
    const load = await MixedLoad.start(session, '/studio/people', 4, 7);

    const made = await session.admin.createRealm({ path: '/studio', quotaBytes: 1e9 });
    assert.ok(made.job > 0);
    const job = await endsOverKill(session, made.job);
    assert.ok(job.moved >= FOLDERS * (LINKS_EACH + FILES_EACH + 1), `${job.moved} moved`);
    // People go on for a while in the realm that it is now.
    await sleep(clock, 500);
    await load.stop();
    await load.check(await member.connect(), '/studio/people');
    await quietFilesAreThere(await member.connect());
    await figuresAreRight(session, '/studio');
    const root = await realm(session, '/');
    assert.ok(root.usedInodes < 10, `nothing of it is left in the root realm, which uses ${root.usedInodes} inodes`);

    const again = await MixedLoad.start(session, '/studio/others', 4, 8);
    const dissolving = await session.admin.dissolveRealm('/studio');
    await endsOverKill(session, dissolving.id);
    await again.stop();
    await again.check(await member.connect(), '/studio/others');
    await load.check(await member.connect(), '/studio/people');
    await quietFilesAreThere(await member.connect());
    assert.deepEqual(
      (await session.admin.realms()).map(({ path }) => path),
      ['/'],
    );
    await figuresAreRight(session, '/');
    t.diagnostic(`${load.calls + again.calls} calls meanwhile, ${job.moved} inodes moved in ${job.passes} passes`);
  },
);

test(
  'M9: a file that is open since before its realm and a hundred others were dissolved is written and read on',
  ENDS,
  async () => {
    member = await RunningMember.start();
    const session = await member.connect();
    const { admin, files } = session;
    const dissolve = async (path: string): Promise<void> => {
      const { id } = await admin.dissolveRealm(path);
      const isDone = async (): Promise<boolean> =>
        (await admin.jobs()).some((job) => job.id === id && job.state === 'done');
      await until(isDone, `${path} is dissolved`, MOVED_WITHIN_MS);
    };
    await admin.createRealm({ path: '/first' });
    await using open = await files.open('/first/book', { access: 'write', create: true });
    await open.write(0, seededFile(1, 5_000));
    await dissolve('/first');
    await admin.createRealm({ path: '/other' });
    const caching = await member.connect({ cache: true });
    await using elsewhere = await caching.files.open('/other/book', { access: 'write', create: true });
    await elsewhere.attributes();
    await dissolve('/other');
    for (let i = 0; i < DISSOLVED_KNOWN; i++) {
      await admin.createRealm({ path: `/${i}` });
      await dissolve(`/${i}`);
    }
    await open.write(5_000, seededFile(2, 5_000));
    await open.append(seededFile(3, 100));
    assert.equal(await elsewhere.append(seededFile(4, 100)), 0);
    const whole = Buffer.concat([seededFile(1, 5_000), seededFile(2, 5_000), seededFile(3, 100)]);
    assert.ok((await open.read(0, 20_000)).equals(whole));
    const fresh = await member.connect();
    assert.ok((await fresh.files.readAll('/first/book')).equals(whole));
    assert.ok((await fresh.files.readAll('/other/book')).equals(seededFile(4, 100)));
  },
);

/** Who waits for the job waits over the death of the coordinator. */
async function endsOverKill(session: Member, id: number): Promise<Job> {
  const seen: Job[] = [];
  const waiting = session.admin.waitForJob(id, {
    signal: AbortSignal.timeout(MOVED_WITHIN_MS),
    onProgress: (job) => seen.push(job),
  });
  const ended = Promise.allSettled([waiting]);
  await until(() => seen.length > 0, 'it is seen at work', MOVED_WITHIN_MS);
  assert.equal(seen.at(-1)?.state, 'working', 'it is at work when the coordinator dies');
  await member.coordinator.kill();
  await member.coordinator.start();
  await ended;
  return await waiting;
}

function fileName(folder: number, i: number): string {
  return `/studio/${folder}/f${i}`;
}

function fileBytes(folder: number, i: number): Buffer {
  const seed = folder * FILES_EACH + i;
  return seededFile(seed, (seed * 37) % FILE_BYTES_MAX);
}

/** Those that nobody worked on. */
async function quietFilesAreThere({ files }: Member): Promise<void> {
  for (let folder = 0; folder < FOLDERS; folder++)
    await Promise.all(
      Array.from({ length: FILES_EACH }, async (_, i) => {
        const name = fileName(folder, i);
        assert.ok((await files.readAll(name)).equals(fileBytes(folder, i)), `${name} reads as it was written`);
      }),
    );
}

/** What the realm says that it uses is what is found when all of it is walked. */
async function figuresAreRight(session: Member, path: string): Promise<void> {
  let inodes = 0;
  let bytes = 0;
  for await (const { type, attributes } of session.files.walk(path)) {
    inodes += 1;
    if (type === 'file') bytes += attributes.sizeBytes;
  }
  const { usedBytes, usedInodes, trashBytes, trashInodes } = await realm(session, path);
  assert.deepEqual([usedInodes - trashInodes, usedBytes - trashBytes], [inodes, bytes]);
  await session.admin.trash.empty();
  const after = await realm(session, path);
  assert.deepEqual([after.usedInodes, after.usedBytes, after.trashInodes, after.trashBytes], [inodes, bytes, 0, 0]);
}

async function realm(session: Member, path: string): Promise<Realm> {
  const found = (await session.admin.realms()).find((each) => each.path === path);
  assert.ok(found !== undefined, `there is a realm ${path}`);
  return found;
}
