// What became of the test files of one state of the tree, kept on this machine, so that a long run which was ended goes on where it
// stood (`npm test -- --resume`). A state is all files that git knows or would take, as they lie; the page with the results is
// left out, or noting a result would undo it. Only a whole success counts: what failed, or ran in part, runs again.

import { createHash } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import type { FileOutcome } from './test-file-run.ts';

const KEY_CHARACTERS = 20;
const UNUSED_DAYS_MAX = 30;
const DAY_MS = 86_400_000;
const RESULTS_PAGE = 'docs/status.md';

/** Of a file that passed: `output` is not kept. */
export type KeptResult = Omit<FileOutcome, 'failures' | 'unsteady' | 'output'> & { readonly commit: string };

export class TestResults {
  readonly key: string;
  readonly #file: string;
  readonly #commit: string;
  readonly #passed = new Map<string, KeptResult>();

  private constructor(folder: string, key: string, commit: string) {
    this.key = key;
    this.#file = join(folder, `${key}.jsonl`);
    this.#commit = commit;
  }

  /** Those in `folder` of the state `key`. */
  static open(folder: string, { key, commit }: { readonly key: string; readonly commit: string }): TestResults {
    mkdirSync(folder, { recursive: true });
    for (const name of readdirSync(folder)) {
      if (Date.now() - statSync(join(folder, name)).mtimeMs > UNUSED_DAYS_MAX * DAY_MS) rmSync(join(folder, name));
    }
    const results = new TestResults(folder, key, commit);
    if (existsSync(results.#file)) results.#read(readFileSync(results.#file, 'utf8'));
    return results;
  }

  passed(path: string): KeptResult | undefined {
    return this.#passed.get(path);
  }

  keep(outcome: FileOutcome): void {
    if (outcome.failures.length > 0) return;
    const { path, passed, skips, tookMs } = outcome;
    const kept: KeptResult = { path, passed, skips, tookMs, commit: this.#commit };
    this.#passed.set(path, kept);
    appendFileSync(this.#file, `${JSON.stringify(kept)}\n`);
  }

  /** As rows of a table in Markdown, for the page of results. */
  table(paths: readonly string[]): string {
    const rows = paths.flatMap((path) => {
      const kept = this.#passed.get(path);
      if (kept === undefined) return [];
      const skipped = kept.skips.length === 0 ? '' : `, ${kept.skips.length} skipped`;
      return [`| ${path} | ${kept.passed} passed${skipped} | ${(kept.tookMs / 1000).toFixed(0)} s | ${kept.commit} |`];
    });
    return ['| file | result | took | at |', '| --- | --- | --- | --- |', ...rows].join('\n');
  }

  #read(text: string): void {
    const lines = text.split('\n');
    // A line that a killed process did not finish must not swallow the next one.
    const torn = lines.pop() ?? '';
    if (torn !== '') truncateSync(this.#file, Buffer.byteLength(text) - Buffer.byteLength(torn));
    for (const line of lines) {
      const kept = JSON.parse(line) as KeptResult;
      this.#passed.set(kept.path, kept);
    }
  }
}

/** Of the given files below `root`: names, modes and bytes. */
export function stateOf(root: string, paths: readonly string[]): string {
  const hash = createHash('sha256');
  for (const path of paths) {
    if (path === RESULTS_PAGE) continue;
    const found = lstatSync(join(root, path));
    const bytes = found.isSymbolicLink() ? Buffer.from(readlinkSync(join(root, path))) : readFileSync(join(root, path));
    hash.update(`\n${path} ${found.mode} ${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex').slice(0, KEY_CHARACTERS);
}
