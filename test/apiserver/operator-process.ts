/**
 * The operator as a pod runs it: its command, as a process of its own with the token of its account, ended by SIGTERM. It tells
 * what it uses: processor time and memory as Linux counts them, and its own metrics.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts } from '../integration/free-ports.ts';
import { type ProcessUsage, usageOf } from '../process-usage.ts';
import { ForeignProcess } from './foreign-process.ts';
import { RELEASE_NAMESPACE } from './helm.ts';
import { Kubectl } from './kubectl.ts';
import type { TestApiServer } from './test-apiserver.ts';

const PROGRAM = join(import.meta.dirname, '../../operator/bin/collective-operator');
/** The heap that V8 gives itself under the memory limit of the chart, 512 MiB. */
const HEAP_MIB = 256;
const READY_WITHIN_MS = 60_000;
const ASK_WITHIN_MS = 5_000;
const ACCOUNT = 'collective-operator';
/** How its calls are named in the audit log, from the first letter on. */
export const OPERATOR_PROCESS_AGENT = 'collective-operator/';

export interface OperatorProcessOptions {
  readonly server: TestApiServer;
  /** Names of the cluster -> addresses of the loopback. */
  readonly names: Readonly<Record<string, string>>;
  /** Without a Lease, where a machine has so much else to do that it would be lost. */
  readonly leaderElect?: boolean;
}

let started = 0;

export class OperatorProcess implements AsyncDisposable {
  readonly #process: ForeignProcess;
  readonly #metricsUrl: string;

  /** Returns when it leads and has seen all that there is. */
  static async start({ server, names, leaderElect = true }: OperatorProcessOptions): Promise<OperatorProcess> {
    const name = `operator-process-${++started}`;
    const accountFolder = await accountFiles(server, join(server.folder, name));
    const [health = 0, metrics = 0] = await freePorts(2);
    const args = [
      `--namespace=${RELEASE_NAMESPACE}`,
      '--image=collective:test',
      '--network-policies=true',
      `--leader-elect=${leaderElect}`,
      `--health-listen=127.0.0.1:${health}`,
      `--metrics-listen=127.0.0.1:${metrics}`,
    ];
    const env = {
      KUBECONFIG: '',
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(server.port),
      NODE_OPTIONS: `--import=${join(import.meta.dirname, 'in-a-pod.ts')} --max-old-space-size=${HEAP_MIB}`,
      IN_A_POD: JSON.stringify({ names, accountFolder }),
    };
    const process = new ForeignProcess(PROGRAM, args, join(server.folder, `${name}.log`), env);
    const operator = new OperatorProcess(process, `http://127.0.0.1:${metrics}/metrics`);
    try {
      // Its controllers begin when it leads and has seen all kinds.
      const workers = 'controller_runtime_max_concurrent_reconciles';
      await process.ready(async () => (await operator.metric(workers)) > 0, READY_WITHIN_MS);
      const ready = `http://127.0.0.1:${health}/readyz`;
      await process.ready(async () => (await fetch(ready)).ok, READY_WITHIN_MS);
      return operator;
    } catch (thrown) {
      await process.end();
      throw thrown;
    }
  }

  private constructor(process: ForeignProcess, metricsUrl: string) {
    this.#process = process;
    this.#metricsUrl = metricsUrl;
  }

  get log(): string {
    return this.#process.log;
  }

  /** It ends by itself when it loses its Lease, say; here nobody starts it again. */
  throwIfEnded(): void {
    assert.ok(this.#process.isRunning, `the operator has ended:\n${this.#process.log}`);
  }

  get usage(): ProcessUsage {
    return usageOf(this.#process.pid);
  }

  async metricsText(): Promise<string> {
    const answer = await fetch(this.#metricsUrl, { signal: AbortSignal.timeout(ASK_WITHIN_MS) });
    return await answer.text();
  }

  /** The sum over all series of that name and these labels; 0 while nobody listens. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const text = await this.metricsText().catch(() => '');
    const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
    return text
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .filter((line) => wanted.every((label) => line.includes(label)))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
  }

  /** As Kubernetes ends a pod; answers how long it took. */
  async stop(): Promise<number> {
    const startMs = performance.now();
    await this.#process.end('SIGTERM');
    return performance.now() - startMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.end();
  }
}

/** As kubelet lays them for a pod of the account. */
async function accountFiles(server: TestApiServer, folder: string): Promise<string> {
  const metadata = { name: ACCOUNT, namespace: RELEASE_NAMESPACE };
  await server.admin.apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata });
  const kubectl = new Kubectl(server);
  const token = await kubectl.run('create', 'token', ACCOUNT, '-n', RELEASE_NAMESPACE, '--duration=24h');
  mkdirSync(folder, { recursive: true });
  const files = { token, 'ca.crt': server.caPem, namespace: RELEASE_NAMESPACE };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text, { mode: 0o600 });
  return folder;
}
