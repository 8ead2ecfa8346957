/** `collective completion`: the script that a shell reads once; the answers come from `collective __complete`. */

import { CollectiveError } from '@collective/base/errors';
import type { Command } from 'commander';
import { COMPLETION_SHELLS, completionScript } from '../completion/scripts.ts';
import { type Shell, writeOut } from '../shell.ts';
import { IDLE_WITHOUT_DATA, verb } from '../verb.ts';

export function completionCommand(shell: Shell): Command {
  return verb('completion', {
    summary: 'print the completion script of bash, zsh or fish',
    description:
      'Commands, flags, contexts and remote paths are completed; the coordinator is asked for at most 300 ms\n(COLLECTIVE_COMPLETION_WITHIN=2s gives it more).',
    examples: [
      { line: 'source <(collective completion bash)', says: 'bash, for now; put it into ~/.bashrc' },
      { line: 'source <(collective completion zsh)', says: 'zsh, for now; put it into ~/.zshrc' },
      { line: 'collective completion fish > ~/.config/fish/completions/collective.fish', says: 'fish, for good' },
    ],
    idle: IDLE_WITHOUT_DATA,
  })
    .argument('<shell>', COMPLETION_SHELLS.join(', '))
    .action(async (name: string) => {
      const known = COMPLETION_SHELLS.find((one) => one === name);
      if (known === undefined) {
        throw new CollectiveError(
          'invalid_argument',
          `Complete in '${name}': known are ${COMPLETION_SHELLS.join(', ')}`,
        );
      }
      await writeOut(shell.stdout, await completionScript(known));
    });
}
