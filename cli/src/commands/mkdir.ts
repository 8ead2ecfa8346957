/** `collective mkdir`: one operation a directory; with -p the parents too. */
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { modeOption, verb } from '../verb.ts';

export function mkdirCommand(shell: Shell): Command {
  return verb('mkdir', {
    summary: 'make directories',
    examples: [
      { line: 'collective mkdir /photos', says: 'one directory' },
      { line: 'collective mkdir -p /photos/2026/03', says: 'with its parents; no error if it exists' },
      { line: 'collective mkdir -m 750 /private', says: 'with these permission bits' },
    ],
  })
    .argument('<path...>', 'directories to make')
    .option('-p, --parents', 'make parents too; an existing directory is no error')
    .addOption(modeOption('permission bits', 0o755))
    .action(async (paths: string[], options: { parents?: boolean; mode: number }, command: Command) => {
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        for (const path of paths.map(remotePath)) {
          await failures.collect(async () => {
            await files.mkdir(path, { recursive: options.parents === true, mode: options.mode, signal });
          });
        }
        failures.end();
      });
    });
}
