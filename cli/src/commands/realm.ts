/** `collective realm`: directories with a quota, rights and replication of their own (M9). */

import { formatByteSize, parseByteSize } from '@collective/base/byte-size';
import { formatDurationMs, parseDurationMs } from '@collective/base/duration';
import { REPLICAS_MAX } from '@collective/base/limits';
import type { Realm } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { flag, noun, verb, wholeNumber } from '../verb.ts';

interface RealmOptions {
  readonly quota?: number;
  readonly inodes?: number;
  readonly replicas?: number;
  readonly minReplicas?: number;
  readonly compression: boolean;
  readonly trash?: number;
  readonly trashYields?: boolean;
}

const VIEW: RowsView<Realm> = {
  columns: [
    { header: 'PATH', cell: ({ path }) => path },
    { header: 'USED', cell: ({ usedBytes }) => formatByteSize(usedBytes), align: 'right' },
    {
      header: 'QUOTA',
      cell: ({ quotaBytes }) => (quotaBytes === 0 ? '-' : formatByteSize(quotaBytes)),
      align: 'right',
    },
    { header: 'INODES', cell: ({ usedInodes }) => String(usedInodes), align: 'right' },
    {
      header: 'INODE QUOTA',
      cell: ({ quotaInodes }) => (quotaInodes === 0 ? '-' : String(quotaInodes)),
      align: 'right',
    },
    { header: 'TRASH', cell: ({ trashBytes }) => formatByteSize(trashBytes), align: 'right' },
    { header: 'REPLICAS', cell: ({ replicas, minReplicas }) => `${replicas} (at least ${minReplicas})` },
    { header: 'REALM', cell: ({ realm }) => String(realm), wide: true },
    { header: 'ROOT INODE', cell: ({ root }) => String(root), wide: true },
    { header: 'COMPRESSION', cell: ({ compression }) => (compression ? 'where it pays' : 'off'), wide: true },
    {
      header: 'REMOVED FILES',
      cell: ({ trashSeconds, trashYields }) =>
        trashSeconds === 0
          ? 'destroyed at once'
          : `kept for ${formatDurationMs(trashSeconds * 1000)}${trashYields ? ', less when there is no room' : ''}`,
      wide: true,
    },
  ],
  name: ({ path }) => path,
};

export function realmCommand(shell: Shell): Command {
  const create = verb('create', {
    summary: 'make a directory a realm',
    description: 'The directory must be empty or not exist. Files cannot be renamed or linked across realms.',
    examples: [
      { line: 'collective realm create /photos --quota 500GB', says: 'at most 500 GB' },
      { line: 'collective realm create /scratch --replicas 1', says: 'one copy of everything' },
    ],
  })
    .argument('<path>', 'the directory')
    .option(
      '--quota <size>',
      'bytes that fit in',
      flag((text) => parseByteSize(text, '--quota')),
    )
    .option('--inodes <n>', 'files and directories that fit in', flag(wholeNumber('--inodes', 1, 2 ** 48)))
    .option('--replicas <n>', 'copies of everything', flag(wholeNumber('--replicas', 1, REPLICAS_MAX)))
    .option(
      '--min-replicas <n>',
      'fewer than this, and writes wait',
      flag(wholeNumber('--min-replicas', 1, REPLICAS_MAX)),
    )
    .option('--no-compression', 'store bytes as they are')
    .option('--trash <duration>', "how long removed files are kept, as '7d'; 'off': not at all", flag(trashTime))
    .option('--trash-yields', 'let go of the oldest in the trash when there is no room')
    .action(async (path: string, options: RealmOptions, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const realm = await admin.createRealm(
          {
            path: remotePath(path),
            quotaBytes: options.quota,
            quotaInodes: options.inodes,
            replicas: options.replicas,
            minReplicas: options.minReplicas,
            compression: options.compression,
            trashSeconds: options.trash,
            trashYields: options.trashYields,
          },
          { signal },
        );
        await printOne(shell.stdout, globals.output, realm, VIEW);
      });
    });
  const list = verb('list', {
    summary: 'list the realms of the member',
    examples: [{ line: 'collective realm list', says: 'use and quota of each' }],
  })
    .alias('ls')
    .action(async (_options: unknown, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        await printRows(shell.stdout, globals.output, await admin.realms({ signal }), VIEW);
      });
    });
  return noun('realm', 'create and list realms: directories with a quota and rights of their own', [create, list]);
}

/** Seconds; 0: no trash. */
function trashTime(text: string): number {
  return text === 'off' ? 0 : Math.ceil(parseDurationMs(text, '--trash') / 1_000);
}
