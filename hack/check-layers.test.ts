import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findLayerBreaches } from './check-layers.ts';

function breaches(path: string, text: string): string[] {
  return findLayerBreaches([{ path, text }]).map(({ line, message }) => `${line}: ${message}`);
}

const allowed = [
  ['a room imports itself relatively', 'client/src/upload.ts', "import { cut } from './block-map.ts';"],
  ['a room imports itself by name', 'protocol/src/bulk/frame.ts', "import { x } from '@collective/protocol/gen/node';"],
  ['protocol imports base', 'protocol/src/a.ts', "import { crc } from '@collective/base/crc';"],
  ['client imports protocol', 'client/src/a.ts', "import type { Put } from '@collective/protocol/gen/node';"],
  ['cli imports client', 'cli/src/main.ts', "import { connect } from '@collective/client';"],
  ['cli starts a server', 'cli/src/commands/node.ts', "await import('@collective/node/main');"],
  ['test imports servers', 'test/integration/a.test.ts', "import { main } from '@collective/coordinator/main';"],
  ['test uses the lab', 'test/apiserver/a.test.ts', "import { findTools } from '@collective/hack/kind/tool-cache';"],
  ['anyone imports a library', 'base/src/log.ts', "import pino from 'pino';\nimport { open } from 'node:fs/promises';"],
  ['a name in a string is no import', 'base/src/a.ts', 'export const text = "import x from \'@collective/node\'";'],
  ['a name in a comment is no import', 'base/src/a.ts', "// import x from '@collective/node'\nexport {};"],
] as const;

for (const [title, path, text] of allowed) {
  test(`the layer check allows that ${title}`, () => {
    assert.deepEqual(breaches(path, text), []);
  });
}

const refused = [
  ['base imports protocol', 'base/src/a.ts', "import { x } from '@collective/protocol/errors';", 1],
  ['coordinator imports node', 'coordinator/src/a.ts', "\n\nimport { x } from '@collective/node';", 3],
  ['node imports coordinator', 'node/src/a.ts', "import { x } from '@collective/coordinator';", 1],
  ['coordinator imports client', 'coordinator/src/a.test.ts', "import { x } from '@collective/client';", 1],
  ['only a type is imported', 'node/src/a.ts', "import type { X } from '@collective/coordinator';", 1],
  ['it is an import type', 'node/src/a.ts', "export type A = import('@collective/coordinator').A;", 1],
  [
    'it is imported at run time',
    'client/src/a.ts',
    "export const a = 1;\nawait import('@collective/coordinator/main');",
    2,
  ],
  ['it is exported again', 'client/src/index.ts', "export { x } from '@collective/cli/output';", 1],
  ['all of it is exported again', 'client/src/index.ts', "export * from '@collective/node';", 1],
  ['a room imports test', 'node/src/a.test.ts', "import { sim } from '@collective/test/sim';", 1],
  ['a room imports hack', 'base/src/a.test.ts', "import { x } from '@collective/hack/check';", 1],
] as const;

for (const [title, path, text, line] of refused) {
  test(`the layer check refuses and names the line when ${title}`, () => {
    const found = breaches(path, text);
    assert.equal(found.length, 1, found.join('\n'));
    assert.match(found[0] ?? '', new RegExp(`^${line}: imports "@collective/.*may import`));
  });
}

test('the layer check refuses a relative import that leaves the room, even to a room that may be imported', () => {
  const [found] = breaches('client/src/upload.ts', "import { crc } from '../../base/src/crc.ts';");
  assert.match(found ?? '', /^1: imports "\.\.\/\.\.\/base\/src\/crc\.ts" out of its own room/);
});

test('the layer check refuses a folder that is no known room', () => {
  const [found] = breaches('gateway/src/a.ts', 'export {};');
  assert.match(found ?? '', /"gateway" is no known room/);
});
