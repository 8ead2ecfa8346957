/** Texts that a person gives a command: by the name of a file, or on standard input. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import type { Shell } from './shell.ts';

const INPUT_CHARACTERS_MAX = 1024 * 1024;

export async function readStandardInput(shell: Shell): Promise<string> {
  let text = '';
  for await (const piece of shell.stdin) {
    text += String(piece);
    // What is longer is nothing that is read here, and is told so by who reads it.
    if (text.length > INPUT_CHARACTERS_MAX) break;
  }
  return text;
}

export async function readTextFile(shell: Shell, file: string, flag: string): Promise<string> {
  try {
    return await readFile(resolve(shell.cwd, file), 'utf8');
  } catch (cause) {
    throw new CollectiveError('not_found', `Read ${flag} ${file}`, { cause });
  }
}
