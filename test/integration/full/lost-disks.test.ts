/** A member of five nodes that loses two disks, one after the other, while people write: 20 GiB of sparse and small files. */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { SystemClock } from '@collective/base/system-clock';
import type { Member } from '@collective/client';
import { seededFile } from '../random-file.ts';
import { RunningMember } from '../running-member.ts';
import { checkUploads, Uploads } from '../uploads.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const NODES = ['node-1', 'node-2', 'node-3', 'node-4', 'node-5'];
const SPARSE_FILES = 10;
const SPARSE_BYTES = 2 * GiB;
/** Pieces of data in each sparse file, far from each other. */
const PIECES = 40;
const PIECE_BYTES = 100 * KiB;
const REPAIRED_WITHIN_MS = 300_000;
/** Short, so that nobody waits for ten minutes; longer than a start. */
const REPAIR_AFTER_SECONDS = 10;
const clock = new SystemClock();

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

test('D8: two of five nodes lose their disks one after the other during load, and every acknowledged byte is there', async (t) => {
  member = await RunningMember.start({ nodes: NODES.map((name) => ({ name })) });
  const session = await member.connect({ reconnectWithinMs: 60_000 });
  await session.admin.setMaintenance({ repairAfterSeconds: REPAIR_AFTER_SECONDS });
  await session.files.mkdir('/sparse');
  await session.files.mkdir('/load');
  for (let file = 0; file < SPARSE_FILES; file++) await writeSparse(session, file);
  using uploads = new Uploads(session, '/load', 200 * MiB);

  // The first is gone for good, the second comes back with an empty disk.
  for (const lost of ['node-2', 'node-4']) {
    const { chunks = 0 } = (await member.status()).nodes.find(({ name }) => name === lost) ?? {};
    await member.node(lost).kill();
    const folder = join(member.folder, lost);
    const comesBack = lost === 'node-4';
    for (const name of await readdir(folder))
      if (name !== 'tls' || !comesBack) await rm(join(folder, name), { recursive: true });
    if (comesBack) {
      member.node(lost).launch();
      await member.node(lost).ready();
    }
    const beganMs = clock.bootMs();
    const told = comesBack ? 'disk-lost' : 'node-given-up';
    await member.untilStatus(
      ({ events }) => events.some(({ kind, details }) => kind === told && details.node === lost),
      `what happened to ${lost} is told`,
      60_000,
    );
    await member.untilStatus(
      ({ replication, nodes }) =>
        replication.underReplicated === 0 &&
        !replication.counting &&
        nodes.every(({ name, state }) => state === (name === 'node-2' ? 'away' : 'ready')),
      `all chunks have their replicas again without the disk of ${lost}`,
      REPAIRED_WITHIN_MS,
    );
    t.diagnostic(`${lost} with ${chunks} chunks: repaired in ${Math.round((clock.bootMs() - beganMs) / 1000)} s`);
  }
  await uploads.stop();
  const after = await member.connect();
  for (let file = 0; file < SPARSE_FILES; file++) await checkSparse(after, file);
  await checkUploads(after, uploads.all);
  for (const { path, outcome } of uploads.all) assert.equal(outcome, 'acknowledged', path);
  const { replication } = await member.untilStatus(
    (status) => status.replication.unstable === 0 && status.replication.underReplicated === 0,
    'all replicas are stable',
    60_000,
  );
  assert.equal(replication.lost, 0);
  for (const path of ['/sparse/0', '/sparse/9', ...uploads.all.slice(0, 300).map((upload) => upload.path)]) {
    const report = await after.files.verify(path);
    // The places on the node that is gone are kept: it may come back.
    const bad = report.bad.filter(({ node }) => node !== 'node-2');
    const good = report.replicas - report.bad.length;
    assert.deepEqual([bad, report.lost, good], [[], 0, 2 * report.chunks], path);
  }
  t.diagnostic(`${uploads.all.length} files were stored meanwhile`);
});

function placeOf(piece: number): number {
  return Math.floor((piece * SPARSE_BYTES) / PIECES) + piece * 4_099;
}

async function writeSparse(session: Member, file: number): Promise<void> {
  await using handle = await session.files.open(`/sparse/${file}`, { access: 'write', create: true });
  for (let piece = 0; piece < PIECES; piece++)
    await handle.write(placeOf(piece), seededFile(file * 1_000 + piece, PIECE_BYTES));
  await handle.setAttributes({ sizeBytes: SPARSE_BYTES });
}

async function checkSparse(session: Member, file: number): Promise<void> {
  await using handle = await session.files.open(`/sparse/${file}`);
  assert.equal((await handle.attributes()).sizeBytes, SPARSE_BYTES);
  for (let piece = 0; piece < PIECES; piece++) {
    const bytes = await handle.read(placeOf(piece), PIECE_BYTES + 10);
    assert.deepEqual(bytes.subarray(0, PIECE_BYTES), seededFile(file * 1_000 + piece, PIECE_BYTES));
    assert.deepEqual(bytes.subarray(PIECE_BYTES), Buffer.alloc(10), 'a hole reads as zeros');
  }
}
