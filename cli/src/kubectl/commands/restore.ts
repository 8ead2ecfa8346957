/** `kubectl collective restore MEMBER [BACKUP]`: orders the metadata of a lost volume back from a scheduled backup (M2a). */
import type { Command } from 'commander';
import { type Shell, say } from '../../shell.ts';
import { duration } from '../../verb.ts';
import { awaitMember } from '../awaiting.ts';
import { annotateMember } from '../changing.ts';
import { kubeVerb } from '../kube-verb.ts';
import { isRestored, LATEST, restoreOrder, restoreStep } from '../metadata-restore.ts';
import { withCluster } from '../with-cluster.ts';

const WAIT_MS = 3_600_000;

interface RestoreOptions {
  readonly wait?: boolean;
  readonly timeout: number;
}

export function restoreCommand(shell: Shell): Command {
  return kubeVerb('restore', {
    summary: "bring a member's metadata back from a backup, once their volume is lost",
    description:
      'The coordinator gets a new volume, a job fills it from the backup, and it starts on it as a new generation. A volume with metadata is\nnever overwritten. What was stored after the backup stays on the nodes; nothing is removed from any of them until you say so.',
    examples: [
      { line: 'kubectl collective restore alice --wait', says: 'the newest backup' },
      { line: 'kubectl collective restore alice alice-20261126T034500Z.backup', says: 'an older one' },
    ],
  })
    .argument('<member>', 'the Member')
    .argument('[backup]', 'its name, as `backups` lists it; default: the newest')
    .option('-w, --wait', 'until the coordinator serves again')
    .addOption(duration('--timeout <duration>', 'how long to wait with --wait', WAIT_MS))
    .action(async (name: string, backup: string | undefined, options: RestoreOptions, command: Command) => {
      const from = backup ?? LATEST;
      await withCluster(shell, command, async (session) => {
        const { quiet } = session.options;
        const { changed } = await annotateMember(session, name, (seen) => restoreOrder(seen, from));
        const what = from === LATEST ? 'its newest backup' : from;
        if (!quiet)
          await say(shell, `${name}: ${changed ? 'to be restored' : 'was to be restored already'} from ${what}.`);
        if (!options.wait) {
          if (!quiet) await say(shell, `'kubectl collective status ${name} --watch' shows how far it is.`);
          return;
        }
        const restored = await awaitMember(shell, session, {
          member: name,
          what: `Restore ${name}`,
          withinMs: options.timeout,
          isDone: isRestored,
          step: restoreStep,
        });
        if (quiet) return;
        const file = restored.status?.coordinator?.restored?.file ?? from;
        await say(
          shell,
          [
            `${name} serves again with the metadata of ${file}. Next, as an administrator of it:`,
            '  collective status                                    # is anything missing?',
            '  collective garbage orphans                           # chunks that are newer than the backup',
            '  collective maintenance set garbage-waits=false       # when you have looked: until then nothing is removed',
          ].join('\n'),
        );
      });
    });
}
