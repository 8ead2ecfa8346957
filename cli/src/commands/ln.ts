/** `collective ln`: a second name for a file, or with -s a symbolic link. */
import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import type { Command } from 'commander';
import { replaceName } from '../copy/replace-name.ts';
import { withMember } from '../member-session.ts';
import { baseName, joinRemote, remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

interface LnOptions {
  readonly symbolic?: boolean;
  readonly force?: boolean;
  readonly targetDirectory: boolean;
}

export function lnCommand(shell: Shell): Command {
  return verb('ln', {
    summary: 'make hard or symbolic links',
    examples: [
      { line: 'collective ln /a.txt /b.txt', says: 'b.txt is the same file as a.txt' },
      { line: 'collective ln -s ../2026/03 /photos/latest', says: 'a link that is followed by name' },
      { line: 'collective ln -sf /releases/7 /current', says: 'put a new link in place of an old one in one step' },
    ],
  })
    .argument('<target>', 'the file; with -s any text, which is not looked up')
    .argument('<link>', 'the new name, or a directory to make it in')
    .option('-s, --symbolic', 'make a symbolic link')
    .option('-f, --force', 'replace an existing name')
    .option('-T, --no-target-directory', 'take the new name as a name, also if it is a directory')
    .action(async (target: string, link: string, options: LnOptions, command: Command) => {
      await withMember(shell, command, async ({ files, signal }) => {
        const path = await linkPath(files, target, remotePath(link), options.targetDirectory, signal);
        const make = async (made: string): Promise<unknown> =>
          options.symbolic
            ? await files.symlink(target, made, { signal })
            : await files.link(await linkable(files, remotePath(target), signal), made, { signal });
        if (options.force) await replaceName(files, path, make, signal);
        else await make(path);
      });
    });
}

/**
 * As ln: in a directory the link is called like its target. A symbolic link to a directory is a name, not a directory:
 * `ln -sf` puts another in its place.
 */
async function linkPath(
  files: Files,
  target: string,
  path: string,
  mayBeFolder: boolean,
  signal: AbortSignal,
): Promise<string> {
  if (!mayBeFolder) return path;
  try {
    const { type } = await files.lstat(path, { signal });
    return type === 'directory' ? joinRemote(path, baseName(target)) : path;
  } catch (thrown) {
    if (thrown instanceof CollectiveError && thrown.code === 'not_found' && !path.endsWith('/')) return path;
    throw thrown;
  }
}

async function linkable(files: Files, path: string, signal: AbortSignal): Promise<string> {
  const { type } = await files.lstat(path, { signal });
  if (type !== 'directory') return path;
  throw new CollectiveError('is_directory', `Link ${path}: a directory has one name`, {
    todo: 'ln -s makes a symbolic link to it.',
  });
}
