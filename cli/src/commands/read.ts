/** `collective read`: a part of a file on stdout. */

import { parseByteSize } from '@collective/base/byte-size';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { remotePath } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { flag, verb } from '../verb.ts';

export function readCommand(shell: Shell): Command {
  return verb('read', {
    summary: 'print a part of a file',
    examples: [
      { line: 'collective read /db/image', says: 'all of it' },
      { line: 'collective read /db/image --offset 1MiB --length 4KiB | xxd', says: '4 KiB from 1 MiB on' },
    ],
  })
    .argument('<path>', 'the file')
    .option(
      '--offset <size>',
      'first byte',
      flag((text) => parseByteSize(text, '--offset')),
      0,
    )
    .option(
      '--length <size>',
      'how many bytes; default: to the end',
      flag((text) => parseByteSize(text, '--length')),
    )
    .action(async (path: string, options: { offset: number; length?: number }, command: Command) => {
      await withMember(shell, command, async ({ files, signal }) => {
        const { offset, length } = options;
        for await (const piece of files.read(remotePath(path), { offset, length, signal })) {
          await writeOut(shell.stdout, piece);
        }
      });
    });
}
