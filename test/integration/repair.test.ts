import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import type { Member } from '@collective/client';
import { until } from './cli-world.ts';
import { seededFile, sha256Of } from './random-file.ts';
import { RunningMember } from './running-member.ts';
import { checkUploads, Uploads } from './uploads.ts';

const MiB = 1024 * 1024;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 300_000 };
const MENDED_WITHIN_MS = 90_000;
/** Short, so that a test need not wait for ten minutes; longer than a restart. */
const REPAIR_AFTER_SECONDS = 4;

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

async function start(nodes: number): Promise<Member> {
  member = await RunningMember.start({ nodes: Array.from({ length: nodes }, (_, i) => ({ name: `node-${i + 1}` })) });
  const session = await member.connect();
  await session.admin.setMaintenance({ repairAfterSeconds: REPAIR_AFTER_SECONDS, garbageGraceSeconds: 0 });
  return session;
}

interface Stored {
  readonly path: string;
  readonly content: readonly Uint8Array[];
}

async function store(session: Member, count: number, seed: number): Promise<Stored[]> {
  const files = Array.from({ length: count }, (_, i) => ({
    path: `/${seed}-${i}.raw`,
    content: [seededFile(seed + i, 1 + ((i * 7_919_000) % (9 * MiB)))],
  }));
  for (let at = 0; at < count; at += 8)
    await Promise.all(files.slice(at, at + 8).map(({ path, content }) => session.files.write(path, content)));
  return files;
}

/** Every chunk of every file has as many whole replicas as its realm wants, and the bytes are those that were stored. Answers how many replicas. */
async function untilWhole(session: Member, files: readonly Stored[], wanted = 2): Promise<number> {
  let seen: unknown;
  let replicas = 0;
  for (const { path, content } of files) {
    await until(
      async () => {
        const report = await session.files.verify(path);
        seen = { ...report, bad: report.bad.map(({ node, error }) => `${node}: ${String(error)}`) };
        // A node that is away keeps its places: it may come back.
        const good = report.replicas - report.bad.length;
        const isWhole = good === report.chunks * wanted && report.bad.every(({ node }) => !member.node(node).isRunning);
        if (isWhole) replicas += good;
        return isWhole;
      },
      `${path} has its replicas`,
      MENDED_WITHIN_MS,
      () => JSON.stringify(seen),
    );
    assert.equal(await sha256Of(session.files.read(path)), await sha256Of(content), path);
  }
  return replicas;
}

/** As they say in their heartbeats. */
async function copiesOnNodes(): Promise<number> {
  return (await member.status()).nodes.reduce((sum, { chunks }) => sum + chunks, 0);
}

/** A heartbeat may be from before the files were stored. */
async function saysItHasChunks(node: string): Promise<void> {
  let chunks = 0;
  await until(
    async () => {
      chunks = (await member.status()).nodes.find(({ name }) => name === node)?.chunks ?? 0;
      return chunks > 5;
    },
    `${node} says that it has more than 5 chunks`,
    30_000,
    () => `${chunks}`,
  );
}

describe('what breaks is repaired', () => {
  test('D8: a node that dies with its disk: everything has two replicas again, byte for byte', ENDS, async () => {
    const session = await start(4);
    const files = await store(session, 24, 100);
    await saysItHasChunks('node-2');
    await member.node('node-2').kill();
    await rm(join(member.folder, 'node-2', 'store'), { recursive: true });
    await untilWhole(session, files);
    const { replication, jobs } = await member.untilStatus(
      ({ replication: { bytesToRepair, unreadable, failure } }) =>
        bytesToRepair === 0 && unreadable === 0 && failure === '',
      'nothing is left to repair, and nothing is said of it',
      MENDED_WITHIN_MS,
    );
    assert.ok(replication.repairedBytes > 0, 'copied since the start');
    assert.ok(jobs.some(({ name }) => name === 'repair'));
    assert.ok((await member.status()).events.some(({ kind }) => kind === 'node-given-up'));

    await session.admin.setNodeDuty('node-2', 'draining');
    await untilEmpty(session, 'node-2');
    await session.admin.removeNode('node-2');
    assert.deepEqual(
      (await member.status()).nodes.map(({ name }) => name),
      ['node-1', 'node-3', 'node-4'],
      'a dead node can be removed once nothing names it',
    );
    await untilWhole(session, files);
  });

  test(
    'D8: a node that comes back after it was given up: what is too many goes, and every byte is there',
    ENDS,
    async () => {
      const session = await start(3);
      const files = await store(session, 20, 200);
      const copies = await untilWhole(session, files);
      await until(async () => (await copiesOnNodes()) === copies, 'the nodes say what they have', 30_000);
      await member.node('node-3').kill();
      await untilWhole(session, files);
      assert.ok((await member.status()).events.some(({ kind }) => kind === 'node-given-up'));
      let seen = 0;
      const isAsMany = (wanted: (seen: number) => boolean) => async (): Promise<boolean> => {
        seen = await copiesOnNodes();
        return wanted(seen);
      };
      const show = (): string => `${seen} copies, ${copies} are named`;
      await until(
        isAsMany((found) => found > copies),
        'there are more copies with those on node-3',
        MENDED_WITHIN_MS,
        show,
      );
      await member.node('node-3').start();
      await until(
        isAsMany((found) => found === copies),
        'no copy is too many',
        MENDED_WITHIN_MS,
        show,
      );
      await untilWhole(session, files);
    },
  );

  test('D8, D10: a disk that was lost: its node gets everything again, on the new one', ENDS, async () => {
    const session = await start(2);
    const files = await store(session, 12, 300);
    await member.node('node-1').end();
    await rm(join(member.folder, 'node-1', 'store'), { recursive: true });
    await member.node('node-1').start();
    await untilWhole(session, files);
    assert.ok((await member.status()).events.some(({ kind }) => kind === 'disk-lost'));
  });
});

describe('a node that is to go', () => {
  test(
    'D8: it is drained under load until the end, nothing is left on it, and only then it can be removed',
    ENDS,
    async () => {
      const session = await start(3);
      const files = await store(session, 16, 400);
      await session.files.mkdir('/load');
      using uploads = new Uploads(session, '/load', 40 * MiB, { restMs: 100 });
      await until(() => uploads.storedBytes > 4 * MiB, 'the load is under way', 30_000);

      await assert.rejects(session.admin.removeNode('node-2'), isBusy);
      const first = await session.admin.setNodeDuty('node-2', 'draining');
      assert.ok(first.chunks > 0);
      await assert.rejects(session.admin.removeNode('node-2'), isBusy);
      await untilEmpty(session, 'node-2');
      const drainedAt = uploads.all.length;
      await until(() => uploads.all.length > drainedAt + 20, 'writes have gone on all the time', 30_000);
      assert.equal((await session.admin.nodeHolding('node-2')).chunks, 0, 'what was written since lies elsewhere');
      await uploads.stop();
      assert.deepEqual(
        uploads.all.filter(({ outcome }) => outcome !== 'acknowledged'),
        [],
        'a drain is no reason for a write to fail',
      );
      // It would only register again.
      await assert.rejects(session.admin.removeNode('node-2'), isBusy);
      await member.node('node-2').end();
      await until(() => removed(session, 'node-2'), 'the node that has ended can be removed', 30_000);
      assert.deepEqual(
        (await member.status()).nodes.map(({ name }) => name),
        ['node-1', 'node-3'],
      );
      await checkUploads(session, uploads.all);
      await untilWhole(session, files);
    },
  );

  test(
    'D8: one that was drained and removed and starts again with its disk takes chunks, and they count',
    ENDS,
    async () => {
      const session = await start(3);
      await store(session, 6, 700);
      await session.admin.setNodeDuty('node-3', 'draining');
      await untilEmpty(session, 'node-3');
      await member.node('node-3').end();
      await until(() => removed(session, 'node-3'), 'the node that has ended can be removed', 30_000);
      const before = await store(session, 6, 800);

      await member.node('node-3').start();
      await member.untilStatus(
        ({ nodes }) => nodes.filter(({ state, duty }) => state === 'ready' && duty === 'active').length === 3,
        'the node that came back takes chunks',
        30_000,
      );
      // All three nodes are needed: for what clients write, and for the copies that repair makes of what lay on two.
      await session.admin.setRealm('/', { replicas: 3 });
      const after = await store(session, 6, 900);
      await untilWhole(session, [...before, ...after], 3);
      assert.ok((await session.admin.nodeHolding('node-3')).chunks >= before.length + after.length);
    },
  );

  test('D8: with too few other nodes a drain says why it waits, and ends when one more is there', ENDS, async () => {
    const session = await start(3);
    await member.node('node-3').end();
    const files = await store(session, 4, 500);
    await session.admin.setNodeDuty('node-1', 'draining');
    const { nodes } = await member.untilStatus(
      // Until the node that has ended is known as away, orders to it fail, and what failed waits to be tried again.
      (status) => {
        const waiting = status.nodes.find(({ name }) => name === 'node-1')?.waiting ?? [];
        return waiting.length === 1 && waiting[0]?.reason === 'no-target';
      },
      'no-target is all that the drain waits for',
      60_000,
    );
    const waiting = nodes.find(({ name }) => name === 'node-1');
    assert.ok((waiting?.leftChunks ?? 0) >= 4);
    await assert.rejects(session.admin.removeNode('node-1'), isBusy);
    await member.node('node-3').start();
    await untilEmpty(session, 'node-1');
    await untilWhole(session, files);
  });

  test('D9: a drain that waits for somebody to confirm a restore goes on when that is done', ENDS, async () => {
    const session = await start(3);
    const files = await store(session, 4, 600);
    await session.admin.setMaintenance({ garbageWaits: true });
    await session.admin.setNodeDuty('node-1', 'draining');
    await member.untilStatus(
      ({ nodes }) => {
        const waiting = nodes.find(({ name }) => name === 'node-1')?.waiting ?? [];
        return waiting.length === 1 && waiting[0]?.reason === 'unconfirmed';
      },
      'a confirmation is all that the drain waits for',
      60_000,
    );
    await session.admin.setMaintenance({ garbageWaits: false });
    await untilEmpty(session, 'node-1');
    await untilWhole(session, files);
  });
});

/** Its link may end a moment after it. */
async function removed(session: Member, node: string): Promise<boolean> {
  try {
    await session.admin.removeNode(node);
    return true;
  } catch (thrown) {
    return !isBusy(thrown);
  }
}

function isBusy(thrown: unknown): boolean {
  assert.ok(thrown instanceof CollectiveError, String(thrown));
  assert.equal(thrown.code, 'busy', thrown.message);
  return true;
}

async function untilEmpty(session: Member, node: string): Promise<void> {
  let seen: unknown;
  await until(
    async () => {
      const holding = await session.admin.nodeHolding(node);
      seen = holding;
      return holding.chunks === 0;
    },
    `nothing is left on ${node}`,
    MENDED_WITHIN_MS,
    () => JSON.stringify(seen),
  );
}
