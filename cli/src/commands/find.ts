/** `collective find`: walks a tree and prints what fits all conditions. find's own spellings (-name, -type) work too. */

import { parseByteSize } from '@collective/base/byte-size';
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { WalkEntry } from '@collective/client';
import type { Command } from 'commander';
import { globExpression } from '../glob.ts';
import { type MemberSession, withMember } from '../member-session.ts';
import { BatchedOut } from '../output/batched-out.ts';
import { entryView } from '../output/entry-view.ts';
import { Failures } from '../output/failures.ts';
import { printRows } from '../output/table.ts';
import { pathsOrRoot } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { duration, flag, verb, wholeNumber } from '../verb.ts';

interface FindOptions {
  readonly name?: RegExp;
  readonly iname?: RegExp;
  readonly path?: RegExp;
  readonly type?: string;
  readonly size?: (sizeBytes: number) => boolean;
  readonly newerThan?: number;
  readonly olderThan?: number;
  readonly empty?: boolean;
  readonly maxdepth?: number;
  readonly mindepth?: number;
  readonly print0?: boolean;
}

const TYPES = { f: 'file', d: 'directory', l: 'symlink', p: 'fifo', s: 'socket' } as const;
const DEPTH_MAX = 100_000;

export function findCommand(shell: Shell): Command {
  return verb('find', {
    summary: 'find files by name, type, size or time',
    description: 'All conditions must hold. Patterns know *, ? and [abc]; quote them from your shell.',
    examples: [
      { line: "collective find /photos --name '*.raw'", says: 'by name' },
      { line: 'collective find / --type f --size +1GiB', says: 'files larger than 1 GiB' },
      { line: 'collective find /logs --older-than 30d -o json', says: 'not changed for 30 days' },
    ],
  })
    .argument('[path...]', 'where to begin; default: /')
    .option('--name <pattern>', 'the last name fits', (text) => globExpression(text))
    .option('--iname <pattern>', 'the same, upper and lower case alike', (text) => globExpression(text, 'i'))
    .option('--path <pattern>', 'the whole path fits', (text) => globExpression(text))
    .option('--type <letter>', 'f file, d directory, l link, p fifo, s socket', flag(parseType))
    .option('--size <size>', '+1GiB larger, -1GiB smaller, 1GiB exactly', flag(parseSizeCondition))
    .addOption(duration('--newer-than <duration>', 'changed within this time, e.g. 2h'))
    .addOption(duration('--older-than <duration>', 'not changed within this time, e.g. 30d'))
    .option('--empty', 'files of 0 bytes and directories without entries')
    .option('--maxdepth <n>', 'go down at most so many levels', flag(wholeNumber('--maxdepth', 0, DEPTH_MAX)))
    .option('--mindepth <n>', 'skip the first levels', flag(wholeNumber('--mindepth', 0, DEPTH_MAX)))
    .option('--print0', 'end each path with NUL, for xargs -0')
    .action(async (paths: string[], options: FindOptions, command: Command) => {
      await withMember(shell, command, async (session) => {
        const { globals, signal } = session;
        const failures = new Failures(shell, globals, signal);
        const found = search(session, pathsOrRoot(paths), options, shell.clock.now(), failures);
        if (options.print0) {
          const out = new BatchedOut(shell);
          for await (const { path } of found) await out.add(`${path}\0`);
          await out.flush();
        } else {
          const format = globals.outputGiven ? globals.output : 'name';
          await printRows(shell, format, found, entryView({ human: false, fullPath: true }));
        }
        failures.end();
      });
    });
}

async function* search(
  { files, signal }: MemberSession,
  paths: readonly string[],
  options: FindOptions,
  now: Timestamp,
  failures: Failures,
): AsyncGenerator<WalkEntry> {
  for (const path of paths) {
    const walk = failures.skim(files.walk(path, { signal, depthMax: options.maxdepth }), { alone: paths.length === 1 });
    for await (const entry of walk) if (fits(entry, options, now)) yield entry;
  }
}

function fits(entry: WalkEntry, options: FindOptions, now: Timestamp): boolean {
  const { attributes, name, path, type } = entry;
  const ageMs = (now.seconds - attributes.modified.seconds) * 1000 + (now.nanos - attributes.modified.nanos) / 1e6;
  const isEmpty = type === 'directory' ? attributes.entries === 0 : type === 'file' && attributes.sizeBytes === 0;
  return (
    (options.mindepth === undefined || entry.depth >= options.mindepth) &&
    (options.name?.test(name) ?? true) &&
    (options.iname?.test(name) ?? true) &&
    (options.path?.test(path) ?? true) &&
    (options.type === undefined || type === options.type) &&
    (options.size === undefined || (type === 'file' && options.size(attributes.sizeBytes))) &&
    (options.newerThan === undefined || ageMs <= options.newerThan) &&
    (options.olderThan === undefined || ageMs > options.olderThan) &&
    (!options.empty || isEmpty)
  );
}

function parseType(text: string): string {
  const type = Object.entries(TYPES).find(([letter, name]) => text === letter || text === name)?.[1];
  if (type === undefined) {
    throw new CollectiveError(
      'invalid_argument',
      `Read '${text}' as --type: it is one of ${Object.keys(TYPES).join(', ')}`,
    );
  }
  return type;
}

function parseSizeCondition(text: string): (sizeBytes: number) => boolean {
  const sign = text.startsWith('+') || text.startsWith('-') ? text.charAt(0) : '';
  const bound = parseByteSize(text.slice(sign.length), '--size');
  if (sign === '+') return (sizeBytes) => sizeBytes > bound;
  if (sign === '-') return (sizeBytes) => sizeBytes < bound;
  return (sizeBytes) => sizeBytes === bound;
}
