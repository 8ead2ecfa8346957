import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { HEARTBEAT_INTERVAL_MS } from '@collective/base/limits';
import { until } from './cli-world.ts';
import { seededFile, sha256Of } from './random-file.ts';
import { RunningMember } from './running-member.ts';
import { checkUploads, Uploads } from './uploads.ts';

const MiB = 1024 * 1024;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 300_000 };
/** Against hanging, not a promise: a start takes long on a machine that does other things. */
const LEVEL_WITHIN_MS = 60_000;
/** Processes are away for as long as that start takes. */
const PATIENT = { reconnectWithinMs: 120_000 };

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

const nodesReady = (status: { nodes: readonly { state: string }[] }): boolean =>
  status.nodes.length > 0 && status.nodes.every(({ state }) => state === 'ready');

describe('processes that are killed', () => {
  test(
    'D2, D6: kill -9 of a node in the middle of an upload: the upload ends well and nothing acknowledged is lost',
    ENDS,
    async () => {
      member = await RunningMember.start();
      const session = await member.connect(PATIENT);
      await session.files.mkdir('/up');
      using uploads = new Uploads(session, '/up', 160 * MiB);
      await until(
        () => uploads.storedBytes > 40 * MiB,
        'a quarter is stored',
        LEVEL_WITHIN_MS,
        () => `${uploads.storedBytes}`,
      );
      await member.node('node-1').kill();
      const before = uploads.acknowledged.length;
      await until(
        () => uploads.acknowledged.length > before + 20,
        'D8: writes are acknowledged again without the node',
        LEVEL_WITHIN_MS,
        () => `${uploads.acknowledged.length - before} since the kill`,
      );
      await member.node('node-1').start();
      await uploads.stop();
      for (const { path, outcome } of uploads.all)
        assert.equal(outcome, 'acknowledged', `${path}: one node was enough`);
      await checkUploads(session, uploads.all);

      // Every replica that a commit recorded is where it says, also on the node that was killed (D2: put, then commit).
      await member.untilStatus(nodesReady, 'both nodes are ready', LEVEL_WITHIN_MS);
      for (const { path } of uploads.all.slice(0, 40)) {
        const { bad, lost } = await session.files.verify(path);
        assert.deepEqual({ bad, lost }, { bad: [], lost: 0 }, path);
      }
    },
  );

  test(
    'M4, M5: kill -9 of the coordinator in the middle of an upload: it goes on after the restart, nothing acknowledged is lost',
    ENDS,
    async () => {
      member = await RunningMember.start();
      const session = await member.connect(PATIENT);
      await session.files.mkdir('/up');
      using uploads = new Uploads(session, '/up', 160 * MiB);
      for (const share of [1, 2, 3]) {
        await until(
          () => uploads.storedBytes > share * 30 * MiB,
          `${share * 30} MiB are stored`,
          LEVEL_WITHIN_MS,
          () => `${uploads.storedBytes}`,
        );
        await member.coordinator.kill();
        await member.coordinator.start();
      }
      const before = uploads.acknowledged.length;
      await until(
        () => uploads.acknowledged.length > before + 20,
        'the same session stores on after the third restart',
        LEVEL_WITHIN_MS,
        () => `${uploads.acknowledged.length - before} since`,
      );
      await uploads.stop();
      for (const { path, outcome } of uploads.all)
        assert.equal(outcome, 'acknowledged', `${path}: the session was taken up again`);
      await checkUploads(await member.connect(), uploads.all);

      const events = (await member.status()).events.map(({ kind }) => kind);
      assert.ok(!events.includes('replay-differs'), `M5: no answer was given twice: ${events.join(', ')}`);
    },
  );

  test(
    'D3, M4: everything killed at once: what was acknowledged is there, what was not is there as a whole or not at all',
    ENDS,
    async () => {
      member = await RunningMember.start();
      const session = await member.connect({ reconnectWithinMs: 1_000 });
      await session.files.mkdir('/up');
      using uploads = new Uploads(session, '/up', 400 * MiB);
      const made: string[] = [];
      await until(
        async () => {
          const path = `/made-${made.length}`;
          await session.files.mkdir(path, { durability: 'written' });
          made.push(path);
          return uploads.storedBytes > 40 * MiB;
        },
        '40 MiB are stored',
        LEVEL_WITHIN_MS,
        () => `${uploads.storedBytes}`,
      );
      await Promise.all(member.parts.map((part) => part.kill()));
      await uploads.stop();
      await Promise.all(member.parts.map((part) => part.start()));
      await member.untilStatus(nodesReady, 'both nodes are ready', LEVEL_WITHIN_MS);

      const after = await member.connect();
      assert.ok(uploads.acknowledged.length > 3, `${uploads.acknowledged.length} were acknowledged`);
      await checkUploads(after, uploads.all);
      for (const path of made)
        assert.equal((await after.files.stat(path)).type, 'directory', `M2: ${path} was answered as written`);
    },
  );

  test('M6, M8: locks, fences and open files without a name outlive a kill of the coordinator', ENDS, async () => {
    member = await RunningMember.start();
    const [holder, rival] = [await member.connect(PATIENT), await member.connect(PATIENT)];
    const content = seededFile(7, 2 * MiB);
    await holder.files.write('/locked', []);
    await holder.files.write('/gone', [content]);
    const locked = await holder.files.open('/locked', { access: 'write' });
    const { fence } = await locked.lock({ type: 'write' });
    const gone = await holder.files.open('/gone');
    await holder.files.remove('/gone');
    await member.coordinator.kill();
    await member.coordinator.start();

    const other = await rival.files.open('/locked', { access: 'write' });
    await assert.rejects(other.lock({ type: 'write' }), { code: 'would_block' });
    assert.equal(await rival.files.exists('/gone'), false);
    assert.ok((await gone.read(0, 2 * MiB)).equals(content), 'M8: the file is there as long as it is open');
    const waiting = other.lock({ type: 'write', wait: true });
    await locked.unlock({});
    const later = await waiting;
    assert.ok(later.fence > fence, `M2a: fence ${later.fence} after ${fence}`);
    await gone.close();
  });

  test(
    'D10: a node that restarts, a coordinator that restarts, and both after a long absence are known again by themselves',
    ENDS,
    async () => {
      member = await RunningMember.start();
      const session = await member.connect(PATIENT);
      const content = seededFile(5, 3 * MiB);
      await session.files.write('/kept.raw', content);

      await member.coordinator.kill();
      await member.coordinator.start();
      await nodesAreBack('after a kill of the coordinator');

      await member.node('node-2').kill();
      await member.untilStatus(
        ({ nodes }) => nodes.some(({ state }) => state === 'away'),
        'node-2 is away',
        LEVEL_WITHIN_MS,
      );
      await member.node('node-2').start();
      const { nodes } = await member.status();
      assert.deepEqual(
        nodes.map(({ name, state }) => `${name} ${state}`),
        ['node-1 ready', 'node-2 ready'],
      );

      await member.coordinator.end();
      // Long enough that every node has reached its longest pause between two tries.
      const log = () => member.nodes.every((node) => /coordinator link lost/.test(node.log));
      await until(log, 'both nodes have noticed', LEVEL_WITHIN_MS);
      const goneMs = performance.now();
      await until(
        () => performance.now() - goneMs > 4 * HEARTBEAT_INTERVAL_MS,
        'the coordinator was away for long',
        LEVEL_WITHIN_MS,
      );
      await member.coordinator.start();
      await nodesAreBack('after a long absence of the coordinator');

      assert.ok((await session.files.readAll('/kept.raw')).equals(content), 'the session of before still reads');
    },
  );

  /** Within one heartbeat (D10) is what `coordinator-link.test.ts` holds, where time is its own. */
  async function nodesAreBack(when: string): Promise<void> {
    await member.untilStatus(nodesReady, `both nodes are ready ${when}`, LEVEL_WITHIN_MS);
  }

  test('D6: a node that hangs with open connections holds up neither reads nor writes for long', ENDS, async (t) => {
    member = await RunningMember.start();
    const session = await member.connect(PATIENT);
    const content = seededFile(6, 20 * MiB);
    await session.files.write('/before.raw', content);
    member.node('node-1').freeze();
    let startedMs = performance.now();
    assert.equal(await sha256Of(session.files.read('/before.raw')), await sha256Of([content]));
    const readMs = performance.now() - startedMs;
    startedMs = performance.now();
    await session.files.write('/during.raw', content);
    const writtenMs = performance.now() - startedMs;
    t.diagnostic(`20 MiB read in ${Math.round(readMs)} ms, written in ${Math.round(writtenMs)} ms`);
    assert.ok(readMs < LEVEL_WITHIN_MS, `D6: reading took ${readMs} ms`);
    assert.ok(writtenMs < LEVEL_WITHIN_MS, `D8: writing took ${writtenMs} ms`);
    member.node('node-1').thaw();
    await member.untilStatus(nodesReady, 'the node is ready again', LEVEL_WITHIN_MS);
    for (const path of ['/before.raw', '/during.raw'])
      assert.equal(await sha256Of(session.files.read(path)), await sha256Of([content]), path);
  });

  test(
    'SIGTERM during an upload ends each process in order, and loses nothing that was acknowledged',
    ENDS,
    async () => {
      member = await RunningMember.start();
      const session = await member.connect(PATIENT);
      await session.files.mkdir('/up');
      using uploads = new Uploads(session, '/up', 240 * MiB);
      for (const [share, part] of [
        [1, member.node('node-1')],
        [2, member.coordinator],
        [3, member.node('node-2')],
      ] as const) {
        await until(
          () => uploads.storedBytes > share * 30 * MiB,
          `${share * 30} MiB are stored`,
          LEVEL_WITHIN_MS,
          () => `${uploads.storedBytes}`,
        );
        const { exit, signal } = await part.end('SIGTERM');
        assert.deepEqual({ exit, signal }, { exit: 0, signal: null }, `${part.name} ended in order:\n${part.log}`);
        await part.start();
      }
      await uploads.stop();
      for (const { path, outcome } of uploads.all) assert.equal(outcome, 'acknowledged', path);
      await checkUploads(await member.connect(), uploads.all);
    },
  );
});
