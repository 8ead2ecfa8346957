/**
 * How an error reaches the person: what we were doing and what was wrong, what to do about it, and with `-v` every cause
 * and the place. Programs get the code by the exit code, or as one JSON object on stderr with `-o json`.
 */
import { styleText } from 'node:util';
import { CollectiveError, ERROR_CODES, type ErrorCode, errorChain } from '@collective/base/errors';
import type { Shell } from '../shell.ts';
import { isPipeClosed } from './pipe-closed.ts';
import { printable } from './printable.ts';

export const EXIT_INTERRUPTED = 130;
export const EXIT_PIPE_CLOSED = 141;

export interface ErrorOutput {
  readonly json: boolean;
  readonly verbose: boolean;
  /** False: never in colour. */
  readonly color: boolean;
}

/** Failures of which the message about a path says all: their causes name inodes, which only `-v` shows. */
const TOLD_BY_PATH = new Set<ErrorCode>(['not_found', 'exists', 'is_directory', 'not_directory', 'not_empty']);

/** Reports the error; the result is the exit code. */
export function reportError(shell: Shell, thrown: unknown, { json, verbose, color }: ErrorOutput): number {
  if (isPipeClosed(thrown)) return EXIT_PIPE_CLOSED;
  const error = thrown instanceof CollectiveError ? thrown : undefined;
  const code = error?.code ?? 'internal';
  const { exit } = ERROR_CODES[code];
  const todo = error?.todo ?? ERROR_CODES[code].todo;
  const [message = 'Something failed', ...causes] = errorChain(thrown);
  const what = error?.message ?? message;
  if (json) {
    shell.stderr.write(`${JSON.stringify({ error: { code, message: what, todo, causes, exit } })}\n`);
    return exit;
  }
  const paint = (style: 'red' | 'dim', text: string): string =>
    color && hasColors(shell) ? styleText(style, text, { validateStream: false }) : text;
  const lines = [`${paint('red', 'Error:')} ${oneLine(what)} ${paint('dim', `[${code}]`)}`];
  // A cause often holds the one fact that helps (a refused port, a full disk); the nearest that adds a word is always shown.
  const toldByPath = error !== undefined && error.details.path !== undefined && TOLD_BY_PATH.has(code);
  const telling = toldByPath ? [] : causes.filter((cause) => !repeats(what, cause));
  const shownCauses = verbose ? causes : telling.slice(0, 1);
  for (const cause of shownCauses) lines.push(`  because: ${oneLine(cause)}`);
  lines.push(`  ${oneLine(todo)}`);
  if (verbose && thrown instanceof Error && thrown.stack) lines.push(paint('dim', thrown.stack));
  else if (telling.length > shownCauses.length) lines.push(paint('dim', '  (-v shows all causes)'));
  shell.stderr.write(`${lines.join('\n')}\n`);
  return exit;
}

function hasColors({ stderr, env }: Shell): boolean {
  return stderr.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
}

/** Names and foreign messages may hold line breaks and terminal escapes: shown, not obeyed. */
function oneLine(text: string): string {
  return printable(text.trim());
}

/** `Remove '/a': not found` already says what `Remove /a [not_found]` says. */
function repeats(message: string, cause: string): boolean {
  const words = (text: string): string[] => text.toLowerCase().match(/[^\s'":[\]_]+/g) ?? [];
  const said = new Set(words(message));
  return words(cause).every((word) => said.has(word));
}

/** The exit codes, for `--help` and the docs. */
export const EXIT_CODES: readonly { readonly exit: number; readonly meaning: string }[] = [
  { exit: 0, meaning: 'success' },
  { exit: 1, meaning: 'failure' },
  { exit: 2, meaning: 'usage: an argument, flag or configuration is wrong' },
  { exit: 3, meaning: 'not found' },
  { exit: 4, meaning: 'denied: certificate, token or rights' },
  { exit: 5, meaning: 'unavailable or timed out: trying again may help' },
  { exit: 6, meaning: 'no space or quota left' },
  { exit: 7, meaning: 'stored data is damaged or missing' },
  { exit: EXIT_INTERRUPTED, meaning: 'interrupted by Ctrl-C' },
  { exit: EXIT_PIPE_CLOSED, meaning: 'the reader of the output closed it' },
];
