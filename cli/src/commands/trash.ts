/** `collective trash`: what was removed, and bringing it back (M8). */
import { formatByteSize } from '@collective/base/byte-size';
import type { Timestamp } from '@collective/base/clock';
import { parseDurationMs } from '@collective/base/duration';
import type { RestoredTrash, TrashEntry } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { parseMoment } from '../moment.ts';
import { counted } from '../output/counted.ts';
import { Failures } from '../output/failures.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import { isoTime, localMinute } from '../output/time.ts';
import { remotePath } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { flag, noun, verb } from '../verb.ts';

const ENTRIES: RowsView<TrashEntry> = {
  columns: [
    { header: 'ID', cell: ({ id }) => String(id), align: 'right' },
    { header: 'REMOVED', cell: ({ deleted }) => localMinute(deleted) },
    { header: 'TYPE', cell: ({ type }) => type, wide: true },
    { header: 'SIZE', cell: ({ type, size }) => (type === 'file' ? formatByteSize(size) : '-'), align: 'right' },
    { header: 'OWNER', cell: ({ uid }) => String(uid), align: 'right', wide: true },
    { header: 'REMOVED BY', cell: ({ subject }) => subject.replace(/^spiffe:\/\/[^/]+\//, ''), wide: true },
    {
      header: 'KEPT UNTIL',
      cell: ({ keptUntil }) => (keptUntil === undefined ? 'next round' : localMinute(keptUntil)),
      wide: true,
    },
    { header: 'PATH', cell: ({ path, parentGone }) => (parentGone ? `?/${path}` : path) },
  ],
  name: ({ id }) => String(id),
  object: (entry) => ({
    ...entry,
    deleted: isoTime(entry.deleted),
    keptUntil: entry.keptUntil && isoTime(entry.keptUntil),
  }),
};

const RESTORED: RowsView<RestoredTrash> = {
  columns: [
    { header: 'PATH', cell: ({ path }) => path },
    { header: 'FILES', cell: ({ files }) => String(files), align: 'right' },
    { header: 'DIRECTORIES', cell: ({ directories }) => String(directories), align: 'right' },
    { header: 'SIZE', cell: ({ bytes }) => formatByteSize(bytes), align: 'right' },
    { header: 'SKIPPED', cell: ({ skipped }) => String(skipped), align: 'right' },
  ],
  name: ({ path }) => path,
};

export function trashCommand(shell: Shell): Command {
  return noun(
    'trash',
    'list, restore and destroy what was removed',
    [listVerb(shell), restoreVerb(shell), emptyVerb(shell)],
    [
      { line: 'collective trash list', says: 'what was removed, newest first' },
      { line: 'collective trash restore 17', says: 'by its number in the list' },
    ],
  );
}

function listVerb(shell: Shell): Command {
  return verb('list', {
    summary: 'list what was removed, newest first',
    description: 'Administrators see all, others what they own. A path is shown as its directory is called now.',
    examples: [
      { line: 'collective trash list', says: 'everything' },
      { line: 'collective trash list -l /photos', says: 'what lay there or below, with owners and dates' },
      { line: 'collective trash list -o json | jq ...', says: 'for programs' },
    ],
  })
    .alias('ls')
    .argument('[path]', 'what lay there or below')
    .option('-l, --long', 'with type, owner, who removed it and until when it is kept')
    .action(async (path: string | undefined, options: { long?: boolean }, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const format = options.long && globals.output === 'table' ? 'wide' : globals.output;
        const wanted = path === undefined ? undefined : remotePath(path);
        await printRows(shell, format, admin.trash.list({ path: wanted, signal }), ENTRIES);
      });
    });
}

interface RestoreOptions {
  readonly to?: string;
  readonly at?: Timestamp;
}

function restoreVerb(shell: Shell): Command {
  return verb('restore', {
    summary: 'give what was removed its name again',
    description:
      'A path means the newest of that name, a number an entry of the list. A directory brings back the newest of each name that was removed below it; its own directories come back where they are missing. Names that are taken are left as they are.',
    examples: [
      { line: 'collective trash restore /notes/plan.txt', says: 'the newest of that name' },
      { line: 'collective trash restore /photos/2019', says: 'a directory and all that was removed below it' },
      {
        line: 'collective trash restore /notes/plan.txt --at 2h --to /notes/plan.old',
        says: 'as it was two hours ago',
      },
      { line: 'collective trash restore 70231', says: 'one entry of `trash list`' },
    ],
  })
    .argument('<path-or-id...>', 'what to bring back')
    .option('--to <path>', 'under another name, within its realm')
    .option(
      '--at <time>',
      "as it was then: '2h' ago, or '2026-03-01 12:00'",
      flag((text) => parseMoment(text, '--at', shell.clock.now())),
    )
    .action(async (wanted: string[], options: RestoreOptions, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const { at } = options;
        const to = options.to === undefined ? undefined : remotePath(options.to);
        const failures = new Failures(shell, globals, signal);
        const rows: RestoredTrash[] = [];
        for (const each of wanted) {
          await failures.collect(async () => {
            const what = /^\d+$/.test(each) ? { id: Number(each) } : { path: remotePath(each) };
            const restored = await admin.trash.restore(what, { to, at, signal });
            rows.push(restored);
            if (restored.skipped > 0 && !globals.quiet)
              shell.stderr.write(
                `${restored.skipped} left in the trash, their names are taken or they belong to others: ${restored.skippedPaths.join(', ')}${restored.skipped > restored.skippedPaths.length ? ', ...' : ''}\n`,
              );
          });
        }
        if (rows.length > 0) await printRows(shell, globals.output, rows, RESTORED);
        failures.end();
      });
    });
}

function emptyVerb(shell: Shell): Command {
  return verb('empty', {
    summary: 'destroy what was removed',
    description:
      'Administrators empty it for all, others destroy what they own. What is destroyed cannot be brought back; its room is free on the nodes after the grace time of garbage.',
    examples: [
      { line: 'collective trash empty', says: 'all of it' },
      { line: 'collective trash empty --older-than 2d', says: 'what was removed two days ago or earlier' },
      { line: 'collective trash empty /scratch', says: 'what lay there or below' },
    ],
  })
    .argument('[path]', 'what lay there or below')
    .option(
      '--older-than <duration>',
      'removed so long ago or longer',
      flag((text) => parseDurationMs(text, '--older-than')),
    )
    .action(async (path: string | undefined, options: { olderThan?: number }, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const olderThanSeconds = Math.ceil((options.olderThan ?? 0) / 1_000);
        const wanted = path === undefined ? undefined : remotePath(path);
        const emptied = await admin.trash.empty({ path: wanted, olderThanSeconds, signal });
        if (globals.output === 'table' || globals.output === 'wide') {
          const { files, directories, bytes } = emptied;
          await writeOut(
            shell.stdout,
            `Destroyed ${counted(files, 'file')} and ${counted(directories, 'directory', 'directories')} with ${formatByteSize(bytes)}.\n`,
          );
        } else await printOne(shell, globals.output, emptied, { columns: [], name: ({ files }) => String(files) });
      });
    });
}
