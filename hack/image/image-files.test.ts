import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  holdsCode,
  isContainerCommand,
  isPackageFileNeeded,
  isWorkspaceFileNeeded,
  launcherOf,
} from './image-files.ts';

test('of a workspace its sources come along, but not what tests it nor how it starts elsewhere', () => {
  const kept = ['package.json', 'src/main.ts', 'src/log/file-log.ts', 'src/completion/collective.bash'];
  const left = ['README.md', 'bin/packaged-node', 'src/main.test.ts', 'src/log/log-contract.ts', 'proto/node.proto'];
  assert.deepEqual([...kept, ...left].filter(isWorkspaceFileNeeded), kept);
});

test('of a package what runs and its licence come along, but no types, maps or documents', () => {
  const kept = ['package.json', 'LICENSE', 'dist/LICENSE.md', 'NOTICE.txt', 'build/index.js', 'lib/a.cjs', 'b.mjs'];
  const read = ['google/any.proto', 'prebuilds/addon.node', 'bin/pbjs'];
  const left = ['README.md', 'CHANGELOG.md', 'index.d.ts', 'index.d.mts', 'index.js.map', 'src/index.ts', 'x.yml'];
  assert.deepEqual([...kept, ...read, ...left].filter(isPackageFileNeeded), [...kept, ...read]);
});

test('a package of types alone is left out', () => {
  assert.equal(holdsCode(['package.json', 'LICENSE']), false);
  assert.equal(holdsCode(['package.json', 'data.json']), true);
});

test('commands of the image are those of the product, not those that extend kubectl', () => {
  const named = [
    'collective',
    'kubectl-collective',
    'kubectl_complete-collective',
    'collective-operator',
    'collectived',
  ];
  assert.deepEqual(named.filter(isContainerCommand), ['collective', 'collective-operator']);
});

test('a program of the image is a script for its Node', () => {
  assert.equal(
    launcherOf('/opt/collective/cli/src/main.ts'),
    "#!/usr/local/bin/node\nimport('/opt/collective/cli/src/main.ts');\n",
  );
});
