/** `collective cp`: one verb for all directions; the prefix `collective:` tells the member from this machine. */
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import type { Command } from 'commander';
import { type CopyOptions, CopyRun } from '../copy/copy-run.ts';
import { downloadTree } from '../copy/download.ts';
import { countLocal, uploadTree } from '../copy/upload.ts';
import { copyWithin } from '../copy/within.ts';
import { type MemberSession, withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { Progress } from '../output/progress.ts';
import { baseName, type CopyPlace, copyPlace, joinRemote } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { verb } from '../verb.ts';

export interface CpOptions {
  readonly recursive?: boolean;
  readonly archive?: boolean;
  readonly preserve?: boolean;
  readonly clobber: boolean;
  readonly continue?: boolean;
  readonly dereference?: boolean;
  readonly targetDirectory: boolean;
}

export function cpCommand(shell: Shell): Command {
  return verb('cp', {
    summary: 'copy files to, from and within the member',
    description: `Remote paths carry the prefix 'collective:'; '-' is standard input or output. Mode and time of modification are
kept, as kubectl cp keeps them; --no-preserve gives new ones. Many files are copied at once. What is stored is
acknowledged when it is stable on its nodes. After an interruption --continue skips what is there already (same
size and time); a large file goes on behind the part that had arrived.`,
    examples: [
      { line: 'collective cp a.raw collective:/photos/', says: 'into a directory of the member' },
      { line: 'collective cp -r ~/photos collective:/', says: 'a whole tree' },
      { line: 'collective cp collective:/photos/a.raw .', says: 'and back' },
      { line: 'collective cp -r --continue ~/photos collective:/', says: 'go on after an interruption' },
      { line: 'pg_dump db | collective cp - collective:/dumps/db.sql', says: 'from a pipe' },
    ],
  })
    .argument('<path...>', 'what to copy, then where to')
    .option('-r, --recursive', 'directories and all below')
    .option('-R', 'the same as -r')
    .option('-a, --archive', 'the same as -r; mode and time are kept anyway')
    .option('-p, --preserve', 'accepted for habit: mode and time are kept anyway')
    .option('--no-preserve', 'do not keep mode and time')
    .option('-n, --no-clobber', 'fail where the target exists')
    .option('-c, --continue', 'go on after an interruption: skip what is there already (same size and time)')
    .option('-L, --dereference', 'copy what symbolic links point at')
    .option('-T, --no-target-directory', 'take the target as a name, also if it is a directory')
    .action(async (paths: string[], options: CpOptions & { R?: boolean }, command: Command) => {
      await copy(shell, command, paths.map(copyPlace), { ...options, recursive: options.recursive || options.R });
    });
}

/** Also the body of `client store` and `client retrieve`. */
export async function copy(
  shell: Shell,
  command: Command,
  places: readonly CopyPlace[],
  options: CpOptions,
): Promise<void> {
  const target = places.at(-1);
  const sources = places.slice(0, -1);
  if (target === undefined || sources.length === 0) {
    throw new CollectiveError('invalid_argument', 'Copy: name what to copy and where to');
  }
  if (target.kind !== 'remote' && sources.every(({ kind }) => kind !== 'remote')) {
    throw new CollectiveError(
      'invalid_argument',
      "Copy: neither side is remote; remote paths begin with 'collective:'",
    );
  }
  await withMember(shell, command, async (session) => {
    const { files, globals, signal } = session;
    const failures = new Failures(shell, globals, signal);
    const progress = new Progress(shell, { quiet: globals.quiet });
    const run = new CopyRun(files, runOptions(options), signal, {
      failed: (thrown) => {
        progress.clear();
        failures.add(thrown);
      },
      progressed: (totals) => progress.update(totals),
    });
    const into = await isFolder(shell, files, target, options, signal);
    if (sources.length > 1 && !into) {
      const what = `Copy ${sources.length} things to ${textOf(target)}`;
      if (target.kind === 'stream') throw new CollectiveError('invalid_argument', `${what}: one at a time goes there`);
      throw new CollectiveError('not_directory', `${what}: it is no directory`);
    }
    try {
      for (const source of sources) {
        await run.step(async () => await copyOne(shell, session, run, source, target, into));
      }
    } finally {
      progress.clear();
    }
    if (target.kind !== 'stream') progress.finish();
    failures.end();
  });
}

async function copyOne(
  shell: Shell,
  { files, signal }: MemberSession,
  run: CopyRun,
  source: CopyPlace,
  target: CopyPlace,
  into: boolean,
): Promise<void> {
  if (target.kind === 'remote') {
    if (source.kind === 'stream')
      return await storeStream(shell, run, into ? refuseNameless(target.path) : target.path);
    const to = into ? joinRemote(target.path, lastName(shell, source)) : target.path;
    if (source.kind === 'remote') return await copyWithin(run, source.path, to);
    const from = resolve(shell.cwd, source.path);
    if (shell.stderr.isTTY) {
      // Counting runs beside the copy; the line shows totals as soon as they are known.
      void countLocal(from, signal).then(
        ({ bytes, files: count }) => run.expect(bytes, count),
        () => undefined,
      );
    }
    return await uploadTree(run, from, to);
  }
  if (source.kind !== 'remote') {
    throw new CollectiveError(
      'invalid_argument',
      `Copy ${textOf(source)} to ${textOf(target)}: neither side is remote`,
    );
  }
  if (target.kind === 'stream') {
    for await (const piece of files.read(source.path, { signal })) await writeOut(shell.stdout, piece);
    return;
  }
  const folder = resolve(shell.cwd, target.path);
  if (shell.stderr.isTTY) {
    void files.usage(source.path, { signal }).then(
      ({ bytes, files: count }) => run.expect(bytes, Math.max(1, count)),
      () => undefined,
    );
  }
  await downloadTree(run, source.path, into ? join(folder, lastName(shell, source)) : folder);
}

async function storeStream(shell: Shell, run: CopyRun, to: string): Promise<void> {
  let reported = 0;
  await run.files.write(to, shell.stdin as AsyncIterable<Uint8Array>, {
    replace: run.options.replace,
    signal: run.signal,
    onProgress: ({ storedBytes }) => {
      run.addBytes(storedBytes - reported);
      reported = storedBytes;
    },
  });
}

async function isFolder(
  shell: Shell,
  files: Files,
  target: CopyPlace,
  options: CpOptions,
  signal: AbortSignal,
): Promise<boolean> {
  if (target.kind === 'stream' || !options.targetDirectory) return false;
  if (target.kind === 'local') {
    const found = await stat(resolve(shell.cwd, target.path)).catch(() => undefined);
    if (found === undefined && target.path.endsWith('/')) {
      throw new CollectiveError('not_found', `Copy into ${target.path}: there is no such directory on this machine`);
    }
    return found?.isDirectory() === true;
  }
  try {
    return (await files.stat(target.path, { signal })).type === 'directory';
  } catch (thrown) {
    if (!(thrown instanceof CollectiveError) || thrown.code !== 'not_found') throw thrown;
    if (target.path.endsWith('/')) {
      throw new CollectiveError(
        'not_found',
        `Copy into ${target.path}: there is no such directory; 'collective mkdir -p' makes it`,
      );
    }
    return false;
  }
}

function runOptions(options: CpOptions): CopyOptions {
  return {
    recursive: options.recursive === true || options.archive === true,
    preserve: options.preserve !== false,
    replace: options.clobber,
    continue: options.continue === true,
    dereference: options.dereference === true,
  };
}

function lastName(shell: Shell, place: CopyPlace): string {
  if (place.kind === 'stream') return '';
  // '.' and '..' have a name of their own only when looked at from the root.
  const name = place.kind === 'remote' ? baseName(place.path) : basename(resolve(shell.cwd, place.path));
  if (name === '')
    throw new CollectiveError(
      'invalid_argument',
      `Copy ${place.path}: the root has no name; use -T and name the target`,
    );
  return name;
}

function refuseNameless(path: string): never {
  throw new CollectiveError('is_directory', `Store standard input as ${path}: it is a directory; name a file`);
}

function textOf(place: CopyPlace): string {
  if (place.kind === 'stream') return '-';
  return place.kind === 'remote' ? `collective:${place.path}` : place.path;
}
