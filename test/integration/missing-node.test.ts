import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Member } from '@collective/client';
import { until } from '../until.ts';
import { seededFile } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 180_000 };
/** Against hanging: a node is given up after five seconds. Less than a write into /safe waits at most. */
const GIVEN_UP_WITHIN_MS = 45_000;

describe('one of two nodes is away', () => {
  let member: RunningMember;
  let session: Member;

  before(async () => {
    member = await RunningMember.start();
    session = await member.connect();
    await session.admin.createRealm({ path: '/safe', minReplicas: 2 });
    // The rights to a new realm come with the next attach.
    await session.close();
    session = await member.connect();
  });
  after(() => member?.[Symbol.asyncDispose]());
  afterEach((t) => member?.printLogs(t));

  /** What Prometheus is told, without a survey of all chunks: nothing has begun one here. */
  const shownShort = async (chunks: number): Promise<void> => {
    let shown = '';
    const isShown = async (): Promise<boolean> => {
      const address = `http://127.0.0.1:${member.coordinator.healthPort}/metrics`;
      try {
        const text = await (await fetch(address, { signal: AbortSignal.timeout(10_000) })).text();
        shown = /^collective_coordinator_chunks_under_replicated .*$/m.exec(text)?.[0] ?? text;
      } catch (thrown) {
        shown = String(thrown);
      }
      return shown.endsWith(` ${chunks}`);
    };
    await until(isShown, `the metric says that ${chunks} chunks are short`, 60_000, () => shown);
  };

  test(
    'D8: writes go on with one replica, are shown as under-replicated, and a realm with minReplicas 2 waits for the second',
    ENDS,
    async () => {
      const earlier = seededFile(1, 6 * MiB);
      await session.files.write('/earlier.raw', earlier);
      await session.files.write('/safe/earlier.raw', earlier);
      assert.equal((await member.status()).replication.underReplicated, 0);

      await member.node('node-2').kill();
      let waiting: 'waits' | 'acknowledged' = 'waits';
      const content = seededFile(2, 6 * MiB);
      const safe = session.files.write('/safe/during.raw', content).then((attributes) => {
        waiting = 'acknowledged';
        return attributes;
      });
      safe.catch(() => undefined);

      await session.files.write('/during.raw', content, { signal: AbortSignal.timeout(GIVEN_UP_WITHIN_MS) });
      const away = await member.untilStatus(
        ({ nodes }) => nodes.some(({ name, state }) => name === 'node-2' && state === 'away'),
        'node-2 is shown as away',
        GIVEN_UP_WITHIN_MS,
      );
      assert.equal(away.replication.underReplicated, 2, 'two chunks of /during.raw have one replica');
      await shownShort(2);
      const another = await member.connect();
      await another.files.write('/second.raw', content);
      assert.equal((await member.status()).replication.underReplicated, 4, 'and two of /second.raw');
      assert.equal(waiting, 'waits', 'D8: minReplicas 2 is not acknowledged on one node');
      assert.equal(await session.files.exists('/safe/during.raw'), false);

      for (const [path, bytes] of [
        ['/earlier.raw', earlier],
        ['/safe/earlier.raw', earlier],
        ['/during.raw', content],
        ['/second.raw', content],
      ] as const)
        assert.ok((await session.files.readAll(path)).equals(bytes), `${path} is read from the other node`);
      const report = await session.files.verify('/during.raw');
      assert.deepEqual([report.chunks, report.replicas, report.underReplicated, report.lost], [2, 2, 2, 0]);

      await member.node('node-2').start();
      await safe;
      assert.ok((await session.files.readAll('/safe/during.raw')).equals(content));
      const whole = await session.files.verify('/safe/during.raw');
      assert.deepEqual([whole.chunks, whole.replicas, whole.underReplicated, whole.bad], [2, 4, 0, []]);
      await session.files.write('/after.raw', content);
      assert.equal((await session.files.verify('/after.raw')).replicas, 4, 'both nodes take new chunks again');
      await shownShort(0);
    },
  );

  test('D8: without any node a write waits and fails with a reason, and metadata goes on', ENDS, async () => {
    await Promise.all(member.nodes.map((node) => node.kill()));
    await member.untilStatus(
      ({ nodes }) => nodes.every(({ state }) => state === 'away'),
      'both are away',
      GIVEN_UP_WITHIN_MS,
    );
    const given = AbortSignal.timeout(3_000);
    await assert.rejects(session.files.write('/nowhere.raw', seededFile(3, MiB), { signal: given }), (thrown) => {
      assert.equal(thrown, given.reason, 'it waits until its caller gives up');
      return true;
    });
    await session.files.mkdir('/still-made');
    await session.files.write('/empty', []);
    await session.files.rename('/second.raw', '/still-made/second.raw');
    await assert.rejects(session.files.readAll('/after.raw'), (thrown: unknown) => {
      assert.ok(thrown instanceof Error && 'code' in thrown);
      assert.equal(thrown.code, 'unavailable');
      assert.match(thrown.message, /\/after\.raw/);
      return true;
    });
    await Promise.all(member.nodes.map((node) => node.start()));
    assert.ok((await session.files.readAll('/still-made/second.raw')).equals(seededFile(2, 6 * MiB)));
  });
});
