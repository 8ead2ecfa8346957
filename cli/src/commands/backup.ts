/** `collective backup`: everything that the coordinator knows, as one file, and back from it (M2a, D9). */
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { formatByteSize } from '@collective/base/byte-size';
import { CollectiveError } from '@collective/base/errors';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { backupFileName, olderBackups } from '../backup/backup-names.ts';
import { withAdmin, withDeadline } from '../member-session.ts';
import { Progress } from '../output/progress.ts';
import { printOne, type RowsView } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { type GlobalOptions, globalOptions, noun, verb } from '../verb.ts';

/** Files of an authority: certificate, key, a line of facts. */
const AUTHORITY_FILE_BYTES_MAX = 64 * 1024;
const AUTHORITY_FILES_MAX = 20;

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
    [createVerb(shell), showVerb(shell), restoreVerb(shell)],
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
}

function createVerb(shell: Shell): Command {
  return verb('create', {
    summary: 'save all metadata of the member into a file, while it serves',
    description:
      'The file holds names, rights and where every chunk lies; the bytes of files stay on the nodes. It is consistent: everything\nthat was acknowledged before, nothing half. It appears under its name only when it is whole, readable by you alone.\nInto a folder (its name ends with "/") it goes as MEMBER-TIME.backup; --keep then removes the oldest of that member.\n--authority adds the key of the member, which never leaves its machine otherwise: run this where the folder lies and guard the file.',
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
          const { member } = isFolder ? await admin.status({ signal }) : { member: '' };
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
          if (keep !== undefined) {
            const folder = dirname(target);
            // Only now that the new one is whole.
            for (const name of olderBackups(await readdir(folder), member, keep)) await rm(join(folder, name));
          }
          await printOne(shell, globals.output, await summaryOf(file, target, summary), VIEW);
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
        await printOne(shell, globals.output, await summaryOf(file, resolve(file), found), VIEW);
      });
    });
}

function restoreVerb(shell: Shell): Command {
  return verb('restore', {
    summary: 'make a coordinator’s data folder from a backup',
    description:
      'The folder must be empty or not be there. The coordinator that starts on it is a new generation: nodes follow it, and\nwhat was given out since the backup is not given again. Nothing is collected as garbage until you say so.',
    examples: [
      {
        line: 'collective backup restore alice.backup --data ~/.local/share/collective/alice/coordinator',
        says: 'for `collective up`',
      },
      {
        line: 'collective backup restore alice.backup --data /srv/collective',
        says: 'for `collective coordinator --data`',
      },
    ],
  })
    .argument('<file>', 'the backup')
    .requiredOption('--data <folder>', 'the data folder that is to be made')
    .action(async (file: string, options: { data: string }, command: Command) => {
      const globals = globalOptions(command);
      await withDeadline(shell, globals, async (signal) => {
        const { restoreBackup } = await import('@collective/coordinator/backup/restore-backup');
        const { SystemRandom } = await import('@collective/base/random');
        const progress = new Progress(shell, { quiet: globals.quiet });
        const { size: totalBytes } = await stat(file).catch((cause: unknown) => {
          throw new CollectiveError('not_found', `Read ${file}`, { cause });
        });
        const { facts, rows, hasAuthority } = await restoreBackup({
          source: readingOf(file, signal),
          folder: options.data,
          clock: shell.clock,
          random: new SystemRandom(),
          onProgress: (doneBytes) => progress.update({ doneBytes, totalBytes, doneFiles: 0 }),
        });
        progress.clear();
        const summary = await summaryOf(file, resolve(file), { facts, rows, hasAuthority });
        await printOne(shell, globals.output, summary, VIEW);
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

async function summaryOf(file: string, path: string, { facts, rows, hasAuthority }: Found): Promise<BackupSummary> {
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
    bytes: (await stat(path)).size,
  };
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
