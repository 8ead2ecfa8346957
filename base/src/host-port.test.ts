import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatHostPort } from './host-port.ts';

test('an IPv6 address stands in brackets, once', () => {
  const told = (host: string): string => formatHostPort({ host, port: 7420 });
  assert.equal(told('alice'), 'alice:7420');
  assert.equal(told('10.0.0.1'), '10.0.0.1:7420');
  assert.equal(told('fd00::1'), '[fd00::1]:7420');
  assert.equal(told('[fd00::1]'), '[fd00::1]:7420');
});
