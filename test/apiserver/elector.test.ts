import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type LeaseSpec, specOf } from '@collective/operator/runtime/lease';
import { TcpProxy } from '../tcp-proxy.ts';
import { until } from '../until.ts';
import { ForeignProcess } from './foreign-process.ts';
import { configMap, namespaceNamed, OPERATOR } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const WITHIN_MS = 60_000;
/** Until others may take a lease that was not renewed. */
const LEASE_SECONDS = 15;
const PROGRAM = join(import.meta.dirname, 'elector/main.ts');

/** Told apart from the first one in the audit log. */
const SECOND = { ...OPERATOR, user: 'second' };

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

  /** When it said so for the first time, in milliseconds of the machine's clock, which is that of the other one too. */
  async says(event: string): Promise<number> {
    let atMs: number | undefined;
    await until(
      () => {
        const lines = readFileSync(this.#output, 'utf8').split('\n').slice(0, -1);
        const said = lines.filter((each) => each.startsWith('{')).map((each) => JSON.parse(each) as LogLine);
        const line = said.find((each) => each.event === event);
        atMs = line && Date.parse(line.time);
        return atMs !== undefined;
      },
      `it says: ${event}`,
      WITHIN_MS,
      () => this.process.log,
    );
    assert.ok(atMs !== undefined);
    return atMs;
  }

  /** Since when. */
  async leads(): Promise<number> {
    return await this.says('work begins');
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

interface LogLine {
  readonly time: string;
  readonly event: string;
}

async function candidates(namespace: string, url = server.url): Promise<{ first: Candidate; second: () => Candidate }> {
  await server.admin.apply(namespaceNamed(namespace));
  const disturbed = server.writeKubeconfig(`${namespace}-first`, await server.kubeconfigFor(OPERATOR, url));
  const plain = server.writeKubeconfig(`${namespace}-second`, await server.kubeconfigFor(SECOND));
  const first = new Candidate(namespace, 'first', disturbed);
  await first.leads();
  return { first, second: () => new Candidate(namespace, 'second', plain) };
}

const leaderOf = async (namespace: string): Promise<string | undefined> =>
  ((await server.admin.find(configMap(namespace, 'led', {})))?.data as { leader: string } | undefined)?.leader;
const leaseIn = async (namespace: string): Promise<LeaseSpec> => {
  const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { namespace, name: 'operator' } };
  const found = await server.admin.find(lease);
  return found === undefined ? {} : specOf(found);
};
const holderOf = async (namespace: string): Promise<string | null | undefined> =>
  (await leaseIn(namespace)).holderIdentity;

test('a leader that is killed is followed by the other one after 15 s, and work goes on', async () => {
  const { first, second } = await candidates('killed');
  const other = second();
  await other.says('another one leads');
  await until(async () => (await leaderOf('killed')) === 'first', 'the first one does the work', WITHIN_MS);
  const { renewTime = '' } = await leaseIn('killed');
  await first.process.end('SIGKILL');
  await other.leads();
  const { acquireTime = '' } = await leaseIn('killed');
  const seconds = Math.round((Date.parse(acquireTime) - Date.parse(renewTime)) / 1_000);
  assert.ok(seconds >= LEASE_SECONDS, `renewed at ${renewTime}, taken at ${acquireTime}`);
  await until(async () => (await leaderOf('killed')) === 'second', 'the other one does the work', WITHIN_MS);
  assert.equal(await holderOf('killed'), 'second');
  await other.process.end('SIGTERM');
});

test('a leader that is asked to stop gives the lease back, and the other one takes it when it next looks', async () => {
  const { first, second } = await candidates('stopped');
  const other = second();
  await other.says('another one leads');
  await first.process.end('SIGTERM');
  await first.says('lease is given back');
  const leadsAtMs = await other.leads();
  assert.ok((await first.says('work has ended')) <= leadsAtMs);
  const calls = server
    .auditEvents()
    .filter(({ objectRef }) => objectRef?.resource === 'leases' && objectRef.namespace === 'stopped')
    .map(({ user, verb }) => `${user.username} ${verb}`);
  const released = calls.lastIndexOf(`${OPERATOR.user} patch`);
  const taken = calls.indexOf(`${SECOND.user} patch`);
  assert.ok(released >= 0 && taken > released, calls.join(', '));
  // One look may have begun before, and does not see it.
  assert.ok(taken - released <= 3, calls.join(', '));
  await other.process.end('SIGTERM');
  assert.equal(await holderOf('stopped'), undefined);
});

test('a leader that is cut off ends itself before the other one leads', async () => {
  await using proxy = await TcpProxy.to(server.port);
  const { first, second } = await candidates('cut-off', proxy.url);
  const other = second();
  await other.says('another one leads');
  proxy.silence();
  const silentAtMs = await first.says('work has ended');
  const leadsAtMs = await other.leads();
  assert.ok(silentAtMs < leadsAtMs, `silent at ${silentAtMs}, the other one leads at ${leadsAtMs}`);
  await first.hasEnded();
  assert.match(first.process.log, /Renew the lease of first within 10000 ms/);
  await other.process.end('SIGTERM');
});
