/** `collective stat`: everything that the coordinator knows about a path. Does not follow a link at its end. */
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { counted } from '../output/counted.ts';
import { type EntryRow, entryObject, modeText, octalMode } from '../output/entry-view.ts';
import { Failures } from '../output/failures.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import { isoTime } from '../output/time.ts';
import { baseName, remotePath } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { verb } from '../verb.ts';

interface StatRow extends EntryRow {
  readonly xattrs: readonly string[];
}

const VIEW: RowsView<StatRow> = {
  columns: [
    { header: 'Path', cell: ({ path, target }) => (target === undefined ? path : `${path} -> ${target}`) },
    { header: 'Type', cell: ({ attributes }) => attributes.type },
    { header: 'Size', cell: ({ attributes }) => counted(attributes.sizeBytes, 'byte') },
    { header: 'Stored', cell: ({ attributes }) => `${counted(attributes.storedBytes, 'byte')} before replication` },
    { header: 'Mode', cell: ({ attributes }) => `${octalMode(attributes.mode)} ${modeText(attributes)}` },
    { header: 'Owner', cell: ({ attributes }) => `uid ${attributes.uid}, gid ${attributes.gid}` },
    { header: 'Links', cell: ({ attributes }) => String(attributes.links) },
    { header: 'Inode', cell: ({ attributes }) => `${attributes.inode} in realm ${attributes.realm}` },
    { header: 'Modified', cell: ({ attributes }) => isoTime(attributes.modified) },
    { header: 'Changed', cell: ({ attributes }) => isoTime(attributes.changed) },
    { header: 'Born', cell: ({ attributes }) => isoTime(attributes.birth) },
    { header: 'Version', cell: ({ attributes }) => String(attributes.version), wide: true },
    { header: 'Attributes', cell: ({ xattrs }) => xattrs.join(', ') || '<none>' },
  ],
  name: ({ path }) => path,
  object: (row) => ({ ...(entryObject(row) as object), version: row.attributes.version, xattrs: row.xattrs }),
};

export function statCommand(shell: Shell): Command {
  return verb('stat', {
    summary: 'show everything about a path',
    description: 'A symbolic link is shown as itself; -L follows it. Access times are not kept (noatime).',
    examples: [
      { line: 'collective stat /photos/a.raw', says: 'size, mode, owner, times, inode' },
      { line: 'collective stat -o json /photos/a.raw', says: 'for programs' },
    ],
  })
    .argument('<path...>', 'what to show')
    .option('-L, --dereference', 'follow a symbolic link at the end of the path')
    .action(async (paths: string[], options: { dereference?: boolean }, command: Command) => {
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        const rows: StatRow[] = [];
        for (const path of paths.map(remotePath)) {
          await failures.collect(async () => {
            const attributes = options.dereference
              ? await files.stat(path, { signal })
              : await files.lstat(path, { signal });
            const target = attributes.type === 'symlink' ? await files.readlink(path, { signal }) : undefined;
            const xattrs = attributes.type === 'symlink' ? [] : await files.listXattrs(path, { signal });
            rows.push({ name: baseName(path) || '/', path, attributes, target, xattrs });
          });
        }
        const many = paths.length > 1;
        if (many && (globals.output === 'json' || globals.output === 'yaml')) {
          await printRows(shell, globals.output, rows, VIEW);
        } else {
          for (const [i, row] of rows.entries()) {
            if (i > 0 && globals.output !== 'name') await writeOut(shell.stdout, '\n');
            await printOne(shell, globals.output, row, VIEW);
          }
        }
        failures.end();
      });
    });
}
