/** `collective chmod`: octal or symbolic modes; links are followed, as chmod does, but not below -R. */
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { parseModeChange } from '../mode.ts';
import { Failures } from '../output/failures.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

export function chmodCommand(shell: Shell): Command {
  return verb('chmod', {
    summary: 'change permission bits',
    examples: [
      { line: 'collective chmod 640 /notes/today.txt', says: 'octal' },
      { line: 'collective chmod u+x,go-w /bin/run', says: 'symbolic' },
      { line: 'collective chmod -R u=rwX,go=rX /share', says: 'all below; X only where something is executable' },
    ],
  })
    .argument('<mode>', 'octal or symbolic')
    .argument('<path...>', 'files and directories')
    .option('-R, --recursive', 'all below, too')
    .action(async (modeText: string, paths: string[], options: { recursive?: boolean }, command: Command) => {
      const change = parseModeChange(modeText);
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        for (const path of paths.map(remotePath)) {
          await failures.collect(async () => {
            if (!options.recursive) {
              const { mode, type } = await files.stat(path, { signal });
              await files.setAttributes(path, { mode: change(mode, type === 'directory') }, { signal });
              return;
            }
            for await (const { path: below, attributes } of files.walk(path, { signal })) {
              if (attributes.type === 'symlink') continue;
              const mode = change(attributes.mode, attributes.type === 'directory');
              if (mode === attributes.mode) continue;
              await failures.collect(async () => {
                await files.setAttributes(below, { mode }, { signal, followLinks: false });
              });
            }
          });
        }
        failures.end();
      });
    })
    .passThroughOptions(false);
}
