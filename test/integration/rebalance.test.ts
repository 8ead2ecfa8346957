import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { seededFile, sha256Of } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;
const CAPACITY_BYTES = 1024 * MiB;
const NODES = ['node-1', 'node-2', 'node-3'];
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 240_000 };

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

test(
  'D8: two nodes are filled, a third takes chunks: after a rebalance all hold the same, and every byte is there',
  ENDS,
  async (t) => {
    member = await RunningMember.start({ nodes: NODES.map((name) => ({ name, capacity: '1GiB' })) });
    const session = await member.connect();
    const { admin, files } = session;
    await admin.setNodeDuty('node-3', 'cordoned');
    const stored = Array.from({ length: 24 }, (_, seed) => ({
      path: `/${seed}.raw`,
      content: seededFile(seed, 9 * MiB),
    }));
    for (let at = 0; at < stored.length; at += 4)
      await Promise.all(stored.slice(at, at + 4).map(({ path, content }) => files.write(path, [content])));
    await admin.setNodeDuty('node-3', 'active');
    assert.equal((await admin.nodeHolding('node-3')).chunks, 0);

    const plan = await admin.rebalanceNodes({ dryRun: true });
    assert.ok((plan.spreadPercent ?? 0) > 10, JSON.stringify(plan));
    assert.ok(plan.plannedChunks > 20 && (plan.plannedSpreadPercent ?? 100) <= 2.5, JSON.stringify(plan));
    assert.equal((await admin.nodeHolding('node-3')).chunks, 0, 'a dry run moves nothing');

    const done = await admin.rebalanceNodes({ wait: true });
    assert.ok(done.movedChunks >= plan.plannedChunks * 0.9, JSON.stringify({ plan, done }));
    await member.untilStatus(
      ({ replication }) => replication.toMove === 0 && replication.underReplicated === 0,
      'what was too many is gone',
      60_000,
    );
    const held = await Promise.all(NODES.map(async (name) => (await admin.nodeHolding(name)).bytes));
    t.diagnostic(`bytes on the nodes: ${held.join(', ')}`);
    assert.ok(Math.max(...held) - Math.min(...held) <= 0.05 * CAPACITY_BYTES, held.join(', '));
    for (const { path, content } of stored) {
      const report = await files.verify(path);
      assert.deepEqual([report.replicas, report.bad.length], [report.chunks * 2, 0], path);
      assert.equal(await sha256Of(files.read(path)), await sha256Of([content]), path);
    }

    const again = await admin.rebalanceNodes({ wait: true });
    assert.equal(again.movedChunks, done.movedChunks, 'what is even stays as it is');
  },
);
