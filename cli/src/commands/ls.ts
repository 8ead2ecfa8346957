/**
 * `collective ls`: names in the order of creation, as pages come (a directory of a million entries is printed in bounded
 * memory); `--sort` gathers them first. Short by default; `-l` or an explicit `-o` shows the columns.
 */

import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import type { Command } from 'commander';
import { type MemberSession, withMember } from '../member-session.ts';
import { type EntryRow, entryView } from '../output/entry-view.ts';
import { Failures } from '../output/failures.ts';
import type { Format } from '../output/format.ts';
import { printRows } from '../output/table.ts';
import { baseName, remotePath } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { verb } from '../verb.ts';

interface LsOptions {
  readonly long?: boolean;
  readonly recursive?: boolean;
  readonly human?: boolean;
  readonly directory?: boolean;
  readonly all?: boolean;
  readonly sort?: string;
}

/** Sorting gathers all entries in memory; beyond this, only the order of creation is to be had. */
const SORTED_ENTRIES_MAX = 1_000_000;
const SORT_KEYS = ['name', 'size', 'time'];

export function lsCommand(shell: Shell): Command {
  return verb('ls', {
    summary: 'list directories',
    description:
      'Entries come in the order of their creation, as they are read; --sort gathers them first. Files are listed as themselves.',
    examples: [
      { line: 'collective ls', says: 'the names in the root' },
      { line: 'collective ls -lh /photos', says: 'with mode, owner, human sizes and time' },
      { line: 'collective ls -R /photos', says: 'all below, too' },
      { line: 'collective ls -o json /photos', says: 'for programs' },
    ],
    without: ['help-letter'],
  })
    .argument('[path...]', 'directories or files', ['/'])
    .option('-l, --long', 'show mode, owner, size and time')
    .option('-R, --recursive', 'list what is below, too')
    .option('-h, --human', 'print sizes as 1.5 GiB')
    .option('-d, --directory', 'show a directory itself, not what is in it')
    .option('-a, --all', 'accepted for habit: hidden names are always shown')
    .option('--sort <key>', `sort by ${SORT_KEYS.join(', ')}`)
    .action(async (paths: string[], options: LsOptions, command: Command) => {
      if (options.sort !== undefined && !SORT_KEYS.includes(options.sort)) {
        throw new CollectiveError(
          'invalid_argument',
          `Sort by '${options.sort}': the keys are ${SORT_KEYS.join(', ')}`,
        );
      }
      await withMember(shell, command, async (session) => {
        const { globals, signal } = session;
        const format: Format = globals.outputGiven ? globals.output : options.long ? 'table' : 'name';
        const failures = new Failures(shell, globals, signal);
        const remote = paths.map(remotePath);
        if (format === 'json' || format === 'yaml') {
          await printRows(
            shell.stdout,
            format,
            everyRow(session, remote, options, failures),
            entryView(viewOptions(options)),
          );
        } else {
          await printListings(shell, session, remote, options, format, failures);
        }
        failures.end();
      });
    });
}

async function printListings(
  shell: Shell,
  { files, signal }: MemberSession,
  paths: readonly string[],
  options: LsOptions,
  format: Format,
  failures: Failures,
): Promise<void> {
  const view = {
    ...entryView({ human: options.human === true, fullPath: false }),
    headers: format === 'wide' || options.long !== true,
  };
  const titled = paths.length > 1 || options.recursive === true;
  let first = true;
  // Directories found on the way are listed after the one they were found in, as ls -R does.
  const waiting = [...paths];
  for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
    const current = path;
    await failures.collect(async () => {
      const below: string[] = [];
      const rows = rowsOf(files, current, options, signal, below);
      if (titled) await writeOut(shell.stdout, `${first ? '' : '\n'}${current}:\n`);
      first = false;
      await printRows(shell.stdout, format, rows, view);
      waiting.unshift(...below);
    });
  }
}

async function* everyRow(
  { files, signal }: MemberSession,
  paths: readonly string[],
  options: LsOptions,
  failures: Failures,
): AsyncGenerator<EntryRow> {
  const waiting = [...paths];
  for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
    const below: string[] = [];
    try {
      yield* rowsOf(files, path, options, signal, below);
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      failures.add(thrown);
    }
    waiting.unshift(...below);
  }
}

async function* rowsOf(
  files: Files,
  path: string,
  options: LsOptions,
  signal: AbortSignal,
  below: string[],
): AsyncGenerator<EntryRow> {
  const attributes = options.directory ? await files.lstat(path, { signal }) : await files.stat(path, { signal });
  if (attributes.type !== 'directory' || options.directory) {
    yield { name: baseName(path) || '/', path, attributes };
    return;
  }
  const rows = listed(files, path, options, signal, below);
  if (options.sort === undefined) yield* rows;
  else yield* sorted(await gathered(rows, path), options.sort);
}

async function* listed(
  files: Files,
  path: string,
  options: LsOptions,
  signal: AbortSignal,
  below: string[],
): AsyncGenerator<EntryRow> {
  for await (const entry of files.list(path, { signal, attributes: true })) {
    if (options.recursive && entry.type === 'directory') below.push(entry.path);
    if (entry.attributes === undefined) continue;
    const target =
      options.long && entry.type === 'symlink'
        ? await files.readlink(entry.path, { signal }).catch(() => undefined)
        : undefined;
    yield { name: entry.name, path: entry.path, attributes: entry.attributes, target };
  }
}

async function gathered(rows: AsyncIterable<EntryRow>, path: string): Promise<EntryRow[]> {
  const all: EntryRow[] = [];
  for await (const row of rows) {
    if (all.length >= SORTED_ENTRIES_MAX) {
      throw new CollectiveError(
        'range',
        `Sort ${path}: it has more than ${SORTED_ENTRIES_MAX} entries; list it without --sort`,
      );
    }
    all.push(row);
  }
  return all;
}

function sorted(rows: EntryRow[], key: string): EntryRow[] {
  const byName = (a: EntryRow, b: EntryRow): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  if (key === 'size') return rows.sort((a, b) => b.attributes.sizeBytes - a.attributes.sizeBytes || byName(a, b));
  if (key === 'time') {
    return rows.sort(
      (a, b) =>
        b.attributes.modified.seconds - a.attributes.modified.seconds ||
        b.attributes.modified.nanos - a.attributes.modified.nanos ||
        byName(a, b),
    );
  }
  return rows.sort(byName);
}

function viewOptions(options: LsOptions): { human: boolean; fullPath: boolean } {
  return { human: options.human === true, fullPath: options.recursive === true };
}
