import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { complaintOf } from './program.ts';

const LAB_PROGRAM = (name: string): string => join(import.meta.dirname, `${name}.ts`);

function thrownBy(act: () => unknown): unknown {
  try {
    act();
  } catch (thrown) {
    return thrown;
  }
  return assert.fail('nothing was thrown');
}

test('what is missing is told in one line, without a stack', () => {
  const { text, exitCode } = complaintOf(new Error('docker does not run', { cause: new Error('no such file') }));
  assert.equal(text, 'docker does not run: no such file');
  assert.equal(exitCode, 1);
});

test('a flag that is not known is a usage error', () => {
  const thrown = thrownBy(() => parseArgs({ args: ['--nope'], options: {} }));
  const { text, exitCode } = complaintOf(thrown);
  assert.match(text, /^Unknown option '--nope'/);
  assert.doesNotMatch(text, /\n\s+at /);
  assert.equal(exitCode, 2);
});

test('of a command that failed there is the command and the end of what it said', async () => {
  const failed = await execa('sh', ['-c', 'seq 100 >&2; exit 3'], { reject: false });
  const { text } = complaintOf(failed);
  assert.match(text, /^Command failed with exit code 3: sh -c/);
  assert.match(text, /\n100$/);
  assert.doesNotMatch(text, /\n50\n/);
  assert.doesNotMatch(text, /\n\s+at /);
});

test('a defect shows where it happened', () => {
  const thrown = thrownBy(() => (undefined as unknown as { length: number }).length);
  assert.match(complaintOf(thrown).text, /\n\s+at .*program\.test\.ts/);
});

test('a network that does not answer is no defect', () => {
  const { text } = complaintOf(new TypeError('fetch failed', { cause: new Error('getaddrinfo ENOTFOUND proxy') }));
  assert.equal(text, 'fetch failed: getaddrinfo ENOTFOUND proxy');
});

for (const [name, args] of [
  ['cluster-down', []],
  ['load-image', ['collective:none']],
] as const) {
  test(`on a machine where nothing is built, ${name} says in one line what to type`, async () => {
    const env = { LAB_TOOLS: '/nowhere/tools' };
    const ran = await execa(process.execPath, [LAB_PROGRAM(name), ...args], { env, reject: false });
    assert.equal(ran.exitCode, 1);
    assert.match(
      ran.stderr,
      /^Not built yet: kind\. Run "hack\/node hack\/kind\/build\.ts kind" \(minutes, once;[^\n]*$/,
    );
  });
}

test('a tool that there is not is answered with those that there are', async () => {
  const ran = await execa(process.execPath, [LAB_PROGRAM('build'), 'kubelat'], { reject: false });
  assert.equal(ran.exitCode, 1);
  assert.match(ran.stderr, /^There is no tool "kubelat"; known are etcd, [^\n]*$/);
});
