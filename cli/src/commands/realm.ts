/** `collective realm`: directories with a quota, rights and replication of their own (M9). */

import { parseByteSize } from '@collective/base/byte-size';
import { parseDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { REPLICAS_MAX } from '@collective/base/limits';
import type { RealmChange } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { REALM_VIEW } from '../output/realm-view.ts';
import { printOne, printRows } from '../output/table.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { flag, noun, verb, wholeNumber } from '../verb.ts';

interface RealmOptions {
  readonly quota?: number;
  readonly inodes?: number;
  readonly replicas?: number;
  readonly minReplicas?: number;
  readonly compression?: boolean;
  readonly trash?: number;
  readonly trashYields?: boolean;
}

export function realmCommand(shell: Shell): Command {
  return noun(
    'realm',
    'create, change and list realms: directories with a quota and rights of their own',
    [createVerb(shell), setVerb(shell), listVerb(shell)],
    [
      { line: 'collective realm create /photos --quota 500GB', says: 'make one' },
      { line: 'collective realm list', says: 'use and quota of each' },
    ],
  );
}

function createVerb(shell: Shell): Command {
  const command = verb('create', {
    summary: 'make a directory a realm',
    description: 'The directory must be empty or not exist. Files cannot be renamed or linked across realms.',
    examples: [
      { line: 'collective realm create /photos --quota 500GB', says: 'at most 500 GB' },
      { line: 'collective realm create /scratch --replicas 1 --trash off', says: 'one copy, and removed is gone' },
    ],
  }).argument('<path>', 'the directory');
  return withSettings(command).action(async (path: string, options: RealmOptions, command: Command) => {
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      const realm = await admin.createRealm({ path: remotePath(path), ...settingsOf(options) }, { signal });
      await printOne(shell, globals.output, realm, REALM_VIEW);
    });
  });
}

function setVerb(shell: Shell): Command {
  const command = verb('set', {
    summary: 'change the settings of a realm while it is in use',
    description:
      'What is not named stays. Another number of replicas is brought about in the background. A quota below what is used takes nothing away: writes wait until there is room.',
    examples: [
      { line: 'collective realm set /photos --quota 1TB', says: 'a larger quota' },
      { line: 'collective realm set / --trash 30d --trash-yields', says: 'the whole member, but for realms below' },
      { line: 'collective realm set /important --replicas 3 --min-replicas 2', says: 'more copies' },
      { line: 'collective realm set /photos --quota none', says: 'without a quota' },
    ],
  })
    .argument('<path>', 'where the realm begins')
    .option('--compression', 'compress where it pays');
  // The affirmative first: so a flag that is not given stays undefined.
  const settings = withSettings(command).option('--no-trash-yields', 'keep the trash also when there is no room');
  return settings.action(async (path: string, options: RealmOptions, command: Command) => {
    const change = settingsOf(options);
    if (Object.values(change).every((value) => value === undefined))
      throw new CollectiveError('invalid_argument', `Change realm ${path}: name what to change, see --help`);
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      const realm = await admin.setRealm(remotePath(path), change, { signal });
      await printOne(shell, globals.output, realm, REALM_VIEW);
    });
  });
}

function listVerb(shell: Shell): Command {
  return verb('list', {
    summary: 'list the realms of the member',
    examples: [
      { line: 'collective realm list', says: 'use and quota of each' },
      { line: 'collective realm list -o wide', says: 'with all settings' },
    ],
  })
    .alias('ls')
    .action(async (_options: unknown, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        await printRows(shell, globals.output, await admin.realms({ signal }), REALM_VIEW);
      });
    });
}

function withSettings(command: Command): Command {
  return command
    .option(
      '--quota <size>',
      "bytes that fit in; 'none': no quota",
      flag((text) => orNone(text, () => parseByteSize(text, '--quota'))),
    )
    .option(
      '--inodes <n>',
      "files and directories that fit in; 'none': no quota",
      flag((text) => orNone(text, () => wholeNumber('--inodes', 1, 2 ** 48)(text))),
    )
    .option('--replicas <n>', 'copies of everything', flag(wholeNumber('--replicas', 1, REPLICAS_MAX)))
    .option(
      '--min-replicas <n>',
      'fewer than this, and writes wait',
      flag(wholeNumber('--min-replicas', 1, REPLICAS_MAX)),
    )
    .option('--no-compression', 'store bytes as they are')
    .option(
      '--trash <duration>',
      "how long removed files are kept, as '7d'; 'off': not at all",
      flag((text) => (text === 'off' ? 0 : Math.ceil(parseDurationMs(text, '--trash') / 1_000))),
    )
    .option('--trash-yields', 'let go of the oldest in the trash when there is no room');
}

function orNone(text: string, parse: () => number): number {
  return text === 'none' ? 0 : parse();
}

function settingsOf(options: RealmOptions): RealmChange {
  const { quota, inodes, replicas, minReplicas, compression, trash, trashYields } = options;
  return {
    quotaBytes: quota,
    quotaInodes: inodes,
    replicas,
    minReplicas,
    compression,
    trashSeconds: trash,
    trashYields,
  };
}
