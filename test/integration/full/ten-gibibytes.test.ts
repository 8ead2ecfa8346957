import assert from 'node:assert/strict';
import { test } from 'node:test';
import { watchGrowth } from '../growth-watch.ts';
import { seededBytes, sha256Of } from '../random-file.ts';
import { RunningMember } from '../running-member.ts';

const SIZE_BYTES = 10 * 1024 ** 3;

test('D5, D6: a random file of 10 GiB comes back byte for byte, and no process grows by more than 256 MiB', async (t) => {
  await using member = await RunningMember.start();
  const session = await member.connect();
  const growth = watchGrowth(member);
  let startedMs = performance.now();
  const rate = (): string => {
    const seconds = (performance.now() - startedMs) / 1000;
    startedMs = performance.now();
    return `${Math.round(seconds)} s, ${Math.round(SIZE_BYTES / 1e6 / seconds)} MB/s`;
  };
  await session.files.write('/ten-gib.raw', seededBytes(10, SIZE_BYTES));
  t.diagnostic(`stored on two nodes in ${rate()}; ${growth.check(256)}`);
  const stored = await sha256Of(session.files.read('/ten-gib.raw'));
  t.diagnostic(`read in ${rate()}; ${growth.check(256)}`);
  assert.equal(stored, await sha256Of(seededBytes(10, SIZE_BYTES)));
  assert.equal((await member.status()).replication.underReplicated, 0);
});
