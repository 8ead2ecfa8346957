/** `collective df`: room that is left in the realm of a path, or in all realms that the session may use. */

import { formatByteSize } from '@collective/base/byte-size';
import type { FileSystemTotals } from '@collective/client';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

type RoomRow = FileSystemTotals & { readonly path: string; readonly realm: string };

export function dfCommand(shell: Shell): Command {
  return verb('df', {
    summary: 'show the room that is left',
    description:
      'Sizes are after replication: with two replicas a node of 1 TiB adds half of that. What is in the trash is used, too.',
    examples: [
      { line: 'collective df -h', says: 'every realm that you may use' },
      { line: 'collective df -h /photos', says: 'the realm of a path' },
      { line: 'collective df -i', says: 'inodes instead of bytes' },
    ],
    without: ['help-letter'],
  })
    .argument('[path...]', 'paths whose realms are meant')
    .option('-h, --human', 'print sizes as 1.5 GiB')
    .option('-i, --inodes', 'show inodes')
    .action(async (paths: string[], options: { human?: boolean; inodes?: boolean }, command: Command) => {
      await withMember(shell, command, async ({ member, files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        const { realms } = member.session;
        const wanted = paths.length > 0 ? paths.map(remotePath) : realms.map(({ path }) => path);
        const rows = wanted.map((path) => async (): Promise<RoomRow> => {
          const [room, { realm }] = await Promise.all([
            files.statFileSystem(path, { signal }),
            files.stat(path, { signal }),
          ]);
          return { path, realm: realms.find((one) => one.realm === realm)?.path ?? path, ...room };
        });
        const shown = view(options.human === true, options.inodes === true);
        await printRows(shell, globals.output, failures.outcomes(rows), shown);
        failures.end();
      });
    });
}

function view(human: boolean, inodes: boolean): RowsView<RoomRow> {
  const show = human && !inodes ? formatByteSize : (value: number): string => String(value);
  const total = (row: RoomRow): number => (inodes ? row.totalInodes : row.totalBytes);
  const free = (row: RoomRow): number => (inodes ? row.freeInodes : row.freeBytes);
  return {
    columns: [
      { header: inodes ? 'INODES' : 'SIZE', cell: (row) => show(total(row)), align: 'right' },
      { header: 'USED', cell: (row) => show(total(row) - free(row)), align: 'right' },
      { header: 'TRASH', cell: (row) => show(inodes ? row.trashInodes : row.trashBytes), align: 'right' },
      { header: 'FREE', cell: (row) => show(free(row)), align: 'right' },
      { header: 'USE%', cell: (row) => share(total(row) - free(row), total(row)), align: 'right' },
      { header: 'REALM', cell: ({ realm }) => realm },
    ],
    name: ({ path }) => path,
    object: (row) => ({
      path: row.path,
      realm: row.realm,
      usedBytes: row.totalBytes - row.freeBytes,
      totalBytes: row.totalBytes,
      freeBytes: row.freeBytes,
      totalInodes: row.totalInodes,
      freeInodes: row.freeInodes,
      trashBytes: row.trashBytes,
      trashInodes: row.trashInodes,
    }),
  };
}

/** Rounded up, as df does: 100% means full. */
function share(used: number, total: number): string {
  return total === 0 ? '-' : `${Math.ceil((used / total) * 100)}%`;
}
