import assert from 'node:assert/strict';
import { test } from 'node:test';
import { valuesOf, withVersion } from './chart.ts';

const schema = (properties: object, $defs: object = {}): string => JSON.stringify({ properties, $defs });

test('a value has its comment, its type and its default', () => {
  const values = `# First.\nname: ''\n\npart:\n  # Second,\n  # in two lines.\n  labels:\n    a: b\n  # Third.\n  kind: A\n`;
  const types = schema(
    {
      name: { type: 'string' },
      part: { properties: { labels: { $ref: '#/$defs/labels' }, kind: { enum: ['A', 'B'] } } },
    },
    { labels: { title: 'map of strings', type: 'object' } },
  );
  assert.deepEqual(valuesOf(values, types), [
    { path: 'name', type: 'string', fallback: '""', meaning: 'First.' },
    { path: 'part.labels', type: 'map of strings', fallback: '{"a":"b"}', meaning: 'Second, in two lines.' },
    { path: 'part.kind', type: 'A, B', fallback: '"A"', meaning: 'Third.' },
  ]);
});

test('a value without a comment is refused, and one that a file does not know', () => {
  const string = { type: 'string' };
  assert.throws(() => valuesOf('# A.\na: ""\nb: ""\n', schema({ a: string, b: string })), /Describe b: .* no comment/);
  assert.throws(() => valuesOf('# A.\na: ""\n', schema({})), /Describe a: values\.schema\.json does not name it/);
  assert.throws(() => valuesOf('# A.\na: ""\n', schema({ a: string, b: string })), /values\.yaml does not name b/);
});

test('both versions of a chart are those of the package', () => {
  const chart = 'apiVersion: v2\nversion: 0.0.1\n# Kept.\nappVersion: 0.0.1\n';
  assert.equal(
    withVersion(chart, '1.2.3-rc.1'),
    'apiVersion: v2\nversion: 1.2.3-rc.1\n# Kept.\nappVersion: 1.2.3-rc.1\n',
  );
});
