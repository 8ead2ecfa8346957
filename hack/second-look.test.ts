import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lookAgain } from './second-look.ts';
import type { FileOutcome } from './test-file-run.ts';

const FAILURE = { title: 'bad', detail: 'a.test.ts:3\nwanted 1' };
const outcome = (path: string, change: Partial<FileOutcome> = {}): FileOutcome => ({
  path,
  passed: 2,
  failures: [],
  skips: [],
  output: '',
  tookMs: 1,
  ...change,
});
const failed = (path: string): FileOutcome => outcome(path, { failures: [FAILURE] });

async function look(
  outcomes: readonly FileOutcome[],
  most: number,
  seconds: readonly FileOutcome[] = [],
): Promise<{ looked: FileOutcome[]; ran: string[] }> {
  const ran: string[] = [];
  const looked = await lookAgain(outcomes, most, async (path) => {
    ran.push(path);
    const second = seconds.find((each) => each.path === path);
    assert.ok(second !== undefined, `${path} is not to run again`);
    return second;
  });
  return { looked, ran };
}

test('what passes at the second time keeps the failure of the first, and what passed does not run again', async () => {
  const { looked, ran } = await look([outcome('a'), failed('b')], 3, [outcome('b', { passed: 3 })]);
  assert.deepEqual(ran, ['b']);
  assert.deepEqual(looked, [outcome('a'), outcome('b', { passed: 3, unsteady: [FAILURE] })]);
});

test('what fails again has failed', async () => {
  const second = outcome('b', { failures: [FAILURE, { title: 'worse', detail: '' }] });
  const { looked } = await look([failed('b')], 3, [second]);
  assert.deepEqual(looked, [second]);
});

test('when more fail than may, none runs again', async () => {
  const outcomes = [failed('a'), outcome('b'), failed('c')];
  const { looked, ran } = await look(outcomes, 1);
  assert.deepEqual([looked, ran], [outcomes, []]);
});
