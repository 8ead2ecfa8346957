import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError, ERROR_CODES } from '@collective/base/errors';
import { testShell } from '../shell-for-tests.ts';
import { EXIT_CODES, EXIT_PIPE_CLOSED, reportError } from './errors.ts';

const error = new CollectiveError('unavailable', 'Reach the coordinator at alice:7420', {
  cause: new Error('connect ECONNREFUSED', { cause: new Error('inner') }),
});

test('an error says what was being done, the nearest cause and what to do; the exit code is that of the catalogue', () => {
  const shell = testShell();
  assert.equal(reportError(shell, error, { json: false, verbose: false }), 5);
  assert.equal(
    shell.err(),
    `Error: Reach the coordinator at alice:7420 [unavailable]\n  because: connect ECONNREFUSED\n  ${ERROR_CODES.unavailable.todo}\n  (-v shows all causes)\n`,
  );
});

test('a cause that only repeats the message is left out', () => {
  const shell = testShell();
  const cause = new CollectiveError('not_found', 'Remove /a');
  reportError(shell, new CollectiveError('not_found', "Remove '/a': not found", { cause }), {
    json: false,
    verbose: false,
  });
  assert.ok(!shell.err().includes('because'), shell.err());
});

test('-v shows all causes and the place', () => {
  const shell = testShell();
  reportError(shell, error, { json: false, verbose: true });
  assert.match(shell.err(), /because: inner/);
  assert.match(shell.err(), /errors\.test\.ts/);
});

test('with -o json the error is one JSON object on stderr', () => {
  const shell = testShell();
  reportError(shell, error, { json: true, verbose: false });
  assert.deepEqual(JSON.parse(shell.err()), {
    error: {
      code: 'unavailable',
      message: 'Reach the coordinator at alice:7420',
      todo: ERROR_CODES.unavailable.todo,
      causes: ['connect ECONNREFUSED', 'inner'],
      exit: 5,
    },
  });
});

test('colours appear on a terminal only, and never under NO_COLOR', () => {
  const onTerminal = testShell({ isTTY: true });
  reportError(onTerminal, error, { json: false, verbose: false });
  assert.ok(onTerminal.err().includes('\u001b['));
  const plain = testShell({ isTTY: true, env: { NO_COLOR: '1' } });
  reportError(plain, error, { json: false, verbose: false });
  assert.ok(!plain.err().includes('\u001b['));
});

test('a reader that stopped early is no error', () => {
  const shell = testShell();
  const closed = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  assert.equal(reportError(shell, closed, { json: false, verbose: false }), EXIT_PIPE_CLOSED);
  assert.equal(shell.err(), '');
});

test('every exit code of the catalogue is documented', () => {
  const documented = new Set(EXIT_CODES.map(({ exit }) => exit));
  for (const [code, { exit }] of Object.entries(ERROR_CODES)) assert.ok(documented.has(exit), `${code}: ${exit}`);
});
