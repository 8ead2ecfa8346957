import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError, ERROR_CODES } from '@collective/base/errors';
import { testShell } from '../shell-for-tests.ts';
import { EXIT_CODES, EXIT_PIPE_CLOSED, reportError } from './errors.ts';

const PLAIN = { json: false, verbose: false, color: true };
const error = new CollectiveError('unavailable', 'Reach the coordinator at alice:7420', {
  cause: new Error('connect ECONNREFUSED', { cause: new Error('inner') }),
});

test('an error says what was being done, the nearest cause and what to do; the exit code is that of the catalogue', () => {
  const shell = testShell();
  assert.equal(reportError(shell, error, PLAIN), 5);
  assert.equal(
    shell.err(),
    `Error: Reach the coordinator at alice:7420 [unavailable]\n  because: connect ECONNREFUSED\n  ${ERROR_CODES.unavailable.todo}\n  (-v shows all causes)\n`,
  );
});

test('a cause that only repeats the message is left out', () => {
  const shell = testShell();
  const cause = new CollectiveError('not_found', 'Remove /a');
  reportError(shell, new CollectiveError('not_found', "Remove '/a': not found", { cause }), PLAIN);
  assert.ok(!shell.err().includes('because'), shell.err());
});

test('a failure that names its path keeps the inodes of its causes for -v', () => {
  const cause = new CollectiveError('not_found', "Look up 'no' in directory 17");
  const missing = new CollectiveError('not_found', "Look up '/no': not found", { cause, details: { path: '/no' } });
  const shell = testShell();
  reportError(shell, missing, PLAIN);
  assert.equal(shell.err(), `Error: Look up '/no': not found [not_found]\n  ${ERROR_CODES.not_found.todo}\n`);
  const verbose = testShell();
  reportError(verbose, missing, { ...PLAIN, verbose: true });
  assert.match(verbose.err(), /directory 17/);
});

test('the advice of who threw it stands in place of the advice of the catalogue', () => {
  const shell = testShell();
  reportError(shell, new CollectiveError('not_found', 'Use context b', { todo: 'Look at the list.' }), PLAIN);
  assert.equal(shell.err(), 'Error: Use context b [not_found]\n  Look at the list.\n');
});

test('names and foreign words cannot command the terminal', () => {
  const shell = testShell();
  reportError(shell, new CollectiveError('exists', 'Make /a\u001b[2J\nb', { cause: new Error('x:1\n\n') }), PLAIN);
  assert.match(shell.err(), /^Error: Make \/a\\u001b\[2J\\nb \[exists\]\n {2}because: x:1\n/);
});

test('-v shows all causes and the place', () => {
  const shell = testShell();
  reportError(shell, error, { ...PLAIN, verbose: true });
  assert.match(shell.err(), /because: inner/);
  assert.match(shell.err(), /errors\.test\.ts/);
});

test('with -o json the error is one JSON object on stderr', () => {
  const shell = testShell();
  reportError(shell, error, { ...PLAIN, json: true });
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

test('colours appear on a terminal only, and never under NO_COLOR, --no-color or TERM=dumb', () => {
  const onTerminal = testShell({ isTTY: true });
  reportError(onTerminal, error, PLAIN);
  assert.ok(onTerminal.err().includes('\u001b['));
  const plain = testShell({ isTTY: true, env: { NO_COLOR: '1' } });
  reportError(plain, error, PLAIN);
  assert.ok(!plain.err().includes('\u001b['));
  const asked = testShell({ isTTY: true });
  reportError(asked, error, { ...PLAIN, color: false });
  assert.ok(!asked.err().includes('\u001b['));
  const dumb = testShell({ isTTY: true, env: { TERM: 'dumb' } });
  reportError(dumb, error, PLAIN);
  assert.ok(!dumb.err().includes('\u001b['));
});

test('a reader that stopped early is no error', () => {
  const shell = testShell();
  const closed = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  assert.equal(reportError(shell, closed, PLAIN), EXIT_PIPE_CLOSED);
  assert.equal(shell.err(), '');
});

test('every exit code of the catalogue is documented', () => {
  const documented = new Set(EXIT_CODES.map(({ exit }) => exit));
  for (const [code, { exit }] of Object.entries(ERROR_CODES)) assert.ok(documented.has(exit), `${code}: ${exit}`);
});
