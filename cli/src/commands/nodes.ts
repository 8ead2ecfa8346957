/** `collective nodes list`: the storage nodes as the coordinator sees them. */
import type { NodeStatus } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { nodeView } from '../output/node-view.ts';
import { printRows } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { noun, verb } from '../verb.ts';

export function nodesCommand(shell: Shell): Command {
  const list = verb('list', {
    summary: 'list the storage nodes',
    examples: [
      { line: 'collective nodes list', says: 'state, room, last heartbeat' },
      { line: 'collective nodes list -o wide', says: 'with address, disk and certificate' },
      { line: 'collective nodes list -o name', says: 'names only' },
    ],
  })
    .alias('ls')
    .action(async (_options: unknown, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const nodes: readonly NodeStatus[] = await admin.nodes({ signal });
        await printRows(shell.stdout, globals.output, nodes, nodeView(shell.clock.now()));
      });
    });
  return noun('nodes', 'list the storage nodes', [list]);
}
