import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { REPOSITORY_ROOT } from './repository.ts';

const PAGE = 'docs/operating/events.md';
/** How an event is recorded, and how jobs tell of one that others record. */
const RECORDED = /\b(?:record|event)\(\s*'([a-z]+(?:-[a-z]+)*)'/g;

function recordedKinds(): string[] {
  const files = globSync('coordinator/src/**/*.ts', { cwd: REPOSITORY_ROOT }).filter(
    (file) => !file.endsWith('.test.ts'),
  );
  const texts = files.map((file) => readFileSync(join(REPOSITORY_ROOT, file), 'utf8'));
  return [...new Set(texts.flatMap((text) => [...text.matchAll(RECORDED)].map(([, kind = '']) => kind)))].sort();
}

/** First cells of the table below the heading "Kinds". */
function describedKinds(): string[] {
  const page = readFileSync(join(REPOSITORY_ROOT, PAGE), 'utf8');
  const section = page.slice(page.indexOf('\n## Kinds\n'), page.indexOf('\n## How to tune it\n'));
  const cells = [...section.matchAll(/^\| (`[^|]*`) \|/gm)].map(([, cell = '']) => cell);
  return cells.flatMap((cell) => [...cell.matchAll(/`([a-z-]+)`/g)].map(([, kind = '']) => kind)).sort();
}

test('the page of events describes every kind that a coordinator records, once, and no other', () => {
  const recorded = recordedKinds();
  assert.ok(recorded.length > 20 && recorded.includes('block-reverted'), `found only ${recorded.join(' ')}`);
  assert.deepEqual(describedKinds(), recorded);
});
