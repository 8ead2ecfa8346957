import assert from 'node:assert/strict';
import { test } from 'node:test';
import { globExpression } from './glob.ts';

const cases: { pattern: string; fits: string[]; not: string[] }[] = [
  { pattern: '*.raw', fits: ['a.raw', '.raw', 'a\nb.raw'], not: ['a.rawx', 'raw'] },
  { pattern: 'a?c', fits: ['abc', 'a.c'], not: ['ac', 'abbc'] },
  { pattern: '[abc]1', fits: ['a1', 'c1'], not: ['d1', '1'] },
  { pattern: '[!a-c]1', fits: ['d1'], not: ['a1', 'b1'] },
  { pattern: '[]]', fits: [']'], not: ['['] },
  { pattern: '\\*', fits: ['*'], not: ['a'] },
  { pattern: 'a[', fits: ['a['], not: ['a'] },
  { pattern: 'a.b+(c)', fits: ['a.b+(c)'], not: ['axb+(c)'] },
];

for (const { pattern, fits, not } of cases) {
  test(`the pattern ${pattern} fits what a shell would fit`, () => {
    for (const name of fits) assert.ok(globExpression(pattern).test(name), `${pattern} fits ${JSON.stringify(name)}`);
    for (const name of not) assert.ok(!globExpression(pattern).test(name), `${pattern} does not fit ${name}`);
  });
}

test('--iname takes upper and lower case alike', () => {
  assert.ok(globExpression('*.RAW', 'i').test('a.raw'));
});
