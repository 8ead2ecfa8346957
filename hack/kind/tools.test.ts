import assert from 'node:assert/strict';
import { globSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { firstProxy, isNewEnough, TOOLCHAIN } from './go.ts';
import { findTools, toolFolder, toolKey } from './tool-cache.ts';
import { FAMILIES_FOLDER, pinnedVersion, TOOLS, type Tool, toolNamed } from './tools.ts';

const GO_MOD = `module example.test/tools

require k8s.io/alone v0.1.0

require (
	k8s.io/kubernetes v1.34.4
	k8s.io/kubernetes-extra v9.9.9 // indirect
)

replace k8s.io/kubernetes => k8s.io/kubernetes v0.0.1
`;

test('a version is read from the requirement of exactly that module', () => {
  assert.equal(pinnedVersion(GO_MOD, 'k8s.io/kubernetes'), 'v1.34.4');
  assert.equal(pinnedVersion(GO_MOD, 'k8s.io/alone'), 'v0.1.0');
  assert.throws(() => pinnedVersion(GO_MOD, 'k8s.io/kube'), /No version of k8s\.io\/kube is required/);
});

test('Kubernetes programs are told the version that their go.mod requires', () => {
  const { stamps } = toolNamed('kube-apiserver');
  const version = stamps?.['k8s.io/component-base/version.gitVersion'] ?? '';
  assert.match(version, /^v1\.\d+\.\d+$/);
  assert.equal(stamps?.['k8s.io/component-base/version.gitMinor'], version.split('.')[1]);
});

test('a Go that can fetch another Go is new enough, an older one is not', () => {
  for (const version of ['go1.21.0', 'go1.26.8', 'go1.30', 'devel go1.27-3f2a', 'go2.0.1']) {
    assert.ok(isNewEnough(version), version);
  }
  for (const version of ['go1.20.14', 'go1.9', '', 'gccgo']) assert.ok(!isNewEnough(version), version);
});

test('every family asks for the Go that is fetched where there is none', () => {
  const files = globSync('*/go.mod', { cwd: FAMILIES_FOLDER });
  assert.deepEqual(new Set(files.map((file) => file.split('/')[0])), new Set(TOOLS.map(({ family }) => family)));
  for (const file of files) {
    const goMod = readFileSync(join(FAMILIES_FOLDER, file), 'utf8');
    assert.match(goMod, new RegExp(`^toolchain ${TOOLCHAIN.replaceAll('.', '\\.')}$`, 'm'), file);
  }
});

test('the first module proxy that can be asked without Go is the one that is asked', () => {
  assert.equal(firstProxy('direct'), undefined);
  assert.equal(firstProxy(''), undefined);
  assert.equal(firstProxy('off,https://one.test/go/|https://two.test,direct'), 'https://one.test/go');
});

const TOOL: Tool = { name: 'one', family: 'family', package: '.' };
const SOURCES = [{ path: 'go.sum', bytes: Buffer.from('a h1:b') }];

const otherKeys: readonly [string, Parameters<typeof toolKey>][] = [
  ['a source differs by a byte', [TOOL, [{ path: 'go.sum', bytes: Buffer.from('a h1:c') }], 'linux-x64']],
  ['a source has another name', [TOOL, [{ path: 'go.mod', bytes: Buffer.from('a h1:b') }], 'linux-x64']],
  ['a source is gone', [TOOL, [], 'linux-x64']],
  ['it is stamped otherwise', [{ ...TOOL, stamps: { version: '2' } }, SOURCES, 'linux-x64']],
  ['it is for another platform', [TOOL, SOURCES, 'linux-arm64']],
];

for (const [title, arguments_] of otherKeys) {
  test(`a tool has another key when ${title}`, () => {
    const key = toolKey(TOOL, SOURCES, 'linux-x64');
    assert.match(key, /^[0-9a-f]{20}$/);
    assert.notEqual(toolKey(...arguments_), key);
  });
}

test('every tool has a folder of its own', () => {
  const folders = TOOLS.map((tool) => basename(toolFolder(tool)));
  assert.equal(new Set(folders).size, TOOLS.length);
});

test('a tool that is not built is asked for with the command that builds it', () => {
  process.env.LAB_TOOLS = mkdtempSync(join(tmpdir(), 'collective-tools-'));
  assert.throws(() => findTools(['etcd', 'kubectl']), {
    message: /^Not built yet: etcd, kubectl\. Run "hack\/node hack\/kind\/build\.ts etcd kubectl"/,
  });
  assert.throws(() => toolNamed('etcdd'), /no tool "etcdd"; known are etcd, kube-apiserver, /);
});
