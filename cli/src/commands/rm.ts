/** `collective rm`: removes names. What is removed lies in the trash of its realm for a while; still a directory needs -r, and the root is refused. */

import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { isRoot, remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

interface RmOptions {
  readonly recursive?: boolean;
  readonly force?: boolean;
  readonly dir?: boolean;
  readonly permanent?: boolean;
}

export function rmCommand(shell: Shell): Command {
  return verb('rm', {
    summary: 'remove files and directories',
    description: 'What is removed can be brought back for a while: see `collective trash`.',
    examples: [
      { line: 'collective rm /notes/old.txt', says: 'a file or link' },
      { line: 'collective rm -d /empty', says: 'an empty directory' },
      { line: 'collective rm -r /photos/2019', says: 'a directory and all below' },
      { line: 'collective rm -f /maybe', says: 'no error if there is nothing' },
      { line: 'collective rm -r --permanent /secret', says: 'gone at once, not into the trash' },
    ],
  })
    .argument('<path...>', 'what to remove')
    .option('-r, --recursive', 'directories and all below')
    .option('-R', 'the same as -r')
    .option('-d, --dir', 'empty directories too')
    .option('-f, --force', 'no error if there is nothing')
    .option('--permanent', 'destroy it, do not put it into the trash')
    .action(async (paths: string[], options: RmOptions & { R?: boolean }, command: Command) => {
      const recursive = options.recursive === true || options.R === true;
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        for (const path of paths.map(remotePath)) {
          await failures.collect(async () => {
            if (isRoot(path)) {
              throw new CollectiveError('not_permitted', `Remove ${path}: the root stays`, {
                todo: 'Name what is in it.',
              });
            }
            if (!recursive && !options.dir) await refuseDirectory(files, path, signal);
            const { force = false, permanent = false } = options;
            await files.remove(path, { recursive, force, permanent, signal });
          });
        }
        failures.end();
      });
    });
}

async function refuseDirectory(files: Files, path: string, signal: AbortSignal): Promise<void> {
  try {
    const { type } = await files.lstat(path, { signal });
    if (type === 'directory') {
      throw new CollectiveError(
        'is_directory',
        `Remove ${path}: it is a directory; -d removes an empty one, -r all below`,
      );
    }
  } catch (thrown) {
    // What is missing is for the removal itself to judge, which knows about --force.
    if (!(thrown instanceof CollectiveError) || thrown.code !== 'not_found') throw thrown;
  }
}
