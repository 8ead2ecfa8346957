/** `collective ln`: a second name for a file, or with -s a symbolic link. */
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

export function lnCommand(shell: Shell): Command {
  return verb('ln', {
    summary: 'make hard or symbolic links',
    examples: [
      { line: 'collective ln /a.txt /b.txt', says: 'b.txt is the same file as a.txt' },
      { line: 'collective ln -s ../2026/03 /photos/latest', says: 'a link that is followed by name' },
      { line: 'collective ln -sf /releases/7 /current', says: 'put a new link in place of an old one in one step' },
    ],
  })
    .argument('<target>', 'the file; with -s any text, which is not looked up')
    .argument('<link>', 'the new name')
    .option('-s, --symbolic', 'make a symbolic link')
    .option('-f, --force', 'replace an existing name')
    .action(
      async (target: string, link: string, options: { symbolic?: boolean; force?: boolean }, command: Command) => {
        await withMember(shell, command, async ({ files, signal }) => {
          const path = remotePath(link);
          // A link made aside and renamed over the name: readers see the old or the new one.
          const made = options.force ? `${path}.${shell.clock.now().nanos.toString(36)}.link` : path;
          if (options.symbolic) await files.symlink(target, made, { signal });
          else await files.link(remotePath(target), made, { signal });
          if (options.force) await files.rename(made, path, { mode: 'replace', signal });
        });
      },
    );
}
