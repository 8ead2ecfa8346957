import assert from 'node:assert/strict';
import { test } from 'node:test';
import { heldRules, rulesWithoutTest } from './rules-page.ts';

test('a rule is found in a title, in a table of cases and in a template, and once a title', () => {
  const held = heldRules([
    { path: 'a.test.ts', text: "test('D4: a failed sync, and D4 again', () => {});" },
    { path: 'b.test.ts', text: "const cases = [{ name: 'M2a: numbers grow' }]; test(`M5: one`, () => {});" },
  ]);
  assert.deepEqual(
    held.map(({ rule, tests }) => [rule, tests.map(({ path }) => path)]),
    [
      ['M2a', ['b.test.ts']],
      ['M5', ['b.test.ts']],
      ['D4', ['a.test.ts']],
    ],
  );
});

test('a mark outside a title holds nothing', () => {
  assert.deepEqual(heldRules([{ path: 'a.test.ts', text: "// D4 is elsewhere\nassert.equal('D4', mark);" }]), []);
});

test('a built rule that no title names is missed', () => {
  const missing = rulesWithoutTest(heldRules([{ path: 'a.test.ts', text: "test('T1: one', () => {});" }]));
  assert.ok(missing.includes('T2') && missing.includes('D10') && !missing.includes('T1'));
});
