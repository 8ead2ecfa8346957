/** `collective cat`: the contents of files, one after the other, on stdout. */
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { remotePath } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { verb } from '../verb.ts';

export function catCommand(shell: Shell): Command {
  return verb('cat', {
    summary: 'print files',
    examples: [
      { line: 'collective cat /notes/today.txt', says: 'one file' },
      { line: 'collective cat /logs/1 /logs/2 | gzip > logs.gz', says: 'several, into a pipe' },
    ],
  })
    .argument('<path...>', 'files to print')
    .action(async (paths: string[], _options: unknown, command: Command) => {
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        for (const path of paths.map(remotePath)) {
          await failures.collect(async () => {
            for await (const piece of files.read(path, { signal })) await writeOut(shell.stdout, piece);
          });
        }
        failures.end();
      });
    });
}
