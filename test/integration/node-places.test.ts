import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { type AddressInfo, connect as connectTcp, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { seededFile, sha256Of } from './random-file.ts';
import { RawSession, trustOf } from './raw-session.ts';
import { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 120_000 };

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

describe('where chunks lie and how they are reached', () => {
  test('D8: replicas are spread over the zones that nodes are labelled with', ENDS, async () => {
    const zones = { 'node-1': 'cellar', 'node-2': 'cellar', 'node-3': 'attic', 'node-4': 'attic' };
    member = await RunningMember.start({
      nodes: Object.entries(zones).map(([name, zone]) => ({ name, flags: ['--zone', zone] })),
    });
    await member.untilStatus(
      ({ nodes }) => nodes.filter(({ state }) => state === 'ready').length === 4,
      'all nodes are ready, so that each is thought of',
      10_000,
    );
    const session = await member.connect();
    const files = Array.from({ length: 24 }, (_, seed) => ({ path: `/${seed}`, seed }));
    await Promise.all(files.map(({ path, seed }) => session.files.write(path, [seededFile(seed, MiB)])));
    using raw = await RawSession.open(member, await trustOf(join(member.folder, 'ann')));
    const used = new Set<string>();
    for (const { path } of files) {
      const { inode } = await session.files.stat(path);
      const page = await raw.expect('blocks', { $case: 'readBlocks', value: { inode, first: 0, count: 1 } });
      const nodes = page.chunks.flatMap(({ replicas }) => replicas.map(({ node }) => node));
      for (const node of nodes) used.add(node);
      const named = nodes.map((node) => zones[node as keyof typeof zones]).sort();
      assert.deepEqual(named, ['attic', 'cellar'], `${path} lies on ${nodes.join(', ')}`);
    }
    assert.equal(used.size, 4, 'every node has a share');
  });

  test(
    'D10: a known node with another disk is a lost disk: shown as an event, and the other replicas serve',
    ENDS,
    async () => {
      member = await RunningMember.start();
      const session = await member.connect();
      const content = seededFile(1, 9 * MiB);
      await session.files.write('/kept.raw', [content]);
      const before = (await member.status()).nodes.find(({ name }) => name === 'node-2')?.disk;
      await member.node('node-2').end();
      await rm(join(member.folder, 'node-2', 'store'), { recursive: true });
      await member.node('node-2').start();
      const { nodes, events } = await member.untilStatus(
        (status) => status.events.some(({ kind }) => kind === 'disk-lost'),
        'the lost disk is an event',
        10_000,
      );
      const now = nodes.find(({ name }) => name === 'node-2')?.disk;
      assert.notEqual(now, before);
      assert.deepEqual(
        events.filter(({ kind }) => kind === 'disk-lost').map(({ details }) => details),
        [{ node: 'node-2', lost: before, found: now }],
      );

      for (let i = 0; i < 3; i++)
        assert.equal(await sha256Of(session.files.read('/kept.raw')), await sha256Of([content]));
      const { replicas, underReplicated, bad, lost } = await session.files.verify('/kept.raw');
      // Three chunks of two replicas; those of the lost disk are made good sooner or later.
      assert.deepEqual([replicas + underReplicated, bad, lost], [6, [], 0], 'nobody is sent to the disk that is lost');
      await session.files.write('/new.raw', [content]);
      assert.deepEqual((await session.files.verify('/new.raw')).bad, [], 'the new disk takes chunks');
    },
  );

  test(
    'D10, T2: a session reaches nodes by the addresses of its listener, through whatever forwards them',
    ENDS,
    async () => {
      await using forward = await PortForward.listen();
      const flags = (port: string): string[] => ['--advertise', `internal=127.0.0.1,external=127.0.0.1:${port}`];
      member = await RunningMember.start({ nodes: [{ name: 'node-1', flags: flags(String(forward.port)) }] });
      forward.to = member.nodePorts.get('node-1') ?? 0;
      const content = seededFile(1, 3 * MiB);

      const inside = await member.connect({ listener: 'internal' });
      await inside.files.write('/a.raw', [content]);
      assert.equal(forward.bytes, 0, 'inside, nothing takes the way round');

      const outside = await member.connect({ listener: 'external' });
      assert.ok((await outside.files.readAll('/a.raw')).equals(content));
      assert.ok(forward.bytes > 3 * MiB, `outside, ${forward.bytes} bytes came through the forwarded port`);
      await outside.files.write('/b.raw', [content]);
      assert.ok(forward.bytes > 6 * MiB);
      assert.ok((await inside.files.readAll('/b.raw')).equals(content));
    },
  );
});

/** Passes TCP on, as `kubectl port-forward` or a router would, and counts. */
class PortForward implements AsyncDisposable {
  to = 0;
  bytes = 0;
  readonly #server: Server;

  static async listen(): Promise<PortForward> {
    const forward = new PortForward();
    await new Promise<void>((resolve) => forward.#server.listen(0, '127.0.0.1', resolve));
    return forward;
  }

  private constructor() {
    this.#server = createServer((near) => {
      const far = connectTcp(this.to, '127.0.0.1');
      for (const [from, into] of [
        [near, far],
        [far, near],
      ] as const) {
        from.on('data', (piece: Buffer) => {
          this.bytes += piece.length;
        });
        from.on('error', () => into.destroy());
        from.pipe(into);
      }
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await Promise.resolve();
  }
}
