/** `collective tree`: a drawing of what lies below a directory, in the order of names. */

import { formatByteSize } from '@collective/base/byte-size';
import { CollectiveError } from '@collective/base/errors';
import type { DirectoryEntry, Files } from '@collective/client';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { BatchedOut } from '../output/batched-out.ts';
import { counted } from '../output/counted.ts';
import { printable } from '../output/printable.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { flag, verb, wholeNumber } from '../verb.ts';

interface TreeOptions {
  readonly level?: number;
  readonly dirsOnly?: boolean;
  readonly size?: boolean;
}

interface Counts {
  directories: number;
  files: number;
}

/** A directory with more entries is drawn in the order of creation, as it is read. */
const SORTED_ENTRIES_MAX = 10_000;
const LEVELS_MAX = 1_000;

export function treeCommand(shell: Shell): Command {
  return verb('tree', {
    summary: 'draw a directory tree',
    examples: [
      { line: 'collective tree /photos', says: 'all below' },
      { line: 'collective tree -L 2 --size /', says: 'two levels, with sizes' },
    ],
  })
    .argument('[path]', 'where to begin; default: /')
    .option('-L, --level <n>', 'how many levels to show', flag(wholeNumber('--level', 1, LEVELS_MAX)))
    .option('-d, --dirs-only', 'directories only')
    .option('-s, --size', 'show sizes of files')
    .action(async (path: string = '/', options: TreeOptions, command: Command) => {
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const start = remotePath(path);
        if ((await files.stat(start, { signal })).type !== 'directory') {
          throw new CollectiveError('not_directory', `Draw ${start}: it is not a directory`);
        }
        if (globals.output === 'json' || globals.output === 'yaml') {
          const { printOne } = await import('../output/table.ts');
          const tree = await treeObject(files, start, options, signal, 1);
          const top = { name: start, type: 'directory', children: tree };
          await printOne(shell, globals.output, top, { columns: [], name: ({ name }) => name });
          return;
        }
        const out = new BatchedOut(shell);
        await out.add(`${printable(start)}\n`);
        const counts: Counts = { directories: 0, files: 0 };
        try {
          await draw(out, files, start, '', options, signal, counts, 1);
          const sums = [counted(counts.directories, 'directory', 'directories')];
          if (!options.dirsOnly) sums.push(counted(counts.files, 'file'));
          await out.add(`\n${sums.join(', ')}\n`);
        } finally {
          await out.flush();
        }
      });
    });
}

async function draw(
  out: BatchedOut,
  files: Files,
  folder: string,
  indent: string,
  options: TreeOptions,
  signal: AbortSignal,
  counts: Counts,
  level: number,
): Promise<void> {
  const entries = await entriesOf(files, folder, options, signal);
  for (const [i, entry] of entries.entries()) {
    const last = i === entries.length - 1;
    const size = options.size && entry.type === 'file' ? `[${formatByteSize(entry.attributes?.sizeBytes ?? 0)}]  ` : '';
    const target = entry.type === 'symlink' ? ` -> ${await files.readlink(entry.path, { signal })}` : '';
    await out.add(`${indent}${last ? '└── ' : '├── '}${size}${printable(entry.name + target)}\n`);
    if (entry.type !== 'directory') counts.files++;
    else {
      counts.directories++;
      if (options.level === undefined || level < options.level) {
        await draw(out, files, entry.path, indent + (last ? '    ' : '│   '), options, signal, counts, level + 1);
      }
    }
  }
}

async function treeObject(
  files: Files,
  folder: string,
  options: TreeOptions,
  signal: AbortSignal,
  level: number,
): Promise<unknown[]> {
  const objects: unknown[] = [];
  for (const entry of await entriesOf(files, folder, options, signal)) {
    const deeper = entry.type === 'directory' && (options.level === undefined || level < options.level);
    objects.push({
      name: entry.name,
      type: entry.type,
      ...(entry.type === 'file' ? { sizeBytes: entry.attributes?.sizeBytes } : {}),
      ...(deeper ? { children: await treeObject(files, entry.path, options, signal, level + 1) } : {}),
    });
  }
  return objects;
}

async function entriesOf(
  files: Files,
  folder: string,
  options: TreeOptions,
  signal: AbortSignal,
): Promise<DirectoryEntry[]> {
  const entries: DirectoryEntry[] = [];
  for await (const entry of files.list(folder, { signal, attributes: true })) {
    if (!options.dirsOnly || entry.type === 'directory') entries.push(entry);
  }
  if (entries.length > SORTED_ENTRIES_MAX) return entries;
  return entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
