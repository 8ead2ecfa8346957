/**
 * A folder of examples in the cluster, applied with kubectl as its readers do. Its objects have names of their own choice, so
 * two runs cannot be side by side; what an earlier run left is removed first.
 */
import assert from 'node:assert/strict';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kubectl } from '@collective/hack/kind/lab';
import { parseAllDocuments } from 'yaml';
import type { KubeObject } from '../apiserver/api-client.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples');
const GONE_WITHIN = '--timeout=180s';

export class Example implements AsyncDisposable {
  /** A copy, so that a test may put in what its readers are told to. */
  readonly folder: string;

  constructor(name: string) {
    this.folder = mkdtempSync(join(tmpdir(), `example-${name}-`));
    cpSync(join(EXAMPLES, name), this.folder, { recursive: true });
  }

  /** In all files of the folder. */
  replace(before: string, after: string): void {
    let count = 0;
    for (const path of this.#paths()) {
      const text = readFileSync(path, 'utf8');
      count += text.split(before).length - 1;
      writeFileSync(path, text.replaceAll(before, after));
    }
    assert.ok(count > 0, `the example holds ${before}`);
  }

  objects(kind: string): readonly KubeObject[] {
    return this.#paths()
      .flatMap((path) => parseAllDocuments(readFileSync(path, 'utf8')))
      .map((document) => document.toJS() as KubeObject)
      .filter((object) => object.kind === kind);
  }

  async apply(): Promise<void> {
    await kubectl(['apply', '-f', this.folder]);
  }

  /** Members first, while their coordinators can be asked (K3); then the rest, namespaces with all that is in them. */
  async remove(): Promise<void> {
    const gone = ['--ignore-not-found', '--wait', GONE_WITHIN];
    for (const { metadata } of this.objects('Namespace'))
      await kubectl(['delete', 'members.collective.storage', '--all', '-n', metadata.name, ...gone], { mayFail: true });
    await kubectl(['delete', '-f', this.folder, ...gone], { mayFail: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #paths(): string[] {
    return globSync('*.yaml', { cwd: this.folder })
      .sort()
      .map((file) => join(this.folder, file));
  }
}
