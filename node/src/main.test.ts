import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { startNode } from './main.ts';
import type { NodeOptions } from './options.ts';

describe('a node as a process starts it', () => {
  let folder: string;
  let authority: ScratchAuthority;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'collective-node-'));
    authority = await ScratchAuthority.create('alice.home' as TrustDomain);
    await writeTrustFiles(join(folder, 'one'), await authority.peer('node', 'one'));
    await writeTrustFiles(join(folder, 'ann'), await authority.peer('user', 'ann'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** Port 1 of this machine: nobody is there. */
  function options(change: Partial<NodeOptions> = {}): NodeOptions {
    return {
      trustFolder: join(folder, 'one'),
      coordinator: { host: '127.0.0.1', port: 1 },
      dataFolder: join(folder, 'data'),
      capacityBytes: 2 ** 30,
      listen: { host: '127.0.0.1', port: 0 },
      health: { host: '127.0.0.1', port: 0 },
      ...change,
    };
  }

  test('takes its name from its certificate, and is alive but not ready without a coordinator', async () => {
    await using node = await startNode(options());
    assert.equal(node.name, 'one');
    assert.ok(node.port > 0 && node.healthPort !== undefined);
    assert.equal(node.registered, false);
    const ask = async (path: string): Promise<[number, string]> => {
      const response = await fetch(`http://127.0.0.1:${node.healthPort}${path}`);
      return [response.status, (await response.text()).trim()];
    };
    assert.deepEqual(await ask('/livez'), [200, 'ok']);
    assert.deepEqual(await ask('/readyz'), [503, 'the coordinator does not answer']);
    const [status, metrics] = await ask('/metrics');
    assert.equal(status, 200);
    for (const name of [
      'chunks 0',
      'capacity_bytes 1073741824',
      'connections 0',
      'put_bytes_total 0',
      'sync_seconds_count 0',
      'dead_bytes 0',
      'damaged_chunks 0',
      'damaged_found_total 0',
      'forgotten_chunks_total 0',
      'compacted_segments_total 0',
      'compacted_bytes_total 0',
      'scrub_verified_bytes_total 0',
      'scrub_pass_share 0',
      'scrub_last_ended_seconds 0',
    ])
      assert.match(metrics, new RegExp(`^collective_node_${name}`, 'm'));
  });

  test('starts again on the same folder, after it stopped', async () => {
    for (let i = 0; i < 2; i++) {
      const node = await startNode(options());
      await node[Symbol.asyncDispose]();
      await node[Symbol.asyncDispose]();
    }
  });

  const refused: readonly { name: string; code: ErrorCode; change: () => Partial<NodeOptions>; says: RegExp }[] = [
    { name: 'a folder that another node uses', code: 'data_in_use', change: () => ({}), says: /data/ },
    {
      name: 'a port that is taken',
      code: 'address_in_use',
      change: () => ({ dataFolder: join(folder, 'other'), listen: { host: '127.0.0.1', port: taken.port } }),
      says: /127\.0\.0\.1:\d+/,
    },
    {
      name: 'a certificate of a user',
      code: 'permission_denied',
      change: () => ({ trustFolder: join(folder, 'ann') }),
      says: /user\/ann/,
    },
    {
      name: 'a folder without identity files',
      code: 'not_found',
      change: () => ({ trustFolder: join(folder, 'nobody') }),
      says: /nobody/,
    },
  ];
  const taken = { port: 0 };
  for (const { name, code, change, says } of refused)
    test(`refuses ${name} with ${code}, and leaves nothing running`, async () => {
      await using first = await startNode(options());
      taken.port = first.port;
      await assert.rejects(startNode(options(change())), (error) => {
        assert.ok(error instanceof CollectiveError, String(error));
        assert.equal(error.code, code, error.message);
        assert.match(error.message, says);
        return true;
      });
    });
});
