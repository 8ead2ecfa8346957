import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_LEVELS, levelOf, SERIAL_LEVELS } from './test-levels.ts';

test('the folder of a test file says its level, and what takes long runs only when it is asked for', () => {
  const levels = {
    'base/src/crc.test.ts': 'unit',
    'test/sim/seeds.test.ts': 'sim',
    'test/integration/up.test.ts': 'integration',
    'test/integration/full/large.test.ts': 'full',
    'test/apiserver/apiserver.test.ts': 'apiserver',
    'test/e2e/lab.test.ts': 'e2e',
    'test/e2e/full/stopped-node.test.ts': 'e2e-full',
  } as const;
  for (const [path, level] of Object.entries(levels)) assert.equal(levelOf(path), level);
  assert.deepEqual(DEFAULT_LEVELS, ['unit', 'sim', 'integration', 'apiserver', 'e2e']);
  assert.deepEqual([...SERIAL_LEVELS], ['e2e', 'e2e-full']);
});
