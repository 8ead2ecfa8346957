/** `collective backup`: everything that the coordinator knows, as one file, and back from it (M2a, D9). */
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { formatByteSize } from '@collective/base/byte-size';
import { CollectiveError, errorChain, toCollectiveError } from '@collective/base/errors';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type BackupFile, listBackups, newestBackup } from '../backup/backup-folder.ts';
import { backupFileName, backupsAmong, olderBackups } from '../backup/backup-names.ts';
import { withAdmin, withDeadline } from '../member-session.ts';
import { Progress } from '../output/progress.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { type GlobalOptions, globalOptions, noun, verb } from '../verb.ts';

const STANDARD_INPUT = '-';
/** Files of an authority: certificate, key, a line of facts. */
const AUTHORITY_FILE_BYTES_MAX = 64 * 1024;
const AUTHORITY_FILES_MAX = 20;
/** A pod tells 4096 bytes at its end. */
const REPORTED_BACKUPS_MAX = 50;

interface BackupSummary {
  readonly file: string;
  readonly member: string;
  readonly created: string;
  readonly position: number;
  readonly epoch: string;
  readonly version: string;
  readonly rows: number;
  readonly authority: boolean;
  readonly bytes: number;
}

const VIEW: RowsView<BackupSummary> = {
  columns: [
    { header: 'MEMBER', cell: ({ member }) => member },
    { header: 'CREATED', cell: ({ created }) => created },
    { header: 'POSITION', cell: ({ position }) => String(position), align: 'right' },
    { header: 'ROWS', cell: ({ rows }) => String(rows), align: 'right' },
    { header: 'SIZE', cell: ({ bytes }) => formatByteSize(bytes), align: 'right' },
    { header: 'AUTHORITY', cell: ({ authority }) => (authority ? 'yes' : 'no') },
    { header: 'EPOCH', cell: ({ epoch }) => epoch, wide: true },
    { header: 'VERSION', cell: ({ version }) => version, wide: true },
    { header: 'FILE', cell: ({ file }) => file },
  ],
  name: ({ file }) => file,
};

export function backupCommand(shell: Shell): Command {
  return noun(
    'backup',
    'save what the coordinator knows, check a backup, restore one',
    [createVerb(shell), listVerb(shell), showVerb(shell), restoreVerb(shell)],
    [
      { line: 'collective backup create alice.backup', says: 'while the member serves' },
      { line: 'collective backup show alice.backup', says: 'whose, from when, and whether it is whole' },
    ],
  );
}

interface CreateOptions {
  readonly authority?: string;
  readonly force?: boolean;
  readonly keep?: number;
  readonly identity?: string;
  readonly report?: string;
}

const LIST_VIEW: RowsView<BackupFile> = {
  columns: [
    { header: 'BACKUP', cell: ({ name }) => name },
    { header: 'MEMBER', cell: ({ member }) => member },
    { header: 'CREATED', cell: ({ created }) => created },
    { header: 'SIZE', cell: ({ bytes }) => formatByteSize(bytes), align: 'right' },
  ],
  name: ({ name }) => name,
};

function createVerb(shell: Shell): Command {
  return verb('create', {
    summary: 'save all metadata of the member into a file, while it serves',
    description:
      'The file holds names, rights and where every chunk lies; the bytes of files stay on the nodes. It is consistent: everything\nthat was acknowledged before, nothing half. It appears under its name only when it is whole, readable by you alone.\nInto a folder (its name ends with "/") it goes as MEMBER-TIME.backup; --keep then removes the oldest of that member,\nbut none while garbage waits after a restore: an older one may be needed yet. --authority adds the key of the member, which never leaves its machine otherwise: run this where the folder lies and guard the file.',
    examples: [
      { line: 'collective backup create alice.backup', says: 'names and rights' },
      { line: 'collective backup create /backups/ --keep 7', says: 'one more there, of which the newest seven stay' },
      {
        line: 'collective backup create alice.backup --authority ~/.local/share/collective/alice/coordinator/ca',
        says: 'and the authority, so that a new machine can go on as this one',
      },
    ],
  })
    .argument('<file>', 'where to; a folder ends with "/"')
    .option('--authority <folder>', 'add the authority from this folder (the `ca` of the coordinator)')
    .option('--force', 'replace an older file of that name')
    .addOption(new Option('--keep <n>', 'how many backups of the member stay in the folder').argParser(parseKeep))
    .option('--identity <folder>', 'tls.crt, tls.key and trust.pem to ask with, in place of a context')
    .option(
      '--report <file>',
      'write which backups the folder holds into this file too, as JSON: for the message of a pod',
    )
    .action(async (given: string, options: CreateOptions, command: Command) => {
      const { keep, identity } = options;
      const isFolder = given.endsWith('/');
      if (keep !== undefined && !isFolder)
        throw new CollectiveError(
          'invalid_argument',
          `Keep ${keep} backups beside ${given}: --keep is for a folder, which ends with "/"`,
        );
      await withAdmin(
        shell,
        command,
        async ({ admin, globals, signal }) => {
          const status = isFolder ? await admin.status({ signal }) : undefined;
          const member = status?.member ?? '';
          const file = isFolder ? join(given, backupFileName(member, shell.clock.now().seconds)) : given;
          const target = resolve(file);
          if (options.force !== true && (await isThere(target)))
            throw new CollectiveError('exists', `Write ${file}: it is there; --force replaces it`);
          const authority = options.authority === undefined ? [] : await readAuthority(options.authority);
          const progress = new Progress(shell, { quiet: globals.quiet });
          const summary = await writeWhole(target, async (write) => {
            const { BackupRewriter } = await import('@collective/coordinator/backup/add-authority');
            const rewriter = new BackupRewriter(authority);
            let doneBytes = 0;
            for await (const piece of admin.backup({ signal })) {
              for (const bytes of rewriter.push(Buffer.from(piece))) await write(bytes);
              doneBytes += piece.length;
              progress.update({ doneBytes, doneFiles: 0 });
            }
            return rewriter.finish();
          });
          progress.clear();
          await admin.reportBackup({ position: summary.facts.position }, { signal }).catch((thrown: unknown) => {
            signal.throwIfAborted();
            const why = errorChain(toCollectiveError(thrown, 'Report a backup')).join(': ');
            // The file is whole all the same.
            hint(
              shell,
              globals,
              `The member could not be told of it, and does not know how old its last backup is: ${why}`,
            );
          });
          const folder = dirname(target);
          if (keep !== undefined) {
            const older = olderBackups(await readdir(folder), member, keep);
            const isUnsure = status?.garbage.waits === true;
            // Only now that the new one is whole.
            for (const name of isUnsure ? [] : older) await rm(join(folder, name));
            if (isUnsure && older.length > 0)
              hint(
                shell,
                globals,
                `Older ones stay beside it while garbage waits after a restore: 'collective maintenance set garbage-waits=false' when you have looked.`,
              );
          }
          if (options.report !== undefined) {
            const backups = backupsAmong(await readdir(folder), member).map(({ name }) => name);
            await reportInto(options.report, {
              file: basename(target),
              backups: backups.slice(0, REPORTED_BACKUPS_MAX),
            });
          }
          await printOne(shell, globals.output, summaryOf(file, await sizeOf(target), summary), VIEW);
          if (authority.length === 0)
            hint(shell, globals, 'The authority of the member is not in it: keep its folder too, or use --authority.');
        },
        { identity },
      );
    });
}

function parseKeep(text: string): number {
  const keep = Number(text);
  if (!/^[0-9]{1,4}$/.test(text) || keep < 1) throw new InvalidArgumentError('It is 1 to 9999.');
  return keep;
}

function listVerb(shell: Shell): Command {
  return verb('list', {
    summary: 'list the backups in a folder, newest first',
    examples: [{ line: 'collective backup list /backups/', says: 'whose, and from when' }],
  })
    .argument('<folder>', 'where `backup create FOLDER/` writes')
    .option('--member <name>', 'only those of this member')
    .action(async (folder: string, { member }: { member?: string }, command: Command) => {
      const { output } = globalOptions(command);
      await printRows(shell, output, await listBackups(folder, member), LIST_VIEW);
    });
}

function showVerb(shell: Shell): Command {
  return verb('show', {
    summary: 'check a backup from its first byte to its last, and tell what it is',
    examples: [{ line: 'collective backup show alice.backup', says: 'whose, from when, and whether it is whole' }],
  })
    .argument('<file>', 'the backup')
    .action(async (file: string, _options: unknown, command: Command) => {
      const globals = globalOptions(command);
      await withDeadline(shell, globals, async (signal) => {
        const { inspectBackup } = await import('@collective/coordinator/backup/inspect-backup');
        const found = await inspectBackup(readingOf(file, signal));
        await printOne(shell, globals.output, summaryOf(file, await sizeOf(file), found), VIEW);
      });
    });
}

function restoreVerb(shell: Shell): Command {
  return verb('restore', {
    summary: 'make a coordinator’s data folder from a backup',
    description:
      'The folder must be empty or not be there; one that was restored from the same backup is left as it is. The coordinator that starts on\nit is a new generation: nodes follow it, and what was given out since the backup is not given again. Nothing is collected as garbage until\nyou say so. Of a folder of backups (its name ends with "/") the newest is taken.',
    examples: [
      {
        line: 'collective backup restore alice.backup --data ~/.local/share/collective/alice/coordinator',
        says: 'for `collective up`',
      },
      {
        line: 'collective backup restore alice.backup --data /srv/collective',
        says: 'for `collective coordinator --data`',
      },
      {
        line: 'collective backup restore /backups/ --member alice --data /srv/collective',
        says: 'the newest of alice',
      },
      {
        line: 'ssh backups cat alice.backup | collective backup restore - --data /srv/collective',
        says: 'from where it lies',
      },
    ],
  })
    .argument('<file>', `the backup; a folder of backups ends with "/", '-' is standard input`)
    .requiredOption('--data <folder>', 'the data folder that is to be made')
    .option('--member <name>', 'whose it must be; says of whom, where the folder holds backups of several')
    .option('--collective <name>', 'of which collective that member must be')
    .option('--report <file>', 'write what was restored into this file too, as JSON: for the message of a pod')
    .action(async (given: string, options: RestoreVerbOptions, command: Command) => {
      const globals = globalOptions(command);
      await withDeadline(shell, globals, async (signal) => {
        const file = given.endsWith('/') ? await newestBackup(given, options.member) : given;
        const { restoreBackup } = await import('@collective/coordinator/backup/restore-backup');
        const { SystemRandom } = await import('@collective/base/random');
        const progress = new Progress(shell, { quiet: globals.quiet });
        const totalBytes = file === STANDARD_INPUT ? undefined : await sizeOf(file);
        let bytes = 0;
        const { facts, rows, hasAuthority, wasThere } = await restoreBackup({
          source: file === STANDARD_INPUT ? arriving(shell, signal) : readingOf(file, signal),
          folder: options.data,
          of: { member: options.member, collective: options.collective },
          clock: shell.clock,
          random: new SystemRandom(),
          onProgress: (doneBytes) => {
            bytes = doneBytes;
            progress.update({ doneBytes, doneFiles: 0, ...(totalBytes === undefined ? {} : { totalBytes }) });
          },
        });
        progress.clear();
        const summary = summaryOf(file, totalBytes ?? bytes, { facts, rows, hasAuthority });
        if (options.report !== undefined)
          await reportInto(options.report, { file: basename(file), created: facts.created });
        await printOne(shell, globals.output, summary, VIEW);
        if (wasThere) {
          hint(shell, globals, `${options.data} was restored from this backup before; nothing was changed.`);
          return;
        }
        hint(
          shell,
          globals,
          [
            `Restored into ${options.data}. Next:`,
            ...(hasAuthority
              ? []
              : ['  put the member’s authority back as its folder `ca`, or let everybody enrol again']),
            '  start the coordinator; nodes register by themselves',
            '  collective status                                    # is anything missing?',
            '  collective garbage orphans                           # chunks that are newer than the backup',
            '  collective maintenance set garbage-waits=false       # when you have looked',
          ].join('\n'),
        );
      });
    });
}

interface RestoreVerbOptions {
  readonly data: string;
  readonly member?: string;
  readonly collective?: string;
  readonly report?: string;
}

/** In place: the file of a pod's message cannot be replaced. */
async function reportInto(file: string, report: object): Promise<void> {
  await writeFile(file, `${JSON.stringify(report)}\n`).catch((cause: unknown) => {
    throw new CollectiveError('disk_failed', `Write the report into ${file}`, { cause });
  });
}

/** For people, beside what programs read. */
function hint(shell: Shell, { quiet }: GlobalOptions, text: string): void {
  if (!quiet) shell.stderr.write(`${text}\n`);
}

interface Found {
  readonly facts: {
    readonly member: string;
    readonly collective: string;
    readonly created: string;
    readonly position: number;
    readonly version: string;
    readonly epoch: { readonly generation: number; readonly start: number };
  };
  readonly rows: number;
  readonly hasAuthority: boolean;
}

function summaryOf(file: string, bytes: number, { facts, rows, hasAuthority }: Found): BackupSummary {
  const { member, collective, created, position, version, epoch } = facts;
  return {
    file,
    member: `${member}.${collective}`,
    created,
    position,
    epoch: `${epoch.generation}.${epoch.start}`,
    version,
    rows,
    authority: hasAuthority,
    bytes,
  };
}

async function sizeOf(file: string): Promise<number> {
  const { size } = await stat(file).catch((cause: unknown) => {
    throw new CollectiveError('not_found', `Read ${file}`, { cause });
  });
  return size;
}

/** The file is there as a whole and synced, or not at all. */
async function writeWhole<T>(
  target: string,
  fill: (write: (bytes: Buffer) => Promise<void>) => Promise<T>,
): Promise<T> {
  await mkdir(dirname(target), { recursive: true });
  const aside = `${target}.${process.pid}.partial`;
  const handle = await open(aside, 'wx', 0o600);
  try {
    const result = await fill(async (bytes) => {
      await handle.writeFile(bytes);
    });
    await handle.sync();
    await handle.close();
    await rename(aside, target);
    const folder = await open(dirname(target), 'r');
    await folder.sync();
    await folder.close();
    return result;
  } catch (error) {
    await handle.close();
    await rm(aside, { force: true });
    throw error;
  }
}

async function readAuthority(folder: string): Promise<{ name: string; content: Buffer }[]> {
  const names = (await readdir(folder).catch((cause: unknown) => {
    throw new CollectiveError('not_found', `Read the authority in ${folder}`, { cause });
  })) as string[];
  if (!names.includes('ca.key') || names.length > AUTHORITY_FILES_MAX)
    throw new CollectiveError(
      'not_found',
      `Read the authority in ${folder}: there is no ca.key; it is the folder \`ca\` of the coordinator`,
    );
  const files: { name: string; content: Buffer }[] = [];
  for (const name of names.sort()) {
    const content = await readFile(join(folder, name));
    if (content.length > AUTHORITY_FILE_BYTES_MAX)
      throw new CollectiveError('too_large', `Read the authority in ${folder}: ${name} has ${content.length} bytes`);
    files.push({ name: `ca/${name}`, content });
  }
  return files;
}

async function* arriving({ stdin }: Shell, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
  for await (const piece of stdin) {
    signal.throwIfAborted();
    yield piece as Buffer;
  }
}

async function* readingOf(file: string, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
  try {
    for await (const piece of createReadStream(file, { highWaterMark: 1024 * 1024, signal })) yield piece as Buffer;
  } catch (cause) {
    signal.throwIfAborted();
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    if (missing) throw new CollectiveError('not_found', `Read ${file}: there is no such file`, { cause });
    throw cause;
  }
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
