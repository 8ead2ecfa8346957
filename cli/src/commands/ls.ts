/**
 * `collective ls`: by name, or in the order of creation where a directory is too large to be held back (a million entries
 * are printed in bounded memory). Short by default; `-l` or an explicit `-o` shows the columns.
 */

import { CollectiveError } from '@collective/base/errors';
import type { Attributes, Files } from '@collective/client';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { type EntryRow, entryView } from '../output/entry-view.ts';
import { Failures } from '../output/failures.ts';
import type { Format } from '../output/format.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { baseName, pathsOrRoot } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { inOrder, SORT_KEYS, SORTED_UNASKED_MAX, type SortKey } from '../sort-entries.ts';
import { verb } from '../verb.ts';

interface LsOptions {
  readonly long?: boolean;
  readonly recursive?: boolean;
  readonly human?: boolean;
  readonly directory?: boolean;
  readonly all?: boolean;
  readonly sort?: string;
  readonly byTime?: boolean;
  readonly bySize?: boolean;
  readonly unsorted?: boolean;
  readonly reverse?: boolean;
}

/** An entry as a listing needs it; names alone come without attributes, which are most of the work. */
interface Listed {
  readonly name: string;
  readonly path: string;
  readonly attributes?: Attributes;
  readonly target?: string;
}

interface Listing {
  readonly files: Files;
  readonly signal: AbortSignal;
  readonly failures: Failures;
  readonly options: LsOptions;
  readonly order: { readonly key?: SortKey; readonly reverse?: boolean };
  readonly format: Format;
}

export function lsCommand(shell: Shell): Command {
  return verb('ls', {
    summary: 'list directories',
    description: `Sorted by name; a directory with more than ${SORTED_UNASKED_MAX.toLocaleString('en')} entries comes in the order of their creation unless an order
is asked for. Files are listed as themselves, before directories.`,
    examples: [
      { line: 'collective ls', says: 'the names in the root' },
      { line: 'collective ls -lh /photos', says: 'with mode, owner, human sizes and time' },
      { line: 'collective ls -lt /photos', says: 'the newest first' },
      { line: 'collective ls -R /photos', says: 'all below, too' },
      { line: 'collective ls -o json /photos', says: 'for programs' },
    ],
    without: ['help-letter'],
  })
    .argument('[path...]', 'directories or files; default: /')
    .option('-l, --long', 'show mode, owner, size and time')
    .option('-R, --recursive', 'list what is below, too')
    .option('-h, --human', 'print sizes as 1.5 GiB')
    .option('-d, --directory', 'show a directory itself, not what is in it')
    .option('-a, --all', 'accepted for habit: hidden names are always shown')
    .option('--sort <key>', `sort by ${SORT_KEYS.join(', ')}`)
    .option('-t, --by-time', 'the newest first, as --sort time')
    .option('-S, --by-size', 'the largest first, as --sort size')
    .option('-U, --unsorted', 'in the order of creation, as --sort none')
    .option('-r, --reverse', 'turn the order round')
    .action(async (paths: string[], options: LsOptions, command: Command) => {
      const order = { key: sortKey(options), reverse: options.reverse };
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const format: Format = globals.outputGiven ? globals.output : options.long ? 'table' : 'name';
        const failures = new Failures(shell, globals, signal);
        const listing: Listing = { files, signal, failures, options, order, format };
        const wanted = pathsOrRoot(paths);
        if (globals.outputGiven && format !== 'table' && format !== 'wide') await printFlat(shell, listing, wanted);
        else await printListings(shell, listing, wanted);
        failures.end();
      });
    });
}

function sortKey({ sort, byTime, bySize, unsorted }: LsOptions): SortKey | undefined {
  if (sort === undefined) return byTime ? 'time' : bySize ? 'size' : unsorted ? 'none' : undefined;
  const key = SORT_KEYS.find((one) => one === sort);
  if (key === undefined) {
    throw new CollectiveError('invalid_argument', `Sort by '${sort}': the keys are ${SORT_KEYS.join(', ')}`);
  }
  return key;
}

/** For programs: one list of all, nothing between. */
async function printFlat(shell: Shell, listing: Listing, wanted: readonly string[]): Promise<void> {
  const { options, format, failures } = listing;
  const rows = async function* (): AsyncGenerator<Listed> {
    const { named, folders } = await sorted(listing, wanted);
    yield* named;
    const waiting = [...folders];
    for (let folder = waiting.shift(); folder !== undefined; folder = waiting.shift()) {
      const below: string[] = [];
      yield* failures.skim(entriesOf(listing, folder, below));
      waiting.unshift(...below);
    }
  };
  const fullPath = options.recursive === true || wanted.length > 1;
  await printWith(shell, format, rows(), { human: options.human === true, fullPath });
}

/** As ls: what is no directory first, then each directory, under its name where there are several. */
async function printListings(shell: Shell, listing: Listing, wanted: readonly string[]): Promise<void> {
  const { options, format, failures } = listing;
  const human = options.human === true;
  const headers = format === 'wide' || options.long !== true;
  const { named, folders } = await sorted(listing, wanted);
  if (named.length > 0) await printWith(shell, format, named, { human, fullPath: true, headers });
  const titled = wanted.length > 1 || options.recursive === true;
  let isFirst = named.length === 0;
  // Directories found on the way are listed after the one they were found in, as ls -R does.
  const waiting = [...folders];
  for (let folder = waiting.shift(); folder !== undefined; folder = waiting.shift()) {
    const path = folder;
    const below: string[] = [];
    await failures.collect(async () => {
      if (titled) await writeOut(shell.stdout, `${isFirst ? '' : '\n'}${path}:\n`);
      isFirst = false;
      await printWith(shell, format, entriesOf(listing, path, below), { human, fullPath: false, headers });
    });
    waiting.unshift(...below);
  }
}

/** What was named: directories to be listed, and what is shown as itself. */
async function sorted(
  { files, signal, failures, options, order, format }: Listing,
  wanted: readonly string[],
): Promise<{ named: Listed[]; folders: string[] }> {
  const named: Listed[] = [];
  const folders: string[] = [];
  const sortOne = async (path: string): Promise<void> => {
    const attributes = await attributesOf(files, path, options, signal);
    if (attributes.type === 'directory' && !options.directory) {
      folders.push(path);
      return;
    }
    const isLink = attributes.type === 'symlink' && format !== 'name';
    const target = isLink ? await files.readlink(path, { signal }) : undefined;
    named.push({ name: baseName(path) || '/', path, attributes, target });
  };
  const [alone] = wanted;
  if (wanted.length === 1 && alone !== undefined) await sortOne(alone);
  else for (const path of wanted) await failures.collect(() => sortOne(path));
  const inTheirOrder: Listed[] = [];
  for await (const row of inOrder(each(named), order, 'what was named')) inTheirOrder.push(row);
  return { named: inTheirOrder, folders };
}

async function* each<Row>(rows: Iterable<Row>): AsyncGenerator<Row> {
  yield* rows;
}

/** As ls: a link that was named is followed in a short listing and shown in a long one; one that leads nowhere is shown. */
async function attributesOf(
  files: Files,
  path: string,
  { long, directory }: LsOptions,
  signal: AbortSignal,
): Promise<Attributes> {
  if (long || directory) return await files.lstat(path, { signal });
  try {
    return await files.stat(path, { signal });
  } catch (thrown) {
    if (!(thrown instanceof CollectiveError) || thrown.code !== 'not_found') throw thrown;
    return await files.lstat(path, { signal });
  }
}

/** The entries of a directory in order; with -R also the directories among them, into `below`. */
async function* entriesOf(listing: Listing, folder: string, below: string[]): AsyncGenerator<Listed> {
  const { files, signal, options, order, format } = listing;
  const attributes = format !== 'name' || order.key === 'size' || order.key === 'time';
  const entries = files.list(folder, { signal, attributes });
  for await (const entry of inOrder(entries, order, folder)) {
    if (options.recursive && entry.type === 'directory') below.push(entry.path);
    const target =
      entry.type === 'symlink' && format !== 'name'
        ? await files.readlink(entry.path, { signal }).catch(() => undefined)
        : undefined;
    yield { name: entry.name, path: entry.path, attributes: entry.attributes, target };
  }
}

async function printWith(
  shell: Shell,
  format: Format,
  rows: AsyncIterable<Listed> | Iterable<Listed>,
  { headers, ...how }: { human: boolean; fullPath: boolean; headers?: boolean },
): Promise<void> {
  if (format === 'name') {
    const name = (row: Listed): string => (how.fullPath ? row.path : row.name);
    await printRows(shell, format, rows, { columns: [], name } satisfies RowsView<Listed>);
  } else {
    await printRows(shell, format, complete(rows), { ...entryView(how), headers });
  }
}

/** An entry that went between its page and its attributes has none. */
async function* complete(rows: AsyncIterable<Listed> | Iterable<Listed>): AsyncGenerator<EntryRow> {
  for await (const { attributes, ...row } of rows) if (attributes !== undefined) yield { ...row, attributes };
}
