import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Member } from '@collective/client';
import { watchGrowth } from './growth-watch.ts';
import { seededBytes, seededFile, sha256Of } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 180_000 };

describe('files stored through a real member', () => {
  let member: RunningMember;
  let session: Member;

  before(async () => {
    member = await RunningMember.start();
    session = await member.connect();
  });
  after(() => member?.[Symbol.asyncDispose]());
  afterEach((t) => member?.printLogs(t));

  test(
    'D5, D6: a random file of 1 GiB comes back byte for byte, and no process grows by more than 256 MiB',
    ENDS,
    async (t) => {
      const sizeBytes = 1024 * MiB;
      const growth = watchGrowth(member);
      await session.files.write('/one-gib.raw', seededBytes(1, sizeBytes));
      const stored = await sha256Of(session.files.read('/one-gib.raw'));
      t.diagnostic(growth.check(256));
      assert.equal(stored, await sha256Of(seededBytes(1, sizeBytes)));
    },
  );

  for (const count of [12, 50]) {
    test(`D6: ${count} files of 5 MiB stored at once come back byte for byte`, ENDS, async () => {
      const folder = `/at-once-${count}`;
      await session.files.mkdir(folder);
      const files = Array.from({ length: count }, (_, i) => ({ path: `${folder}/${i}.raw`, seed: count * 1000 + i }));
      await Promise.all(files.map(({ path, seed }) => session.files.write(path, seededBytes(seed, 5 * MiB))));
      await Promise.all(
        files.map(async ({ path, seed }) =>
          assert.equal(
            await sha256Of(session.files.read(path)),
            await sha256Of(seededBytes(seed, 5 * MiB)),
            `SHA-256 of ${path}`,
          ),
        ),
      );
    });
  }

  test('D2: ten thousand files of 4 KiB are all there, each with its own bytes', ENDS, async () => {
    await session.files.mkdir('/small');
    const count = 10_000;
    const content = (i: number): Buffer => seededFile(100_000 + i, 4096);
    function* files() {
      for (let i = 0; i < count; i++) yield { path: `/small/${i}`, content: content(i) };
    }
    for await (const outcome of session.files.writeMany(files())) {
      if ('error' in outcome) throw outcome.error;
    }
    const found = new Map<string, number>();
    for await (const { name, attributes } of session.files.list('/small')) found.set(name, attributes?.sizeBytes ?? -1);
    assert.equal(found.size, count);
    let next = 0;
    const reader = async (): Promise<void> => {
      for (let i = next++; i < count; i = next++) {
        assert.equal(found.get(String(i)), 4096);
        assert.ok((await session.files.readAll(`/small/${i}`)).equals(content(i)), `content of /small/${i}`);
      }
    };
    await Promise.all(Array.from({ length: 16 }, reader));
  });
});
