/**
 * One of several operators as a process of its own, which a test kills; who leads is said by the Lease. One that ends by itself, as when
 * the apiserver was away for too long to keep the Lease, is started again as kubelet does.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../until.ts';
import { ForeignProcess } from './foreign-process.ts';
import { RELEASE_NAMESPACE } from './helm.ts';
import { type MemberWorld, NAMESPACE } from './member-world.ts';
import { OPERATOR_ACCOUNT } from './operator-account.ts';

const PROGRAM = join(import.meta.dirname, 'operator-replica/main.ts');
/** A killed leader is followed after 15 s; the rest is for a busy machine. */
const LEADS_WITHIN_MS = 90_000;
const STARTED_AGAIN_AFTER_MS = 500;

let replicas = 0;

export class OperatorReplica implements AsyncDisposable {
  readonly #start: () => ForeignProcess;
  readonly #logFile: string;
  readonly #keeping: NodeJS.Timeout;
  #process: ForeignProcess;

  /** `members`: names of those that it will have to ask. */
  static async start(world: MemberWorld, members: readonly string[]): Promise<OperatorReplica> {
    const { server, kubelet } = world;
    const name = String(++replicas);
    const names = members.map((member) => `${member}-coordinator.${NAMESPACE}.svc:7420`);
    const addresses = join(server.folder, `addresses-${name}.json`);
    writeFileSync(addresses, JSON.stringify(Object.fromEntries(names.map((each) => [each, kubelet.resolve(each)]))));
    const kubeconfig = server.writeKubeconfig(`replica-${name}`, await server.kubeconfigFor(OPERATOR_ACCOUNT));
    return new OperatorReplica(addresses, kubeconfig, join(server.folder, `replica-${name}.log`));
  }

  private constructor(addresses: string, kubeconfig: string, logFile: string) {
    const flags = [
      ...['--kubeconfig', kubeconfig, '--namespace', RELEASE_NAMESPACE, '--image', 'collective:test'],
      ...['--health-listen', 'off', '--metrics-listen', 'off', '--log-level', 'debug'],
    ];
    this.#logFile = logFile;
    this.#start = () => new ForeignProcess(process.execPath, [PROGRAM, addresses, ...flags], logFile);
    this.#process = this.#start();
    this.#keeping = setInterval(() => {
      if (!this.#process.isRunning) this.#process = this.#start();
    }, STARTED_AGAIN_AFTER_MS);
  }

  get log(): string {
    return readFileSync(this.#logFile, 'utf8');
  }

  async leads(): Promise<void> {
    await this.#says('"event":"leads"', 'it leads');
  }

  /** Another one leads, and it has seen so. */
  async waits(): Promise<void> {
    await this.#says('"event":"another one leads"', 'it waits');
  }

  /** Nothing of it runs when this resolves, and it does not come back. */
  async kill(): Promise<void> {
    clearInterval(this.#keeping);
    await this.#process.end('SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #says(line: string, what: string): Promise<void> {
    await until(
      () => this.log.includes(line),
      what,
      LEADS_WITHIN_MS,
      () => this.log.slice(-4_000),
    );
  }
}
