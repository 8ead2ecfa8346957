/**
 * The real controllers of cert-manager beside a test's apiserver: its CRDs, and its controller as a process. Its webhook does
 * not run, so objects are judged by their schema alone and a wrong one is refused later, in its status.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findTools } from '@collective/hack/kind/tool-cache';
import { parse } from 'yaml';
import type { KubeObject } from './api-client.ts';
import { installCrd } from './crds.ts';
import { ForeignProcess } from './foreign-process.ts';
import type { TestApiServer } from './test-apiserver.ts';

export interface CertManagerOptions {
  /** How long a failed issuance waits before the next; an hour by default, as for everybody. */
  readonly firstBackoff?: string;
}

export class CertManager implements AsyncDisposable {
  readonly #controller: ForeignProcess;

  static async start(server: TestApiServer, { firstBackoff = '1h' }: CertManagerOptions = {}): Promise<CertManager> {
    await Promise.all(readCertManagerCrds().map((crd) => installCrd(server, crd)));
    const controller = new ForeignProcess(
      join(toolFolder(), 'cert-manager'),
      [
        'controller',
        `--kubeconfig=${server.writeKubeconfig('cert-manager', server.adminKubeconfig)}`,
        '--internal-healthz-listen-address=127.0.0.1:0',
        `--certificate-request-minimum-backoff-duration=${firstBackoff}`,
      ],
      join(server.folder, 'cert-manager.log'),
    );
    return new CertManager(controller);
  }

  private constructor(controller: ForeignProcess) {
    this.#controller = controller;
  }

  get pid(): number {
    return this.#controller.pid;
  }

  get log(): string {
    return this.#controller.log;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#controller.end();
  }
}

export function readCertManagerCrds(): readonly KubeObject[] {
  const folder = toolFolder();
  const files = globSync('crds/*.yaml', { cwd: folder }).sort();
  return files.map((file) => parse(readFileSync(join(folder, file), 'utf8')) as KubeObject);
}

function toolFolder(): string {
  return findTools(['cert-manager'])['cert-manager'];
}
