import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { until } from './cli-world.ts';
import type { PartProcess } from './part-process.ts';
import { seededFile } from './random-file.ts';
import { stolenAuthority } from './raw-session.ts';
import { RunningMember } from './running-member.ts';

const ENDS = { timeout: 120_000 };
const RELOADED_WITHIN_MS = 60_000;

describe('what the servers show on their ports', () => {
  let member: RunningMember;

  before(async () => {
    member = await RunningMember.start();
    const session = await member.connect();
    await session.files.write('/kept.raw', [seededFile(1, 3_000_000)]);
  });
  after(() => member?.[Symbol.asyncDispose]());
  afterEach((t) => member?.printLogs(t));

  const get = async (part: PartProcess, path: string): Promise<{ status: number; text: string }> => {
    const answer = await fetch(`http://127.0.0.1:${part.healthPort}${path}`, { signal: AbortSignal.timeout(30_000) });
    return { status: answer.status, text: await answer.text() };
  };

  test('both servers answer /livez, /readyz and /metrics, with figures of what was done', ENDS, async () => {
    for (const part of member.parts) {
      assert.equal((await get(part, '/livez')).status, 200, part.name);
      assert.equal((await get(part, '/readyz')).status, 200, part.name);
      assert.equal((await get(part, '/other')).status, 404, part.name);
      const { status, text } = await get(part, '/metrics');
      assert.equal(status, 200);
      assert.match(text, /^# TYPE collective_\w+ (counter|gauge|histogram)$/m, part.name);
    }
    const puts = /^collective_node_\w*put\w*\{?.*\}? [1-9]/m;
    for (const node of member.nodes) assert.match((await get(node, '/metrics')).text, puts, node.name);
  });

  test(
    'T3: what is served in plaintext says nothing secret, and nothing else is served in plaintext',
    ENDS,
    async () => {
      const secrets = await Promise.all(
        [
          ['coordinator', 'ca', 'ca.key'],
          ['coordinator', 'tls', 'tls.key'],
          ['node-1', 'tls', 'tls.key'],
        ].map(async (path) => (await readFile(join(member.folder, ...path), 'utf8')).split('\n')[1] ?? ''),
      );
      for (const part of member.parts) {
        for (const path of ['/livez', '/readyz', '/metrics', '/']) {
          const { text } = await get(part, path);
          assert.doesNotMatch(text, /kept\.raw|user\/ann|BEGIN|token="/, `${part.name} ${path}`);
          for (const secret of secrets) assert.ok(secret.length > 20 && !text.includes(secret));
        }
      }
      for (const port of [member.coordinatorPort, ...member.nodePorts.values()])
        await assert.rejects(fetch(`http://127.0.0.1:${port}/livez`, { signal: AbortSignal.timeout(30_000) }));
    },
  );

  test(
    'a node without its coordinator is alive and not ready, says why, and becomes ready by itself',
    ENDS,
    async () => {
      await member.coordinator.kill();
      const [node] = member.nodes;
      assert.ok(node !== undefined);
      let seen = '';
      await until(
        async () => {
          try {
            const { status, text } = await get(node, '/readyz');
            seen = `${status} ${text}`;
            return status === 503 && /coordinator/.test(text);
          } catch (thrown) {
            seen = String(thrown);
            return false;
          }
        },
        'the node says that it is not ready',
        60_000,
        () => seen,
      );
      assert.equal((await get(node, '/livez')).status, 200);
      await member.coordinator.start();
      await Promise.all(member.nodes.map((one) => one.ready()));
    },
  );

  test(
    'T4: a renewed certificate is shown to new connections without a restart, and those that stand go on',
    ENDS,
    async () => {
      const session = await member.connect();
      const authority = await stolenAuthority(member);
      const pids = member.parts.map(({ pid }) => pid);
      for (const [folder, dnsName, port, leaf] of [
        ['coordinator', 'coordinator.alice.home', member.coordinatorPort, await authority.peer('coordinator')],
        [
          'node-1',
          'node-1.node.alice.home',
          member.nodePorts.get('node-1') ?? 0,
          await authority.peer('node', 'node-1'),
        ],
      ] as const) {
        const before = await shownBy(port, dnsName, leaf);
        await writeTrustFiles(join(member.folder, folder, 'tls'), leaf);
        let shown = before;
        await until(
          async () => {
            shown = await shownBy(port, dnsName, leaf);
            return shown === leaf.leaf.fingerprint256;
          },
          `${folder} shows its new certificate`,
          RELOADED_WITHIN_MS,
          () => `${shown}, before ${before}`,
        );
        assert.notEqual(before, shown);
        assert.ok((await session.files.readAll('/kept.raw')).equals(seededFile(1, 3_000_000)), 'the session goes on');
        const fresh = await member.connect();
        assert.ok((await fresh.files.readAll('/kept.raw')).equals(seededFile(1, 3_000_000)), 'and a new one begins');
      }
      assert.deepEqual(
        member.parts.map(({ pid }) => pid),
        pids,
        'no process was started again',
      );
    },
  );

  async function shownBy(
    port: number,
    servername: string,
    { certificatePem, keyPem, bundlePem }: { certificatePem: string; keyPem: string; bundlePem: string },
  ): Promise<string> {
    const options = { host: '127.0.0.1', port, servername, ca: bundlePem, cert: certificatePem, key: keyPem };
    const socket = connectTls({ ...options, ALPNProtocols: ['h2'] });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('secureConnect', resolve);
        socket.once('error', reject);
      });
      return socket.getPeerX509Certificate()?.fingerprint256 ?? 'none';
    } finally {
      socket.destroy();
    }
  }
});
