/**
 * The real controllers of Kubernetes beside a test's apiserver, those that a member needs: pods of StatefulSets, jobs, the
 * garbage that owners leave, budgets, quotas, claims that are in use, namespaces that end. Nothing schedules and no pod runs: see `process-kubelet.ts`.
 */
import { join } from 'node:path';
import { findTools } from '@collective/hack/kind/tool-cache';
import { ForeignProcess } from './foreign-process.ts';
import type { TestApiServer } from './test-apiserver.ts';

const CONTROLLERS = [
  'statefulset-controller',
  'job-controller',
  'cronjob-controller',
  'disruption-controller',
  'garbage-collector-controller',
  'persistentvolumeclaim-protection-controller',
  'resourcequota-controller',
  'namespace-controller',
];

export class ControllerManager implements AsyncDisposable {
  readonly #process: ForeignProcess;

  static start(server: TestApiServer): ControllerManager {
    const program = join(findTools(['kube-controller-manager'])['kube-controller-manager'], 'kube-controller-manager');
    return new ControllerManager(
      new ForeignProcess(
        program,
        [
          `--kubeconfig=${server.writeKubeconfig('controller-manager', server.adminKubeconfig)}`,
          `--controllers=${CONTROLLERS.join(',')}`,
          '--leader-elect=false',
          '--secure-port=0',
        ],
        join(server.folder, 'controller-manager.log'),
      ),
    );
  }

  private constructor(process: ForeignProcess) {
    this.#process = process;
  }

  get pid(): number {
    return this.#process.pid;
  }

  get log(): string {
    return this.#process.log;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.end();
  }
}
