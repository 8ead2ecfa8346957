// `npm test`: runs the tests of every workspace, level by level, and prints a line a file, every failure in full, a count a
// level and as the very last line "N passed, N failed". The exit code is 1 when a test failed or none ran.
//   npm test -- base crc.test          files whose path contains one of these
//   npm test -- --name "D4"            tests whose name matches
//   npm test -- --level unit           one level; `full` runs only so
//   npm test -- --concurrency 1 --deadline-ms 60000

import { parseArgs } from 'node:util';
import { REPOSITORY_ROOT, workspaceFolders } from './repository.ts';
import { type FileOutcome, killRunningFiles, type RunOptions, runTestFile } from './test-file-run.ts';
import { DEFAULT_LEVELS, findTestFiles, levelOf, SERIAL_LEVELS, TEST_LEVELS, type TestLevel } from './test-levels.ts';

const FILE_DEADLINE_MS = 10 * 60_000;
const CONCURRENT_FILES = 2;

type Counts = { passed: number; failed: number; skipped: number };

let stoppedBy: 'SIGINT' | 'SIGTERM' | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    stoppedBy = signal;
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
    },
  });
  const files = findTestFiles(REPOSITORY_ROOT, workspaceFolders()).filter((path) => matches(path, positionals));
  const options: RunOptions = { deadlineMs: Number(values['deadline-ms']), namePattern: values.name };
  const startMs = performance.now();
  const outcomes: FileOutcome[] = [];
  for (const level of TEST_LEVELS.filter((known) => values.level.includes(known))) {
    const concurrency = SERIAL_LEVELS.has(level) ? 1 : Number(values.concurrency);
    outcomes.push(...(await runLevel(level, files, concurrency, options)));
  }
  if (stoppedBy !== undefined) return stoppedBy === 'SIGINT' ? 130 : 143;
  return summarise(outcomes, performance.now() - startMs);
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
  concurrency: number,
  options: RunOptions,
): Promise<FileOutcome[]> {
  const waiting = files.filter((path) => levelOf(path) === level);
  if (waiting.length === 0) return [];
  const startMs = performance.now();
  const outcomes: FileOutcome[] = [];
  const work = async (): Promise<void> => {
    for (let path = waiting.shift(); path !== undefined && stoppedBy === undefined; path = waiting.shift()) {
      const outcome = await runTestFile(path, options);
      outcomes.push(outcome);
      printFile(outcome);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  console.log(
    `${level}: ${describe(count(outcomes))} in ${outcomes.length} files, ${seconds(performance.now() - startMs)}\n`,
  );
  return outcomes;
}

function printFile({ path, passed, failures, skips, output, tookMs }: FileOutcome): void {
  const tests = passed + failures.length + skips.length;
  console.log(`${failures.length === 0 ? 'ok    ' : 'FAILED'} ${path} (${tests} tests, ${seconds(tookMs)})`);
  if (failures.length === 0) return;
  for (const { title, detail } of failures) console.log(`\n  failed: ${title}\n${indent(detail)}`);
  if (output.trim() !== '') console.log(`\n  end of its output:\n${indent(output.trimEnd())}`);
  console.log('');
}

function summarise(outcomes: readonly FileOutcome[], tookMs: number): number {
  const skipped = outcomes.flatMap(({ path, skips }) => skips.map((skip) => ({ path, ...skip })));
  if (skipped.length > 0) console.log('Skipped:');
  for (const { path, title, reason } of skipped) console.log(`  ${path}: ${title}: ${reason}`);
  const failures = outcomes.flatMap(({ path, failures }) => failures.map(({ title }) => ({ path, title })));
  if (failures.length > 0) console.log('Failed:');
  for (const { path, title } of failures) console.log(`  ${path}: ${title}`);
  const counts = count(outcomes);
  if (counts.passed + counts.failed === 0) console.log('No test ran.');
  console.log(`Total time ${seconds(tookMs)}`);
  console.log(describe(counts));
  return counts.failed > 0 || counts.passed === 0 ? 1 : 0;
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
