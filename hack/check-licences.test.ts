import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findUnwantedLicences, isAllowed } from './check-licences.ts';

const expressions = [
  ['MIT', true],
  ['GPL-3.0-only', false],
  ['MIT OR GPL-3.0-only', true],
  ['GPL-3.0-only OR Apache-2.0', true],
  ['MIT AND GPL-3.0-only', false],
  ['(Apache-2.0 AND BSD-3-Clause)', true],
  ['MIT AND (GPL-2.0-only OR ISC)', true],
  ['(MIT OR ISC) AND GPL-2.0-only', false],
  ['GPL-2.0-only OR MIT AND LGPL-3.0-only', false],
  ['Apache-2.0 WITH LLVM-exception', false],
  ['SEE LICENSE IN LICENSE.txt', false],
  ['(MIT', false],
  ['MIT OR', false],
  ['', false],
] as const;

for (const [expression, allowed] of expressions) {
  test(`the licence expression "${expression}" is ${allowed ? 'allowed' : 'refused'}`, () => {
    assert.equal(isAllowed(expression), allowed);
  });
}

test('the licence check reads the lock file for every platform and asks node_modules where the lock is silent', () => {
  const lock = {
    packages: {
      '': { version: '0.1.0' },
      base: { version: '0.1.0' },
      'node_modules/@collective/base': { link: true },
      'node_modules/good': { version: '1.0.0', license: 'MIT' },
      'node_modules/bad-on-another-platform': { version: '2.0.0', license: 'GPL-3.0-only' },
      'node_modules/good/node_modules/silent': { version: '3.0.0' },
      'cli/node_modules/nested-bad': { version: '4.0.0', license: 'SSPL-1.0' },
      'node_modules/says-nothing': { version: '5.0.0' },
      'node_modules/old-form': { version: '6.0.0', license: [{ type: 'MIT' }] },
    },
  };
  const asked: string[] = [];
  const found = findUnwantedLicences(lock, (path) => {
    asked.push(path);
    return path.endsWith('/silent') ? 'ISC' : undefined;
  });
  assert.deepEqual(
    found.map(({ path }) => path),
    [
      'node_modules/bad-on-another-platform',
      'cli/node_modules/nested-bad',
      'node_modules/says-nothing',
      'node_modules/old-form',
    ],
  );
  assert.match(found[0]?.message ?? '', /^2\.0\.0 is under "GPL-3\.0-only", which is not allowed/);
  assert.match(found[2]?.message ?? '', /states no licence/);
  assert.deepEqual(asked, ['node_modules/good/node_modules/silent', 'node_modules/says-nothing']);
});
