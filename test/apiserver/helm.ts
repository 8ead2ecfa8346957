/** helm as a person runs it, on the chart of this tree. Without a server it renders, with one it installs. */
import { execFile } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findTools } from '@collective/hack/kind/tool-cache';
import { KUBERNETES_VERSION } from '@collective/hack/kind/tools';
import { parseAllDocuments } from 'yaml';
import type { KubeObject } from './api-client.ts';
import type { TestApiServer } from './test-apiserver.ts';

export const CHART = join(import.meta.dirname, '../../charts/collective');
export const RELEASE = 'collective';
export const RELEASE_NAMESPACE = 'collective-system';

const ANSWER_WITHIN_MS = 120_000;
const run = promisify(execFile);

export class Helm {
  readonly #program = join(findTools(['helm']).helm, 'helm');
  readonly #environment: NodeJS.ProcessEnv;

  constructor(server?: TestApiServer) {
    const KUBECONFIG = server?.writeKubeconfig('helm', server.adminKubeconfig) ?? '/dev/null';
    this.#environment = { HOME: mkdtempSync(join(tmpdir(), 'collective-helm-')), KUBECONFIG };
  }

  /** Its standard output; fails with what it said when it fails. */
  async run(...args: readonly string[]): Promise<string> {
    const { stdout } = await run(this.#program, args, { env: this.#environment, timeout: ANSWER_WITHIN_MS });
    return stdout;
  }

  async render(...args: readonly string[]): Promise<readonly KubeObject[]> {
    const where = ['--namespace', RELEASE_NAMESPACE, '--kube-version', KUBERNETES_VERSION];
    const text = await this.run('template', RELEASE, CHART, ...where, ...args);
    return parseAllDocuments(text)
      .map((document) => document.toJS() as KubeObject | null)
      .filter((object) => object !== null);
  }
}
