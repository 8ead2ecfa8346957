import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findHouseRuleBreaches } from './check-house-rules.ts';

function breaches(path: string, text: string): string[] {
  return findHouseRuleBreaches([{ path, text }]).map(({ line, message }) => `${line}: ${message}`);
}

// Forbidden words are put together here, so that the check finds them in the fixtures and not in this file.
const mark = ['TO', 'DO'].join('');
const machine = ['', 'work', 'main'].join('/');

const refused = [
  ['an unfinished mark in a comment', 'base/src/a.ts', `export {};\n// ${mark}: later`, /^2: ".*": do it now/],
  ['an unfinished mark in a proto file', 'protocol/proto/a.proto', `// ${mark}`, /^1: ".*": do it now/],
  ['an unfinished mark in a shell script', 'hack/up', `#!/bin/sh\n# ${mark}`, /^2: ".*": do it now/],
  ['a machine path in a script', 'hack/run.sh', `cd ${machine}`, /^1: .* path of one machine/],
  ['a machine path in a page', 'docs/a.md', `see\n${machine}`, /^2: .* path of one machine/],
  ['what a merge left', 'docs/a.md', `one\n${'<'.repeat(7)} HEAD\ntwo`, /^2: ".*" is left of a merge/],
  ['a file called utils', 'base/src/utils.ts', 'export {};', /^1: the name says nothing/],
  ['a folder called helpers', 'node/src/helpers/disk.ts', 'export {};', /^1: the name says nothing/],
  ['a file that is too long', 'node/src/a.ts', 'export {};\n'.repeat(901), /902 lines, at most 900/],
  ['a file that does not parse', 'node/src/a.ts', 'export {};\nconst = 1;', /^2: does not parse/],
  ['an empty catch', 'node/src/a.ts', 'try {\n  f();\n} catch {}', /^3: an empty catch/],
  [
    'a catch with nothing but a comment',
    'node/src/a.ts',
    'try { f(); } catch (e) {\n// never mind\n}',
    /^1: an empty catch/,
  ],
  ['any as a type', 'node/src/a.ts', 'export function f(x: any): void {}', /^1: "any" turns/],
  ['any as a cast', 'node/src/a.ts', 'export const x = f() as any;', /^1: "any" turns/],
  ['any as a type argument', 'node/src/a.ts', 'export const x = new Map<string, any>();', /^1: "any" turns/],
  ['a silenced compiler', 'node/src/a.ts', `// @ts-${'ignore'}\nexport {};`, /^1: .* silences the compiler/],
  ['test.only', 'node/src/a.test.ts', "test.only('x', () => {});", /^1: test\.only keeps/],
  ['it.skip', 'node/src/a.test.ts', "it.skip('x', () => {});", /^1: it\.skip keeps/],
  ['describe.todo', 'node/src/a.test.ts', "describe.todo('x');", /^1: describe\.todo keeps/],
  ['the option only', 'node/src/a.test.ts', "test('x', { only: true }, () => {});", /^1: option "only"/],
  [
    'the option skip that is always on',
    'node/src/a.test.ts',
    "test('x', { skip: 'flaky' }, () => {});",
    /^1: option "skip"/,
  ],
  [
    'a skip without a reason',
    'node/src/a.test.ts',
    "test('x', (t) => { t.skip(); });",
    /^1: t\.skip\(\) gives no reason/,
  ],
] as const;

for (const [title, path, text, message] of refused) {
  test(`the house rules refuse ${title}`, () => {
    const found = breaches(path, text);
    assert.equal(found.length, 1, found.join('\n'));
    assert.match(found[0] ?? '', message);
  });
}

const allowed = [
  ['a catch that handles', 'node/src/a.ts', 'try { f(); } catch (error) { report(error); }'],
  ['a comment that says any', 'node/src/a.ts', '// any of them\nexport const company = "any";'],
  [
    'a skip where something is missing',
    'test/integration/a.test.ts',
    "test('x', { skip: hasFuse ? false : 'no fuse' }, () => {});",
  ],
  ['a skip at run time with a reason', 'test/integration/a.test.ts', "test('x', (t) => { t.skip('no fuse'); });"],
  ['a method of the same name elsewhere', 'node/src/a.ts', 'reader.skip();'],
  ['the word in a longer name', 'base/src/common-name.ts', 'export const utilsFolder = 1;'],
  ['generated code', 'protocol/src/gen/a.ts', 'export const x = f() as any;'],
  ['a file of 900 lines', 'node/src/a.ts', `${'export {};\n'.repeat(899)}`],
] as const;

for (const [title, path, text] of allowed) {
  test(`the house rules allow ${title}`, () => {
    assert.deepEqual(breaches(path, text), []);
  });
}
