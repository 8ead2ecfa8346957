import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SystemClock } from '@collective/base/system-clock';
import { until } from '../until.ts';
import { ForeignProcess } from './foreign-process.ts';
import { configMap, namespaceNamed, OPERATOR } from './operator-side.ts';
import { TcpProxy } from './tcp-proxy.ts';
import { TestApiServer } from './test-apiserver.ts';

const clock = new SystemClock();
const WITHIN_MS = 60_000;
const PROGRAM = join(import.meta.dirname, 'elector/main.ts');

const running = new AsyncDisposableStack();
let server: TestApiServer;
before(async () => {
  server = running.use(await TestApiServer.start());
});
after(() => running.disposeAsync());

class Candidate {
  readonly process: ForeignProcess;
  readonly #output: string;

  constructor(namespace: string, identity: string, kubeconfig: string) {
    this.#output = join(server.folder, `${namespace}-${identity}.log`);
    this.process = running.use(
      new ForeignProcess(process.execPath, [PROGRAM, kubeconfig, namespace, identity], this.#output),
    );
  }

  said(line: string): boolean {
    return readFileSync(this.#output, 'utf8').split('\n').includes(line);
  }

  async leads(): Promise<void> {
    await until(
      () => this.said('leads'),
      'it leads',
      WITHIN_MS,
      () => readFileSync(this.#output, 'utf8'),
    );
  }

  async hasEnded(): Promise<void> {
    await until(
      () => !this.process.isRunning,
      'it has ended',
      WITHIN_MS,
      () => readFileSync(this.#output, 'utf8'),
    );
  }
}

async function candidates(namespace: string, url = server.url): Promise<{ first: Candidate; second: () => Candidate }> {
  await server.admin.apply(namespaceNamed(namespace));
  const disturbed = server.writeKubeconfig(`${namespace}-first`, await server.kubeconfigFor(OPERATOR, url));
  const plain = server.writeKubeconfig(`${namespace}-second`, await server.kubeconfigFor(OPERATOR));
  const first = new Candidate(namespace, 'first', disturbed);
  await first.leads();
  return { first, second: () => new Candidate(namespace, 'second', plain) };
}

const leaderOf = async (namespace: string): Promise<string | undefined> =>
  ((await server.admin.find(configMap(namespace, 'led', {})))?.data as { leader: string } | undefined)?.leader;
const holderOf = async (namespace: string): Promise<string | undefined> => {
  const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { namespace, name: 'operator' } };
  return ((await server.admin.find(lease))?.spec as { holderIdentity?: string } | undefined)?.holderIdentity;
};
/** The other one has looked at the lease at least once. */
const waits = async (candidate: Candidate, identity: string): Promise<void> => {
  await until(
    () => candidate.process.log.includes('another one leads'),
    `${identity} waits`,
    WITHIN_MS,
    () => candidate.process.log,
  );
};

test('a leader that is killed is followed by the other one after 15 s, and work goes on', async () => {
  const { first, second } = await candidates('killed');
  const other = second();
  await waits(other, 'second');
  assert.equal(await leaderOf('killed'), 'first');
  const killedMs = clock.bootMs();
  await first.process.end('SIGKILL');
  await other.leads();
  const afterMs = clock.bootMs() - killedMs;
  assert.ok(afterMs > 10_000 && afterMs < 30_000, `the other one leads after ${Math.round(afterMs)} ms`);
  await until(async () => (await leaderOf('killed')) === 'second', 'the other one does the work', WITHIN_MS);
  assert.equal(await holderOf('killed'), 'second');
  await other.process.end('SIGTERM');
});

test('a leader that is asked to stop gives the lease back, and the other one leads within seconds', async () => {
  const { first, second } = await candidates('stopped');
  const other = second();
  await waits(other, 'second');
  const stoppedMs = clock.bootMs();
  await first.process.end('SIGTERM');
  await other.leads();
  const afterMs = clock.bootMs() - stoppedMs;
  assert.ok(first.said('ended') && first.process.log.includes('lease is given back'), first.process.log);
  assert.ok(afterMs < 10_000, `the other one leads after ${Math.round(afterMs)} ms`);
  await other.process.end('SIGTERM');
  assert.equal(await holderOf('stopped'), undefined);
});

test('a leader that is cut off ends itself before the other one leads', async () => {
  await using proxy = await TcpProxy.to(server.port);
  const { first, second } = await candidates('cut-off', proxy.url);
  const other = second();
  await waits(other, 'second');
  proxy.silence();
  await until(
    () => first.said('ended'),
    'the first one falls silent',
    WITHIN_MS,
    () => first.process.log,
  );
  assert.equal(other.said('leads'), false);
  await other.leads();
  await first.hasEnded();
  assert.match(first.process.log, /Renew the lease of first within 10000 ms/);
  await other.process.end('SIGTERM');
});
