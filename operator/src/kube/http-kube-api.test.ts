import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { HttpKubeApi } from './http-kube-api.ts';
import { KubeError, NO_ANSWER } from './kube-error.ts';
import { RESOURCES } from './resources.ts';

test('a watch that is refused by an answer without an end fails at its deadline, and is not waited for any longer', async () => {
  const authority = await ScratchAuthority.create(parseTrustDomain('alice.photos.test'));
  const { certificatePem, keyPem } = await authority.leaf({
    names: [{ type: 'dns', value: 'apiserver.test' }],
    serverAuth: true,
  });
  const server = createServer({ cert: certificatePem, key: keyPem }, (_, response) => {
    response.writeHead(503, { 'content-type': 'text/plain' });
    response.write('one moment');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const access = {
    server: new URL(`https://127.0.0.1:${port}`),
    credentials: async () => ({ headers: {}, tls: { rejectUnauthorized: false } }),
  };
  const bounds = { answerWithinMs: 200 };
  using api = new HttpKubeApi(access, { clock: new SystemClock(), log: silentLog, bounds });
  const cut = AbortSignal.timeout(10_000);
  cut.addEventListener('abort', () => server.closeAllConnections());
  try {
    const watch = api.watch(RESOURCES.configMaps, { resourceVersion: '1' });
    const thrown: unknown = await watch.next().catch((error: unknown) => error);
    assert.ok(thrown instanceof KubeError, String(thrown));
    assert.deepEqual([thrown.status, thrown.reason], [0, NO_ANSWER.timeout]);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});
