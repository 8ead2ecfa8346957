import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';

const FOLDER = join(import.meta.dirname, '../crds');

test('K1: kubectl and Helm, which read YAML 1.1, read the kinds as they are meant: no word in them is a truth value there', () => {
  const files = globSync('*.yaml', { cwd: FOLDER });
  assert.ok(files.length > 0);
  for (const file of files) {
    const text = readFileSync(join(FOLDER, file), 'utf8');
    assert.deepEqual(parse(text, { version: '1.1' }), parse(text), file);
  }
});
