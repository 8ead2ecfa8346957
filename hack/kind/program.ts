// How a program of the lab ends when something is missing: with a line that says what was wrong and what to type, and no stack.
// Only a defect of the program itself shows where it happened.

import { AssertionError } from 'node:assert';
import { ExecaError } from 'execa';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const OUTPUT_SHOWN_LINES = 15;
const DEFECTS = [TypeError, RangeError, ReferenceError, SyntaxError, AssertionError];

export async function runProgram(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (thrown) {
    const { text, exitCode } = complaintOf(thrown);
    process.stderr.write(`${text}\n`);
    process.exitCode = exitCode;
  }
}

export function complaintOf(thrown: unknown): { readonly text: string; readonly exitCode: number } {
  if (!(thrown instanceof Error)) return { text: String(thrown), exitCode: EXIT_FAILED };
  // Flags that parseArgs does not know; it throws a TypeError for what a person typed.
  const { code = '' } = thrown as NodeJS.ErrnoException;
  if (code.startsWith('ERR_PARSE_ARGS')) return { text: thrown.message, exitCode: EXIT_USAGE };
  // fetch tells of a network by a TypeError with a cause.
  const isDefect = DEFECTS.some((kind) => thrown instanceof kind) && thrown.cause === undefined;
  if (isDefect) return { text: thrown.stack ?? thrown.message, exitCode: EXIT_FAILED };
  return { text: chainOf(thrown).join(': '), exitCode: EXIT_FAILED };
}

function chainOf(thrown: unknown): string[] {
  if (thrown === undefined) return [];
  if (thrown instanceof ExecaError) {
    const said = String(thrown.stderr || thrown.stdout || '').trim();
    const end = said.split('\n').slice(-OUTPUT_SHOWN_LINES).join('\n');
    return [end === '' ? thrown.shortMessage : `${thrown.shortMessage}\n${end}`];
  }
  return thrown instanceof Error ? [thrown.message, ...chainOf(thrown.cause)] : [String(thrown)];
}
