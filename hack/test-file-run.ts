// Runs one test file in a process of its own and says what became of it. Whatever the file does, there is an outcome: a
// crash, an early exit, a file without tests and one that hangs count as failed. The file gets its own HOME and TMPDIR, so
// that it finds no configuration of the person at the desk, and it is its own process group, so that nothing outlives it.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { environmentOfThisNode, REPOSITORY_ROOT } from './repository.ts';
import type { TestNotice } from './test-event-reporter.ts';

const PERSONAL_VARIABLE = /^(XDG_|COLLECTIVE_|KUBECONFIG$|NODE_TEST_CONTEXT$)/;
const OUTPUT_SHOWN_CHARACTERS_MAX = 16_384;

export type Failure = { readonly title: string; readonly detail: string };
export type Skip = { readonly title: string; readonly reason: string };

export type FileOutcome = {
  readonly path: string;
  readonly passed: number;
  readonly failures: readonly Failure[];
  /** Of an earlier run of the file, beside others; alone it passed. */
  readonly unsteady?: readonly Failure[];
  readonly skips: readonly Skip[];
  /** End of what the file wrote to stdout and stderr. */
  readonly output: string;
  readonly tookMs: number;
};

export type RunOptions = {
  readonly deadlineMs: number;
  /** Runs only tests whose name matches; a file in which none does is then no failure. */
  readonly namePattern?: string | undefined;
};

const running = new Set<ChildProcess>();

/** Ends every test file that still runs, with all that it started. */
export function killRunningFiles(): void {
  for (const child of running) killGroup(child);
}

export async function runTestFile(path: string, options: RunOptions): Promise<FileOutcome> {
  const scratch = mkdtempSync(join(tmpdir(), 'collective-test-'));
  try {
    const startMs = performance.now();
    const ending = await spawnTestFile(path, scratch, options);
    const tookMs = performance.now() - startMs;
    const output = readIfExists(join(scratch, 'output')).slice(-OUTPUT_SHOWN_CHARACTERS_MAX);
    return { path, ...judge(readNotices(scratch), ending, options), output, tookMs };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

type Ending = { readonly code: number | null; readonly signal: string | null; readonly timedOut: boolean };

async function spawnTestFile(path: string, scratch: string, options: RunOptions): Promise<Ending> {
  for (const folder of ['home', 'tmp']) mkdirSync(join(scratch, folder));
  const arguments_ = [
    `--test-reporter=${join(REPOSITORY_ROOT, 'hack/test-event-reporter.ts')}`,
    `--test-reporter-destination=${join(scratch, 'notices')}`,
    ...(options.namePattern === undefined ? [] : [`--test-name-pattern=${options.namePattern}`]),
    resolve(REPOSITORY_ROOT, path),
  ];
  // A file and not a pipe: a process that the test left behind could keep a pipe open for ever.
  const outputFd = openSync(join(scratch, 'output'), 'w');
  const child = spawn(process.execPath, arguments_, {
    cwd: REPOSITORY_ROOT,
    env: hermeticEnvironment(scratch),
    stdio: ['ignore', outputFd, outputFd],
    detached: true,
  });
  closeSync(outputFd);
  running.add(child);
  let timedOut = false;
  const deadline = setTimeout(() => {
    timedOut = true;
    killGroup(child);
  }, options.deadlineMs);
  try {
    return await new Promise<Ending>((settle, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => settle({ code, signal, timedOut }));
    });
  } finally {
    clearTimeout(deadline);
    running.delete(child);
    killGroup(child);
  }
}

/** Nothing of the person's own configuration, and no trace of a node:test that we ourselves may run under. */
function hermeticEnvironment(scratch: string): NodeJS.ProcessEnv {
  const environment = Object.entries(environmentOfThisNode()).filter(([name]) => !PERSONAL_VARIABLE.test(name));
  return { ...Object.fromEntries(environment), HOME: join(scratch, 'home'), TMPDIR: join(scratch, 'tmp') };
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    const nothingLeft = error instanceof Error && 'code' in error && error.code === 'ESRCH';
    if (!nothingLeft) throw error;
  }
}

function readNotices(scratch: string): TestNotice[] {
  const lines = readIfExists(join(scratch, 'notices')).split('\n');
  // The last piece is empty, or a line that a killed process did not finish.
  return lines.slice(0, -1).map((line) => JSON.parse(line) as TestNotice);
}

function readIfExists(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function judge(
  notices: readonly TestNotice[],
  ending: Ending,
  options: RunOptions,
): Pick<FileOutcome, 'passed' | 'failures' | 'skips'> {
  const passed = notices.filter(({ notice }) => notice === 'passed').length;
  const skips = notices.filter((notice) => notice.notice === 'skipped');
  const failures: Failure[] = notices
    .filter((notice) => notice.notice === 'failed')
    .map(({ title, place, error }) => ({ title, detail: `${place}\n${error}` }));
  const fileFailure = failureOfFile(notices, ending, failures.length, options);
  if (fileFailure !== undefined) failures.push({ title: 'the file itself', detail: fileFailure });
  return { passed, failures, skips };
}

function failureOfFile(
  notices: readonly TestNotice[],
  ending: Ending,
  failedTests: number,
  options: RunOptions,
): string | undefined {
  if (ending.timedOut) {
    return `did not end within ${options.deadlineMs} ms and was killed; ${whereItStood(notices)}`;
  }
  if (notices.length === 0 && ending.code === 0)
    return 'it reported no test: it holds none, or it ended its process before they did';
  if (!notices.some(({ notice }) => notice === 'finished')) {
    return `ended before its tests did (${describe(ending)}); not ended: ${unended(notices).join(', ') || 'none begun'}`;
  }
  if (ending.code !== 0 && failedTests === 0) return `no test failed, but the process did: ${describe(ending)}`;
  const ran = notices.some(({ notice }) => notice === 'passed' || notice === 'failed' || notice === 'skipped');
  return ran || options.namePattern !== undefined ? undefined : 'it holds no test';
}

function whereItStood(notices: readonly TestNotice[]): string {
  const pending = unended(notices);
  if (pending.length > 0) return `still running: ${pending.join(', ')}`;
  if (notices.length === 0) return 'it had reported no test yet: something before or in the first test never gave way';
  return 'all its tests ended, but something open (server, timer, child) kept the process alive';
}

function describe({ code, signal }: Ending): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`;
}

function unended(notices: readonly TestNotice[]): string[] {
  const open: string[] = [];
  for (const notice of notices) {
    if (notice.notice === 'begun') open.push(notice.name);
    else if (notice.notice !== 'finished' && open.includes(notice.name)) open.splice(open.indexOf(notice.name), 1);
  }
  return open;
}
