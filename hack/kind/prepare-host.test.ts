import assert from 'node:assert/strict';
import { test } from 'node:test';
import { packagesFor } from './prepare-host.ts';

test('what is missing is installed from the packages that have it, each once', () => {
  assert.deepEqual(packagesFor(['dockerd', 'docker', 'debootstrap'], new Set()), ['debootstrap', 'docker.io']);
});

test('where the daemon comes without its command, the command has a package of its own', () => {
  assert.deepEqual(packagesFor(['docker'], new Set(['docker.io', 'debootstrap'])), ['docker-cli']);
});

test('a program that no package brought ends the search', () => {
  assert.throws(
    () => packagesFor(['docker', 'iptables'], new Set(['docker.io', 'docker-cli', 'iptables'])),
    /brings docker, iptables/,
  );
});
