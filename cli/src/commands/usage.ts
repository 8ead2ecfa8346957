/** `collective usage`: what lies below a path, counted by the coordinator. */

import { formatByteSize } from '@collective/base/byte-size';
import type { UsageTotals } from '@collective/client';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { pathsOrRoot } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

type UsageRow = UsageTotals & { readonly path: string };

const VIEW: RowsView<UsageRow> = {
  columns: [
    { header: 'FILES', cell: ({ files }) => String(files), align: 'right' },
    { header: 'DIRECTORIES', cell: ({ directories }) => String(directories), align: 'right' },
    { header: 'SIZE', cell: ({ bytes }) => formatByteSize(bytes), align: 'right' },
    { header: 'STORED', cell: ({ storedBytes }) => formatByteSize(storedBytes), align: 'right' },
    { header: 'PATH', cell: ({ path }) => path },
  ],
  name: ({ path }) => path,
  object: ({ path, files, directories, bytes, storedBytes }) => ({ path, files, directories, bytes, storedBytes }),
};

export function usageCommand(shell: Shell): Command {
  return verb('usage', {
    summary: 'count files and bytes below a path',
    description: 'SIZE is what readers see, STORED what is occupied before replication (sparse files have less).',
    examples: [
      { line: 'collective usage /photos', says: 'files, directories, bytes' },
      { line: 'collective usage -o json / /photos', says: 'several, for programs' },
    ],
  })
    .argument('[path...]', 'where to count; default: /')
    .action(async (paths: string[], _options: unknown, command: Command) => {
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        const wanted = pathsOrRoot(paths);
        const rows = wanted.map(
          (path) => async (): Promise<UsageRow> => ({
            path,
            ...(await files.usage(path, { signal })),
          }),
        );
        await printRows(shell, globals.output, failures.outcomes(rows), VIEW);
        failures.end();
      });
    });
}
