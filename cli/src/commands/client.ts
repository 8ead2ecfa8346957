/** `collective client store|retrieve`: short forms of cp, for who comes from the first Collective. */
import { basename, resolve } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import type { Command } from 'commander';
import { remotePath } from '../remote-path.ts';
import { type Shell, say } from '../shell.ts';
import { globalOptions, noun, verb } from '../verb.ts';
import { type CpOptions, copy } from './cp.ts';

const PLAIN: CpOptions = { clobber: true, targetDirectory: false };

export function clientCommand(shell: Shell): Command {
  const store = verb('store', {
    summary: 'store a file',
    examples: [
      { line: 'collective client store --file a.raw', says: 'as /a.raw' },
      { line: 'collective client store --file a.raw --id /photos/a.raw', says: 'under this path' },
    ],
  })
    .requiredOption('-f, --file <file>', "the file on this machine, or '-' for standard input")
    .option('--id <path>', 'path in the member; default: the name of the file')
    .option('-c, --continue', 'go on with what was interrupted')
    .action(async (options: { file: string; id?: string; continue?: boolean }, command: Command) => {
      if (options.file === '-' && options.id === undefined) {
        throw new CollectiveError('invalid_argument', 'Store standard input: --id names the path that it gets');
      }
      const path = remotePath(options.id ?? basename(resolve(shell.cwd, options.file)));
      const source =
        options.file === '-' ? ({ kind: 'stream' } as const) : ({ kind: 'local', path: options.file } as const);
      await copy(shell, command, [source, { kind: 'remote', path }], { ...PLAIN, continue: options.continue });
      if (!globalOptions(command).quiet) await say(shell, `Stored as ${path}`);
    });
  const retrieve = verb('retrieve', {
    summary: 'fetch a file',
    examples: [
      { line: 'collective client retrieve --id /photos/a.raw --output a.raw', says: 'into a file' },
      { line: 'collective client retrieve --id /notes.txt --output -', says: 'to standard output' },
    ],
    without: ['output'],
  })
    .requiredOption('--id <path>', 'path in the member')
    .requiredOption('-o, --output <file>', "the file on this machine, or '-' for standard output")
    .option('-c, --continue', 'go on with what was interrupted')
    .action(async (options: { id: string; output: string; continue?: boolean }, command: Command) => {
      const target =
        options.output === '-' ? ({ kind: 'stream' } as const) : ({ kind: 'local', path: options.output } as const);
      const source = { kind: 'remote', path: remotePath(options.id) } as const;
      await copy(shell, command, [source, target], { ...PLAIN, continue: options.continue });
    });
  return noun(
    'client',
    'short forms: client store, client retrieve',
    [store, retrieve],
    [
      { line: 'collective client store --file a.raw', says: 'as /a.raw' },
      { line: 'collective client retrieve --id /a.raw --output a.raw', says: 'and back' },
    ],
  );
}
