/** kubectl as a person runs it against a test's apiserver: arguments in, what it prints out. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findTools } from '@collective/hack/kind/tool-cache';
import type { TestApiServer } from './test-apiserver.ts';

const ANSWER_WITHIN_MS = 60_000;
const run = promisify(execFile);

export class Kubectl {
  readonly #program = join(findTools(['kubectl']).kubectl, 'kubectl');
  readonly #environment: NodeJS.ProcessEnv;

  constructor(server: TestApiServer) {
    // What it learns of the server's kinds it keeps in its HOME.
    const KUBECONFIG = server.writeKubeconfig('kubectl', server.adminKubeconfig);
    this.#environment = { KUBECONFIG, HOME: server.folder };
  }

  /** Its standard output; fails with what it said when it fails. */
  async run(...args: readonly string[]): Promise<string> {
    const { stdout } = await run(this.#program, args, { env: this.#environment, timeout: ANSWER_WITHIN_MS });
    return stdout;
  }

  /** What it prints out, also when its exit code says no. */
  async ask(...args: readonly string[]): Promise<string> {
    try {
      return await this.run(...args);
    } catch (thrown) {
      const { code, stdout } = thrown as { code?: unknown; stdout?: string };
      if (code === 1 && stdout !== undefined && stdout !== '') return stdout;
      throw thrown;
    }
  }

  /** The cells of a table that it prints, the head first. Only for tables without blanks in cells. */
  async table(...args: readonly string[]): Promise<readonly (readonly string[])[]> {
    const lines = (await this.run(...args)).trimEnd().split('\n');
    return lines.map((line) => line.trimEnd().split(/\s+/));
  }
}
