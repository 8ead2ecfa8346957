import assert from 'node:assert/strict';
import { test } from 'node:test';
import { advertised } from './advertised.ts';

test('D10: a bare address counts for all listeners, a named one for its own', () => {
  assert.deepEqual(advertised('attic.example:7431', 'advertise'), [
    { listener: 'internal', host: 'attic.example', port: 7431 },
    { listener: 'external', host: 'attic.example', port: 7431 },
  ]);
  assert.deepEqual(advertised('internal=10.0.0.4:7431, external=attic.example', 'advertise'), [
    { listener: 'internal', host: '10.0.0.4', port: 7431 },
    { listener: 'external', host: 'attic.example' },
  ]);
  // As a pod says it, which knows not of which kind the address of its machine will be.
  assert.deepEqual(advertised('external=[10.0.0.4]:30431', 'advertise'), [
    { listener: 'external', host: '10.0.0.4', port: 30_431 },
  ]);
  assert.deepEqual(advertised('external=[2001:db8::1]:80,10.0.0.4', 'advertise'), [
    { listener: 'external', host: '2001:db8::1', port: 80 },
    { listener: 'internal', host: '10.0.0.4' },
  ]);
});

for (const bad of ['', 'a:99999', 'outside=a', 'a b', 'a:', '::1']) {
  test(`'${bad}' is refused as an address to advertise`, () => {
    assert.throws(() => advertised(bad, 'advertise'), { code: 'invalid_argument' });
  });
}
