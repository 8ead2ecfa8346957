import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { FileOutcome } from './test-file-run.ts';
import { stateOf, TestResults } from './test-results.ts';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'test-results-'));
});
after(() => rmSync(folder, { recursive: true }));

const outcome = (path: string, change: Partial<FileOutcome> = {}): FileOutcome => ({
  path,
  passed: 2,
  failures: [],
  skips: [],
  output: 'much',
  tookMs: 61_400,
  ...change,
});

test('what passed is known to the next run of the same state, what failed is not', () => {
  const first = TestResults.open(folder, { key: 'one', commit: 'abc' });
  first.keep(outcome('a.test.ts'));
  first.keep(outcome('b.test.ts', { failures: [{ title: 'bad', detail: '' }] }));
  const next = TestResults.open(folder, { key: 'one', commit: 'def' });
  assert.deepEqual(next.passed('a.test.ts'), {
    path: 'a.test.ts',
    passed: 2,
    skips: [],
    tookMs: 61_400,
    commit: 'abc',
  });
  assert.equal(next.passed('b.test.ts'), undefined);
  assert.equal(TestResults.open(folder, { key: 'two', commit: 'abc' }).passed('a.test.ts'), undefined);
});

test('a line that a killed run did not finish is left out', () => {
  const first = TestResults.open(folder, { key: 'torn', commit: 'abc' });
  first.keep(outcome('a.test.ts'));
  appendFileSync(join(folder, 'torn.jsonl'), '{"path":"b.te');
  const next = TestResults.open(folder, { key: 'torn', commit: 'abc' });
  assert.equal(next.passed('a.test.ts')?.passed, 2);
  assert.equal(next.passed('b.test.ts'), undefined);
  next.keep(outcome('c.test.ts'));
  assert.equal(TestResults.open(folder, { key: 'torn', commit: 'abc' }).passed('c.test.ts')?.passed, 2);
});

test('the table has a row for each file that passed', () => {
  const results = TestResults.open(folder, { key: 'table', commit: 'abc' });
  results.keep(outcome('a.test.ts'));
  results.keep(outcome('b.test.ts', { passed: 1, skips: [{ title: 'later', reason: 'no disk' }] }));
  assert.deepEqual(results.table(['b.test.ts', 'a.test.ts', 'c.test.ts']).split('\n').slice(2), [
    '| b.test.ts | 1 passed, 1 skipped | 61 s | abc |',
    '| a.test.ts | 2 passed | 61 s | abc |',
  ]);
});

test('a state is another one when a file of the tree is, and the page of results does not count', () => {
  const root = join(folder, 'tree');
  mkdirSync(join(root, 'docs'), { recursive: true });
  const paths = ['a.ts', 'docs/status.md'];
  for (const path of paths) writeFileSync(join(root, path), 'before');
  const before = stateOf(root, paths);
  writeFileSync(join(root, 'docs/status.md'), 'after');
  assert.equal(stateOf(root, paths), before);
  writeFileSync(join(root, 'a.ts'), 'after');
  assert.notEqual(stateOf(root, paths), before);
});
