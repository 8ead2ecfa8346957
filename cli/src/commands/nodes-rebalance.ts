/** `collective nodes rebalance`: evens out how much lies on each node now, rather than when the use differs by more than is set. */
import { formatByteSize } from '@collective/base/byte-size';
import type { RebalanceStatus } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { Progress } from '../output/progress.ts';
import { printOne, type RowsView } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

const percent = (value: number | undefined): string => (value === undefined ? '-' : `${value.toFixed(1)} %`);

const VIEW: RowsView<RebalanceStatus> = {
  columns: [
    { header: 'SPREAD', cell: ({ spreadPercent }) => percent(spreadPercent) },
    { header: 'MOVED', cell: ({ movedChunks, movedBytes }) => `${movedChunks} chunks, ${formatByteSize(movedBytes)}` },
  ],
  name: () => 'rebalance',
};

const PLAN_VIEW: RowsView<RebalanceStatus> = {
  columns: [
    { header: 'SPREAD', cell: ({ spreadPercent }) => percent(spreadPercent) },
    { header: 'AFTER', cell: ({ plannedSpreadPercent }) => percent(plannedSpreadPercent) },
    {
      header: 'TO MOVE',
      cell: ({ plannedChunks, plannedBytes }) => `${plannedChunks} chunks, ${formatByteSize(plannedBytes)}`,
    },
  ],
  name: () => 'rebalance',
};

export function rebalanceVerb(shell: Shell): Command {
  return verb('rebalance', {
    summary: 'even out how much lies on each node',
    description:
      'Chunks move from nodes above the average use to nodes below it, at the rate of repair. The spread is how far the node that is furthest from\nthe average is from it, in percent of its capacity.',
    examples: [
      { line: 'collective nodes rebalance --dry-run', says: 'how uneven it is, and what would move' },
      { line: 'collective nodes rebalance --wait', says: 'after a node has joined' },
    ],
  })
    .option('-n, --dry-run', 'only say what would move')
    .option('-w, --wait', 'until it is done')
    .action(async ({ dryRun = false, wait = false }: { dryRun?: boolean; wait?: boolean }, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const progress = new Progress(shell, { quiet: globals.quiet });
        const { movedBytes } = await admin.rebalance({ signal });
        const onProgress = (status: RebalanceStatus): void =>
          progress.update({ doneBytes: status.movedBytes - movedBytes, doneFiles: 0 });
        try {
          const status = await admin.rebalanceNodes({ dryRun, wait, signal, onProgress });
          progress.clear();
          await printOne(shell, globals.output, status, dryRun ? PLAN_VIEW : VIEW);
        } finally {
          progress.clear();
        }
      });
    });
}
