/** `kubectl collective backups MEMBER`: which backups lie on its volume, as the last one that was made told the operator. */
import { wallMs } from '@collective/base/clock';
import type { Command } from 'commander';
import { backupsAmong, type NamedBackup } from '../../backup/backup-names.ts';
import { printRows, type RowsView } from '../../output/table.ts';
import { type Shell, say } from '../../shell.ts';
import { kubeVerb } from '../kube-verb.ts';
import { ageOf } from '../moments.ts';
import { memberOf, withCluster } from '../with-cluster.ts';

export function backupsCommand(shell: Shell): Command {
  return kubeVerb('backups', {
    summary: 'list the scheduled backups of a member that are kept',
    description:
      'Of its metadata, newest first, fifty at most; spec.backup of the Member says when they are made and how many are kept.',
    examples: [{ line: 'kubectl collective backups alice', says: 'which could be restored?' }],
  })
    .argument('<member>', 'the Member')
    .action(async (name: string, _options: unknown, command: Command) => {
      await withCluster(shell, command, async (session) => {
        const { quiet, output } = session.options;
        const { status } = await memberOf(session, name);
        const kept = backupsAmong(status?.backup?.kept ?? [], name);
        if (kept.length === 0 && !quiet)
          await say(shell, `No backup of ${name} is known yet: spec.backup of the Member has them made.`);
        await printRows(shell, output, kept, backupView(wallMs(shell.clock)));
      });
    });
}

function backupView(nowMs: number): RowsView<NamedBackup> {
  return {
    columns: [
      { header: 'BACKUP', cell: ({ name }) => name },
      { header: 'CREATED', cell: ({ created }) => created },
      { header: 'AGE', cell: ({ created }) => ageOf(created, nowMs) },
    ],
    name: ({ name }) => name,
  };
}
