import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { CollectiveError, ERROR_CODES, type ErrorCode } from '@collective/base/errors';
import type { Member } from '@collective/client';
import { until } from './cli-world.ts';
import { seededFile, sha256Of } from './random-file.ts';
import { type NodeSpec, RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 180_000 };
const FILE_BYTES = 5 * MiB;
const small = (name: string): NodeSpec => ({ name, capacity: '192MiB', flags: ['--reserve', '64MiB'] });

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

describe('room that runs out', () => {
  test(
    'M10: nodes that are full answer like ENOSPC at their reserve; reads, deletes and metadata go on',
    ENDS,
    async (t) => {
      member = await RunningMember.start({ nodes: [small('node-1'), small('node-2')] });
      const session = await member.connect();
      await session.files.mkdir('/full');
      const written = await fill(session, '/full', 0);
      assert.ok(written.length * 5 >= 100, `${written.length} files of 5 MiB were taken`);
      for (const { name } of member.nodes) {
        const usedBytes = await bytesIn(join(member.folder, name, 'store'));
        t.diagnostic(`${name} uses ${usedBytes} bytes for ${written.length} files`);
        assert.ok(usedBytes <= 128 * MiB, `${name} keeps its reserve of 64 MiB: ${usedBytes} bytes are used`);
      }
      await member.untilStatus(
        ({ nodes }) => nodes.every(({ freeBytes }) => freeBytes < 16 * MiB),
        'status shows that there is hardly room',
        10_000,
      );
      const totals = await session.files.statFileSystem('/');
      assert.ok(totals.freeBytes < 16 * MiB, `df shows ${totals.freeBytes} free`);

      await readBack(session, written);
      await session.files.mkdir('/made-when-full');
      await session.files.rename(written[0] ?? '', '/made-when-full/moved');
      for (const path of written.slice(1)) await session.files.remove(path);
      await session.files.remove('/full', { recursive: true });
      assert.equal(await session.files.exists('/full'), false);
      assert.ok((await session.files.readAll('/made-when-full/moved')).length === 5 * MiB);

      await Promise.all(member.nodes.map((node) => node.end()));
      await Promise.all(member.nodes.map((node) => node.start()));
      const again = await member.connect();
      assert.equal(
        (await again.files.readAll('/made-when-full/moved')).length,
        5 * MiB,
        'a full node starts and serves',
      );
    },
  );

  test(
    'M10, D4: full disks from which all is removed for good take as much again, also over a restart',
    ENDS,
    async (t) => {
      member = await RunningMember.start({ nodes: [small('node-1'), small('node-2')] });
      let session = await member.connect();
      await session.files.mkdir('/full');
      const first = await fill(session, '/full', 0);
      for (const round of [1, 2]) {
        for (const path of first) await session.files.remove(path, { permanent: true });
        await collectAll(session);
        if (round === 2) {
          await Promise.all(member.nodes.map((node) => node.end()));
          await Promise.all(member.nodes.map((node) => node.start()));
          session = await member.connect();
          await member.untilStatus(
            ({ nodes }) => nodes.every(({ state }) => state === 'ready'),
            'both are back',
            20_000,
          );
        }
        const again = await fill(session, '/full', 1_000 * round);
        t.diagnostic(`${first.length} files at first, ${again.length} then`);
        assert.ok(again.length >= first.length - 3, `${first.length} files at first, ${again.length} then`);
        await readBack(session, again);
        first.splice(0, first.length, ...again);
      }
    },
  );

  test('D8: a node that is full is passed over while another has room', ENDS, async () => {
    member = await RunningMember.start({ nodes: [{ name: 'node-1' }, { name: 'node-2' }, small('node-3')] });
    const session = await member.connect();
    const files = Array.from({ length: 60 }, (_, seed) => ({ path: `/${seed}`, seed }));
    for (let from = 0; from < files.length; from += 4)
      await Promise.all(
        files.slice(from, from + 4).map(({ path, seed }) => session.files.write(path, [seededFile(seed, 8 * MiB)])),
      );
    const { replication, nodes } = await member.status();
    assert.equal(replication.underReplicated, 0, JSON.stringify(nodes));
    for (const { path, seed } of files.slice(-8))
      assert.equal(await sha256Of(session.files.read(path)), await sha256Of([seededFile(seed, 8 * MiB)]), path);
  });

  test(
    'M9, M10: a quota of bytes or of inodes answers like EDQUOT, holds over a restart, and what is deleted can be written again',
    ENDS,
    async () => {
      member = await RunningMember.start();
      const admin = await member.connect();
      await admin.admin.createRealm({ path: '/bytes', quotaBytes: 12 * MiB, trashSeconds: 0 });
      await admin.admin.createRealm({ path: '/inodes', quotaInodes: 4, trashSeconds: 0 });
      const usedBytes = async (path: string): Promise<number> =>
        (await admin.admin.realms()).find((realm) => realm.path === path)?.usedBytes ?? -1;
      let session = await member.connect();
      await session.files.write('/bytes/first', [seededFile(1, 5 * MiB)]);
      await session.files.write('/bytes/second', [seededFile(2, 5 * MiB)]);
      await quotaRefuses(session, '/bytes/third');
      await session.files.mkdir('/bytes/no-bytes-needed');
      for (const name of ['a', 'b', 'c']) await session.files.mkdir(`/inodes/${name}`);
      await assert.rejects(session.files.mkdir('/inodes/d'), (thrown) => isRefusal(thrown, 'quota_exceeded', 'EDQUOT'));

      await member.coordinator.kill();
      await member.coordinator.start();
      session = await member.connect();
      await quotaRefuses(session, '/bytes/third');
      await assert.rejects(session.files.mkdir('/inodes/d'), (thrown) => isRefusal(thrown, 'quota_exceeded', 'EDQUOT'));

      // An upload that fails or is given up in its middle keeps no room to itself.
      for (let i = 0; i < 8; i++) await quotaRefuses(session, '/bytes/third');
      await session.files.remove('/bytes/first');
      // M8: sessions of before the restart are asked whether they have it open before its bytes go.
      await until(
        async () => (await usedBytes('/bytes')) === 5 * MiB,
        'the bytes of the removed file are free',
        20_000,
      );
      await session.files.write('/bytes/third', [seededFile(3, 5 * MiB)]);
      assert.ok((await session.files.readAll('/bytes/third')).equals(seededFile(3, 5 * MiB)));
      await session.files.remove('/inodes/a');
      await session.files.mkdir('/inodes/d');
      assert.equal(await usedBytes('/bytes'), 10 * MiB);
      await session.files.write('/outside', [seededFile(4, 20 * MiB)]);
    },
  );
});

/** Writes files of 5 MiB until there is no room, several at once, so that the end comes in the middle of uploads. Answers the paths, which end in their seeds. */
async function fill(session: Member, folder: string, firstSeed: number): Promise<string[]> {
  const written: string[] = [];
  let refused: unknown;
  const writer = async (from: number): Promise<void> => {
    for (let seed = from; refused === undefined && seed < firstSeed + 200; seed += 4) {
      const path = `${folder}/${seed}`;
      try {
        await session.files.write(path, [seededFile(seed, FILE_BYTES)]);
        written.push(path);
      } catch (thrown) {
        refused = thrown;
        assert.equal(await session.files.exists(path), false, 'what was refused has no name');
      }
    }
  };
  await Promise.all([0, 1, 2, 3].map((from) => writer(firstSeed + from)));
  isRefusal(refused, 'no_space', 'ENOSPC');
  return written;
}

async function readBack(session: Member, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const seed = Number(path.split('/').at(-1));
    assert.equal(await sha256Of(session.files.read(path)), await sha256Of([seededFile(seed, FILE_BYTES)]), path);
  }
}

/** Without any grace: all that was removed gives its room back. */
async function collectAll(session: Member): Promise<void> {
  const signal = AbortSignal.timeout(60_000);
  const { chunks, condemned, compactions } = await session.admin.collectGarbage(
    { graceSeconds: 0, wait: true },
    { signal },
  );
  assert.deepEqual([chunks, condemned], [0, 0]);
  assert.ok(
    compactions.every(({ state }) => state === 'done'),
    JSON.stringify(compactions),
  );
}

async function quotaRefuses(session: Member, path: string): Promise<void> {
  await assert.rejects(session.files.write(path, [seededFile(9, 5 * MiB)]), (thrown) =>
    isRefusal(thrown, 'quota_exceeded', 'EDQUOT'),
  );
  assert.equal(await session.files.exists(path), false);
}

function isRefusal(thrown: unknown, code: ErrorCode, errno: string): true {
  assert.ok(thrown instanceof CollectiveError, String(thrown));
  assert.equal(thrown.code, code, thrown.message);
  assert.equal(ERROR_CODES[thrown.code].errno, errno);
  return true;
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  return bytes;
}
