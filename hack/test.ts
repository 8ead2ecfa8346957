// `npm test`: runs the tests of every workspace, level by level, and prints a line a file, every failure in full, a count a
// level and as the very last line "N passed, N failed". The exit code is 1 when a test failed or none ran.
//   npm test -- base crc.test          files whose path contains one of these
//   npm test -- --name "D4"            tests whose name matches
//   npm test -- --level unit           one level; `full` runs only so
//   npm test -- --concurrency 1 --deadline-ms 60000
//   npm test -- --second-look          what fails among real processes runs once more, alone; what passes then is shown as unsteady
//   npm test -- --level e2e-full --resume   leaves out files that passed on this very tree; a table of all results at the end

import { userInfo } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { listFiles, REPOSITORY_ROOT, workspaceFolders } from './repository.ts';
import { LEVELS_LOOKED_AT_TWICE, lookAgain, SECOND_LOOKS_MAX } from './second-look.ts';
import { type Failure, type FileOutcome, killRunningFiles, type RunOptions, runTestFile } from './test-file-run.ts';
import {
  DEFAULT_LEVELS,
  findTestFiles,
  KEPT_LEVELS,
  levelOf,
  PREPARED_BY,
  SERIAL_LEVELS,
  TEST_LEVELS,
  type TestLevel,
} from './test-levels.ts';
import { stateOf, TestResults } from './test-results.ts';

const FILE_DEADLINE_MS = 10 * 60_000;
const CONCURRENT_FILES = 2;
/** A cold build of Kubernetes takes some twenty minutes on two cores. */
const PREPARE_WITHIN_MS = 50 * 60_000;
const OUTPUT_KEPT = 20_000;
/** In the list at the end, for readers who have only the end. */
const DETAIL_LINES_MAX = 12;

type Counts = { passed: number; failed: number; skipped: number };

const preparing = new AbortController();
let stoppedBy: 'SIGINT' | 'SIGTERM' | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    stoppedBy = signal;
    preparing.abort();
    killRunningFiles();
  });
}

process.exitCode = await main();

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      level: { type: 'string', multiple: true, default: [...DEFAULT_LEVELS] },
      name: { type: 'string' },
      concurrency: { type: 'string', default: String(CONCURRENT_FILES) },
      'deadline-ms': { type: 'string', default: String(FILE_DEADLINE_MS) },
      resume: { type: 'boolean', default: false },
      'second-look': { type: 'boolean', default: false },
    },
  });
  const files = findTestFiles(REPOSITORY_ROOT, workspaceFolders()).filter((path) => matches(path, positionals));
  const levels = TEST_LEVELS.filter((known) => values.level.includes(known));
  // A part of a file says nothing about the whole of it.
  const keeps = values.name === undefined && levels.some((level) => KEPT_LEVELS.has(level));
  const results = keeps ? await openResults() : undefined;
  const options: RunOptions = { deadlineMs: Number(values['deadline-ms']), namePattern: values.name };
  const startMs = performance.now();
  const outcomes: FileOutcome[] = [];
  let secondLooks = values['second-look'] ? SECOND_LOOKS_MAX : 0;
  for (const level of levels) {
    const concurrency = SERIAL_LEVELS.has(level) ? 1 : Number(values.concurrency);
    const ofLevel = files.filter((path) => levelOf(path) === level);
    const waiting = values.resume ? ofLevel.filter((path) => results?.passed(path) === undefined) : ofLevel;
    if (waiting.length < ofLevel.length)
      console.log(`${level}: ${ofLevel.length - waiting.length} files passed before`);
    const first = await runLevel(
      level,
      waiting,
      { concurrency, ...options },
      KEPT_LEVELS.has(level) ? results : undefined,
    );
    const looked = LEVELS_LOOKED_AT_TWICE.has(level)
      ? await lookAgain(first, secondLooks, (path) => runAgain(path, options))
      : first;
    secondLooks -= looked.filter((outcome) => !first.includes(outcome)).length;
    outcomes.push(...looked);
  }
  if (stoppedBy !== undefined) return stoppedBy === 'SIGINT' ? 130 : 143;
  const wanted = files.filter((path) => levels.includes(levelOf(path)));
  const hasAll = values.resume && wanted.length > 0 && wanted.every((path) => results?.passed(path) !== undefined);
  if (values.resume && results !== undefined) console.log(`${results.table(wanted)}\n`);
  return summarise(outcomes, performance.now() - startMs, hasAll);
}

async function openResults(): Promise<TestResults> {
  const key = await presentState();
  const described = await execa('git', ['-c', 'safe.directory=*', 'describe', '--always', '--dirty'], {
    cwd: REPOSITORY_ROOT,
  });
  const folder = join(process.env.XDG_CACHE_HOME ?? join(userInfo().homedir, '.cache'), 'collective/test-results');
  return TestResults.open(folder, { key, commit: described.stdout });
}

async function presentState(): Promise<string> {
  return stateOf(REPOSITORY_ROOT, await listFiles());
}

function matches(path: string, wanted: readonly string[]): boolean {
  return (
    wanted.length === 0 ||
    wanted.some((piece) => path.includes(piece.replace(/^\.\//, '').replace(`${REPOSITORY_ROOT}/`, '')))
  );
}

async function runLevel(
  level: TestLevel,
  files: readonly string[],
  { concurrency, ...options }: RunOptions & { readonly concurrency: number },
  results: TestResults | undefined,
): Promise<FileOutcome[]> {
  const waiting = [...files];
  if (waiting.length === 0) return [];
  const startMs = performance.now();
  const unready = await prepare(level);
  if (unready !== undefined) {
    printFile(unready);
    return [unready];
  }
  const outcomes: FileOutcome[] = [];
  const work = async (): Promise<void> => {
    for (let path = waiting.shift(); path !== undefined && stoppedBy === undefined; path = waiting.shift()) {
      const outcome = await runTestFile(path, options);
      outcomes.push(outcome);
      // Somebody may have gone on working on the tree meanwhile.
      if (results !== undefined && stoppedBy === undefined && results.key === (await presentState()))
        results.keep(outcome);
      printFile(outcome);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  console.log(
    `${level}: ${describe(count(outcomes))} in ${outcomes.length} files, ${seconds(performance.now() - startMs)}\n`,
  );
  return outcomes;
}

async function runAgain(path: string, options: RunOptions): Promise<FileOutcome> {
  console.log(`${path} failed beside other files: once more, alone`);
  const outcome = await runTestFile(path, options);
  printFile(outcome);
  return outcome;
}

/** Makes what the level needs. Undefined when it is there; what went wrong counts as one failed test. */
async function prepare(level: TestLevel): Promise<FileOutcome | undefined> {
  const startMs = performance.now();
  for (const command of PREPARED_BY[level] ?? []) {
    if (stoppedBy !== undefined) return undefined;
    const ran = await execa(join(REPOSITORY_ROOT, 'hack/node'), command, {
      cwd: REPOSITORY_ROOT,
      all: true,
      reject: false,
      timeout: PREPARE_WITHIN_MS,
      cancelSignal: preparing.signal,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    if (!ran.failed) continue;
    const title = `make what the level ${level} needs: hack/node ${command.join(' ')}`;
    const failure = {
      title,
      detail: ran.timedOut ? `not done within ${PREPARE_WITHIN_MS} ms` : String(ran.shortMessage),
    };
    return {
      path: command[0] ?? '',
      passed: 0,
      failures: [failure],
      skips: [],
      output: ran.all.slice(-OUTPUT_KEPT),
      tookMs: performance.now() - startMs,
    };
  }
  return undefined;
}

function printFile({ path, passed, failures, skips, output, tookMs }: FileOutcome): void {
  const tests = passed + failures.length + skips.length;
  console.log(`${failures.length === 0 ? 'ok    ' : 'FAILED'} ${path} (${tests} tests, ${seconds(tookMs)})`);
  if (failures.length === 0) return;
  for (const { title, detail } of failures) console.log(`\n  failed: ${title}\n${indent(detail)}`);
  if (output.trim() !== '') console.log(`\n  end of its output:\n${indent(output.trimEnd())}`);
  console.log('');
}

function summarise(outcomes: readonly FileOutcome[], tookMs: number, passedBefore: boolean): number {
  const skipped = outcomes.flatMap(({ path, skips }) => skips.map((skip) => ({ path, ...skip })));
  if (skipped.length > 0) console.log('Skipped:');
  for (const { path, title, reason } of skipped) console.log(`  ${path}: ${title}: ${reason}`);
  const unsteady = outcomes.flatMap(({ path, unsteady = [] }) => unsteady.map((failure) => ({ path, ...failure })));
  list('Unsteady, failed beside other files and passed alone; each is a defect to be found:', unsteady);
  const failures = outcomes.flatMap(({ path, failures }) => failures.map((failure) => ({ path, ...failure })));
  list('Failed:', failures);
  const counts = count(outcomes);
  if (counts.passed + counts.failed === 0) console.log(passedBefore ? 'Every file passed before.' : 'No test ran.');
  console.log(`Total time ${seconds(tookMs)}`);
  console.log(describe(counts));
  return counts.failed > 0 || (counts.passed === 0 && !passedBefore) ? 1 : 0;
}

function list(heading: string, failures: readonly (Failure & { readonly path: string })[]): void {
  if (failures.length > 0) console.log(heading);
  for (const { path, title, detail } of failures) {
    console.log(`  ${path}: ${title}`);
    console.log(indent(detail.split('\n').slice(0, DETAIL_LINES_MAX).join('\n')));
  }
}

function count(outcomes: readonly FileOutcome[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed, failures, skips } of outcomes) {
    counts.passed += passed;
    counts.failed += failures.length;
    counts.skipped += skips.length;
  }
  return counts;
}

function describe({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '    ');
}
