/** `kubectl collective members`: all members in a table, with one word of health. */
import { wallMs } from '@collective/base/clock';
import type { Command } from 'commander';
import { printRows } from '../../output/table.ts';
import type { Shell } from '../../shell.ts';
import { kubeVerb } from '../kube-verb.ts';
import { memberRow, memberView } from '../member-rows.ts';
import { watching } from '../watching.ts';
import { wantedMembers, withCluster } from '../with-cluster.ts';

export function membersCommand(shell: Shell): Command {
  return kubeVerb('members', {
    summary: 'list members: health, nodes, room, authority, first expiry',
    examples: [
      { line: 'kubectl collective members -A', says: 'of all namespaces' },
      { line: 'kubectl collective members -o wide', says: 'with the reason of each' },
      { line: 'kubectl collective members --watch', says: 'again every two seconds' },
    ],
    many: true,
  })
    .option('-w, --watch', 'look again every two seconds until Ctrl-C')
    .action(async ({ watch = false }: { watch?: boolean }, command: Command) => {
      await withCluster(shell, command, async (session) => {
        const { output, allNamespaces } = session.options;
        await watching(
          shell,
          { watch },
          () => wantedMembers(session),
          async (members) => {
            const nowMs = wallMs(shell.clock);
            const rows = members.map((member) => memberRow(member, nowMs));
            await printRows(shell, output, rows, memberView(allNamespaces, nowMs));
          },
        );
      });
    });
}
