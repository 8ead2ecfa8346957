/** `collective realm`: directories with a quota, rights and replication of their own (M9). */

import { parseByteSize } from '@collective/base/byte-size';
import { parseDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { REPLICAS_MAX } from '@collective/base/limits';
import type { Job, Realm, RealmChange } from '@collective/client';
import type { Command } from 'commander';
import { type AdminSession, withAdmin } from '../member-session.ts';
import { Progress } from '../output/progress.ts';
import { JOB_VIEW, REALM_VIEW, type ShownRealm, shownRealm } from '../output/realm-view.ts';
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
  /** Whoever may use the realm around it may use it. */
  readonly rights?: boolean;
  readonly wait?: boolean;
}

export function realmCommand(shell: Shell): Command {
  return noun(
    'realm',
    'create, change, list and dissolve realms: directories with a quota and rights of their own',
    [createVerb(shell), setVerb(shell), listVerb(shell), deleteVerb(shell), jobsVerb(shell)],
    [
      { line: 'collective realm create /photos --quota 500GB', says: 'make one' },
      { line: 'collective realm list', says: 'use and quota of each' },
      { line: 'collective realm delete /photos', says: 'its files belong to the realm around it again' },
    ],
  );
}

function createVerb(shell: Shell): Command {
  const command = verb('create', {
    summary: 'make a directory a realm',
    description:
      'A directory that is empty or not there is a realm at once. One with something in it becomes one in the background while it is in use; the\ncommand waits for the end, and when it is broken off, the work goes on. Files cannot be renamed or linked across realms: a file with\nanother name outside is named, and all is as before.',
    examples: [
      { line: 'collective realm create /photos --quota 500GB', says: 'at most 500 GB' },
      { line: 'collective realm create /scratch --replicas 1 --trash off', says: 'one copy, and removed is gone' },
      {
        line: 'collective realm create /archive --no-wait',
        says: 'a large one: collective realm jobs shows how far it is',
      },
    ],
  }).argument('<path>', 'the directory');
  return withSettings(command)
    .option('--no-wait', 'do not wait until all that is in the directory belongs to the realm')
    .action(async (path: string, options: RealmOptions, command: Command) => {
      await withAdmin(shell, command, async (session) => {
        const { admin, globals, signal } = session;
        const made = await admin.createRealm({ path: remotePath(path), ...settingsOf(options) }, { signal });
        if (made.job !== 0 && options.wait !== false) await waitForJob(shell, session, made.job);
        const now = (await admin.realms({ signal })).find(({ realm }) => realm === made.realm);
        const [shown] = await withState([now ?? made], session);
        if (shown !== undefined) await printOne(shell, globals.output, shown, REALM_VIEW);
      });
    });
}

function setVerb(shell: Shell): Command {
  const command = verb('set', {
    summary: 'change the settings of a realm while it is in use',
    description:
      'What is not named stays. Another number of replicas is brought about in the background. A quota below what is used takes nothing away: writes are refused until there is room.',
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
    await withAdmin(shell, command, async (session) => {
      const { admin, globals, signal } = session;
      const [shown] = await withState([await admin.setRealm(remotePath(path), change, { signal })], session);
      if (shown !== undefined) await printOne(shell, globals.output, shown, REALM_VIEW);
    });
  });
}

function deleteVerb(shell: Shell): Command {
  return verb('delete', {
    summary: 'dissolve a realm: what is in it belongs to the realm around it, and nothing is removed',
    description:
      'In the background, while it is in use; the command waits for the end, and when it is broken off, the work goes on. The quota of the\nrealm around it must have room for all of it. To remove the files as well: collective rm -r.',
    examples: [
      { line: 'collective realm delete /photos', says: 'the files stay where they are' },
      { line: 'collective realm delete /archive --no-wait', says: 'collective realm jobs shows how far it is' },
    ],
  })
    .alias('dissolve')
    .argument('<path>', 'where the realm begins')
    .option('--no-wait', 'do not wait for the end')
    .action(async (path: string, { wait }: { wait?: boolean }, command: Command) => {
      await withAdmin(shell, command, async (session) => {
        const { admin, globals, signal } = session;
        const begun = await admin.dissolveRealm(remotePath(path), { signal });
        const job = wait === false ? begun : await waitForJob(shell, session, begun.id);
        await printOne(shell, globals.output, job, JOB_VIEW);
      });
    });
}

function jobsVerb(shell: Shell): Command {
  return verb('jobs', {
    summary: 'list the realms that are being made or dissolved, and the last that were',
    examples: [
      { line: 'collective realm jobs', says: 'how far they are' },
      { line: 'collective realm jobs -o wide', says: 'why one has failed' },
    ],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      await printRows(shell, globals.output, await admin.jobs({ signal }), JOB_VIEW);
    });
  });
}

async function waitForJob(shell: Shell, { admin, globals, signal }: AdminSession, id: number): Promise<Job> {
  const progress = new Progress(shell, { quiet: globals.quiet });
  try {
    return await admin.waitForJob(id, {
      signal,
      onProgress: ({ moved }) => progress.update({ doneBytes: 0, doneFiles: moved }),
    });
  } finally {
    progress.clear();
  }
}

/** What is being done to a realm is asked for only where something is. */
async function withState(realms: readonly Realm[], { admin, signal }: AdminSession): Promise<ShownRealm[]> {
  const jobs = realms.some(({ job }) => job !== 0) ? await admin.jobs({ signal }) : [];
  return realms.map((realm) => shownRealm(realm, jobs));
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
      await withAdmin(shell, command, async (session) => {
        const { admin, globals, signal } = session;
        await printRows(shell, globals.output, await withState(await admin.realms({ signal }), session), REALM_VIEW);
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
    .option('--trash-yields', 'let go of the oldest in the trash when there is no room')
    .option(
      '--rights <whose>',
      "'around': whoever may use the realm around it may use it; 'own': only who is given it",
      flag(rightsOf),
    );
}

function rightsOf(text: string): boolean {
  if (text === 'around' || text === 'own') return text === 'around';
  throw new CollectiveError('invalid_argument', `Read --rights ${text}: 'around' and 'own' are possible`);
}

function orNone(text: string, parse: () => number): number {
  return text === 'none' ? 0 : parse();
}

function settingsOf(options: RealmOptions): RealmChange {
  const { quota, inodes, replicas, minReplicas, compression, trash, trashYields, rights } = options;
  return {
    quotaBytes: quota,
    quotaInodes: inodes,
    replicas,
    minReplicas,
    compression,
    trashSeconds: trash,
    trashYields,
    sharesRights: rights,
  };
}
