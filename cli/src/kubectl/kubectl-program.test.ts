import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from '../run.ts';
import { testShell } from '../shell-for-tests.ts';
import { parseRequestTimeout } from './kube-verb.ts';
import { KUBECTL_COLLECTIVE } from './kubectl-program.ts';

async function ran(...argv: string[]): Promise<{ exit: number; out: string; err: string }> {
  const shell = testShell({ env: { HOME: '/nonexistent' } });
  const exit = await run(argv, shell, KUBECTL_COLLECTIVE);
  return { exit, out: shell.out(), err: shell.err() };
}

test('--help lists every command and the exit codes under the name that people type', async () => {
  const { exit, out } = await ran('--help');
  assert.equal(exit, 0);
  assert.match(out, /^Usage: kubectl collective \[flags\] COMMAND\n/);
  for (const { name, summary, hidden } of KUBECTL_COLLECTIVE.commands) {
    if (!hidden) assert.ok(out.includes(name) && out.replace(/\s+/g, ' ').includes(summary), name);
  }
  assert.match(out, /Exit codes:/);
});

for (const { name, hidden } of KUBECTL_COLLECTIVE.commands) {
  if (hidden) continue;
  test(`kubectl collective ${name} --help has examples and kubectl's flags`, async () => {
    const { exit, out } = await ran(name, '--help');
    assert.equal(exit, 0);
    assert.match(out, new RegExp(`^Usage: kubectl collective ${name}`));
    assert.match(out, /Examples:\n {2}\S/);
    for (const flag of ['--namespace', '--context', '--kubeconfig', '--request-timeout', '--output'])
      assert.ok(out.includes(flag), flag);
    assert.ok(!out.includes('--coordinator'), 'flags of `collective` are not ours');
  });
}

test('wrong usage exits with 2 and names the help of the command', async () => {
  const { exit, err } = await ran('members', '--nonsense');
  assert.equal(exit, 2);
  assert.match(err, /unknown option '--nonsense'.*\n.*'kubectl collective members --help' shows/);
  assert.equal((await ran('members', '-o', 'xml')).exit, 2);
  assert.equal((await ran('membres')).exit, 2);
});

test('flags may stand before the command, as kubectl allows; a missing kubeconfig says what to do', async () => {
  const { exit, err } = await ran('--kubeconfig', '/nonexistent/config', 'members');
  assert.equal(exit, 3);
  assert.match(err, /Read the kubeconfig \/nonexistent\/config: there is no such file/);
});

test('a bare number is seconds for --request-timeout, as kubectl reads it', () => {
  assert.deepEqual(['30', '0', '2m', '500ms'].map(parseRequestTimeout), [30_000, 0, 120_000, 500]);
  assert.throws(() => parseRequestTimeout('soon'), { code: 'invalid_argument' });
});
