/** `collective mv`: a rename is one operation; between realms nothing can be renamed (M9), there --copy copies and removes. */

import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import type { Command } from 'commander';
import { copyTreeWithin } from '../copy/within.ts';
import { withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { baseName, joinRemote, remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

interface MvOptions {
  readonly clobber: boolean;
  readonly exchange?: boolean;
  readonly copy?: boolean;
  readonly targetDirectory: boolean;
}

export function mvCommand(shell: Shell): Command {
  return verb('mv', {
    summary: 'rename or move files and directories',
    description:
      'The last path is the new name, or the directory to move into. An existing file is replaced in one step; readers see the old or the new one.',
    examples: [
      { line: 'collective mv /a.txt /b.txt', says: 'a new name' },
      { line: 'collective mv /a.txt /b.txt /docs', says: 'into a directory' },
      { line: 'collective mv -n /a.txt /b.txt', says: 'fail if the new name exists' },
      { line: 'collective mv --exchange /blue /green', says: 'swap two names in one step' },
    ],
  })
    .argument('<path...>', 'what to move, then where to')
    .option('-n, --no-clobber', 'fail if the target exists')
    .option('--exchange', 'swap the two names')
    .option('-T, --no-target-directory', 'take the target as a name, also if it is a directory')
    .option('--copy', 'copy and remove where a rename is not possible (between realms)')
    .action(async (paths: string[], options: MvOptions, command: Command) => {
      const target = paths.at(-1);
      const sources = paths.slice(0, -1).map(remotePath);
      if (target === undefined || sources.length === 0) {
        throw new CollectiveError('invalid_argument', 'Move: name what to move and where to');
      }
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const to = remotePath(target);
        const into = !options.exchange && options.targetDirectory && (await isDirectory(files, to, signal));
        if (sources.length > 1 && !into) {
          throw new CollectiveError('not_directory', `Move ${sources.length} things to ${to}: it is no directory`);
        }
        if (!into && to.endsWith('/')) await refuseFileAsFolder(files, sources[0] ?? '/', to, signal);
        const failures = new Failures(shell, globals, signal);
        for (const from of sources) {
          const name = into ? joinRemote(to, baseName(from)) : to;
          await failures.collect(() => moveOne(files, from, name, options, signal));
        }
        failures.end();
      });
    });
}

async function moveOne(files: Files, from: string, to: string, options: MvOptions, signal: AbortSignal): Promise<void> {
  const mode = options.exchange ? 'exchange' : options.clobber ? 'replace' : 'no-replace';
  try {
    await files.rename(from, to, { mode, signal });
  } catch (thrown) {
    const crosses = thrown instanceof CollectiveError && thrown.code === 'cross_realm';
    if (!crosses || !options.copy || options.exchange) throw thrown;
    await copyTreeWithin(files, from, to, { replace: options.clobber, signal });
    // What lies elsewhere as a whole need not lie in the trash too.
    await files.remove(from, { recursive: true, permanent: true, signal });
  }
}

/** As mv: a '/' behind a new name says that it is a directory's. */
async function refuseFileAsFolder(files: Files, from: string, to: string, signal: AbortSignal): Promise<void> {
  if ((await files.lstat(from, { signal })).type === 'directory') return;
  throw new CollectiveError('not_found', `Move ${from} into ${to}: there is no such directory`, {
    todo: "'collective mkdir -p' makes it.",
  });
}

async function isDirectory(files: Files, path: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await files.stat(path, { signal })).type === 'directory';
  } catch (thrown) {
    if (thrown instanceof CollectiveError && thrown.code === 'not_found') return false;
    throw thrown;
  }
}
