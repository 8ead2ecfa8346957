import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '@collective/base/log';
import { ServerWarnings } from './server-warnings.ts';

test('a warning is logged once, however often and beside which others it comes', () => {
  const seen: unknown[] = [];
  const warnings = new ServerWarnings({ ...silentLog, warn: (fields) => void seen.push(fields) });
  warnings.hear('Apply a', '299 - "policy/v1beta1 is \\"deprecated\\""');
  warnings.hear('Apply b', '299 - "policy/v1beta1 is \\"deprecated\\"", 299 - "unknown field \\"spec.x\\""');
  warnings.hear('Apply c', undefined);
  assert.deepEqual(seen, [
    { what: 'Apply a', warning: 'policy/v1beta1 is "deprecated"' },
    { what: 'Apply b', warning: 'unknown field "spec.x"' },
  ]);
});
