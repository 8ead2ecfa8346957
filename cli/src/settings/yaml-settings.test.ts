import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseByteSize } from '@collective/base/byte-size';
import { CollectiveError } from '@collective/base/errors';
import { environmentOf, flagOf, hostPort, resolveSettings, type Setting, text, truth } from './settings.ts';
import { parseYamlSettings } from './yaml-settings.ts';

const KEYS = ['coordinator', 'capacity', 'healthListen', 'data'];

const mistakes: { name: string; yaml: string; says: RegExp }[] = [
  {
    name: 'a typo names file, line and key and the nearest known key',
    yaml: 'coordinator: a:1\ncapcity: 5GB\n',
    says: /node\.yaml, line 2, column 1: the key 'capcity' is not known; did you mean 'capacity'\?/,
  },
  { name: 'a key in flag spelling', yaml: 'health-listen: :1\n', says: /did you mean 'healthListen'\?/ },
  { name: 'a key that is like none lists all', yaml: 'zzzzzzzzzzzz: 1\n', says: /the keys are coordinator, capacity/ },
  { name: 'a key without a value', yaml: 'data: x\ncapacity:\n', says: /line 2.*'capacity' has no value/ },
  {
    name: 'a map where a value is needed',
    yaml: 'capacity:\n  size: 5\n',
    says: /line 2.*'capacity' must be a plain value/,
  },
  { name: 'a key given twice', yaml: 'data: a\ndata: b\n', says: /line 2.*unique/ },
  { name: 'text that is no YAML', yaml: 'data: "a\n', says: /node\.yaml, line [12]/ },
  { name: 'a list at the top', yaml: '- data\n', says: /must be lines 'key: value'/ },
];

for (const { name, yaml, says } of mistakes) {
  test(`a wrong configuration file is refused: ${name}`, () => {
    assert.throws(
      () => parseYamlSettings(yaml, 'node.yaml', KEYS),
      (thrown) => thrown instanceof CollectiveError && thrown.code === 'config_invalid' && says.test(thrown.message),
    );
  });
}

test('values keep their spelling, so that 500GB, 007 and lists read as they would as flags', () => {
  const values = parseYamlSettings('capacity: 500GB\ndata: 007\ncoordinator: [a, b]\n', 'n.yaml', KEYS);
  assert.deepEqual(
    [...values].map(([key, { text: value }]) => [key, value]),
    [
      ['capacity', '500GB'],
      ['data', '007'],
      ['coordinator', 'a,b'],
    ],
  );
  assert.equal(parseYamlSettings('# nothing\n', 'n.yaml', KEYS).size, 0);
});

const TABLE = {
  capacity: { summary: 'bytes', value: '<size>', parse: parseByteSize } as Setting<number>,
  autoTls: { summary: 'make certificates', parse: truth, default: false } as Setting<boolean>,
  data: { summary: 'folder', value: '<dir>', parse: text } as Setting<string | undefined>,
};

test('flags are stronger than the file, the file than the environment, and defaults come last', () => {
  const env = { COLLECTIVE_CAPACITY: '1GB', COLLECTIVE_AUTO_TLS: 'true', COLLECTIVE_DATA: '/env' };
  const file = {
    name: 'n.yaml',
    values: parseYamlSettings('capacity: 2GB\ndata: /file\n', 'n.yaml', Object.keys(TABLE)),
  };
  const flags = new Map([['capacity', { text: '3GB', source: 'flag --capacity' }]]);
  assert.deepEqual(resolveSettings(TABLE, { flags, file, env }), { capacity: 3e9, data: '/file', autoTls: true });
  assert.deepEqual(resolveSettings(TABLE, { flags: new Map(), env: {} }), {
    capacity: undefined,
    data: undefined,
    autoTls: false,
  });
});

test('a wrong value names the place it came from', () => {
  const file = { name: 'n.yaml', values: parseYamlSettings('data: x\ncapacity: 5XB\n', 'n.yaml', Object.keys(TABLE)) };
  assert.throws(() => resolveSettings(TABLE, { flags: new Map(), file, env: {} }), {
    code: 'config_invalid',
    message: /n\.yaml, line 2, key 'capacity': .*'5XB'.*no unit 'XB'/,
  });
  assert.throws(() => resolveSettings(TABLE, { flags: new Map(), env: { COLLECTIVE_AUTO_TLS: 'maybe' } }), {
    message: /environment variable COLLECTIVE_AUTO_TLS: .*true or false/,
  });
});

test('names of flags and variables follow from the key', () => {
  assert.equal(flagOf('healthListen'), '--health-listen');
  assert.equal(environmentOf('healthListen'), 'COLLECTIVE_HEALTH_LISTEN');
});

test('addresses are read with and without a host', () => {
  assert.deepEqual(hostPort(':8001', 'listen'), { host: '', port: 8001 });
  assert.deepEqual(hostPort('[::1]:80', 'listen'), { host: '::1', port: 80 });
  assert.deepEqual(hostPort('alice.example:7420', 'listen'), { host: 'alice.example', port: 7420 });
  for (const bad of ['8001', 'a:b', 'a:99999', '::1:80', 'a:', '']) {
    assert.throws(() => hostPort(bad, 'listen'), { code: 'invalid_argument' }, bad);
  }
});
