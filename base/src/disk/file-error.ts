/**
 * What the operating system says about a file or folder of this machine, as an error of ours: the code for programs, and an
 * advice that is about this machine and not about what a member holds.
 */
import { CollectiveError, type ErrorCode } from '../errors/index.ts';

const RIGHTS = 'Give the user who runs this program the right to it (owner and mode), or name another place.';
const ROOM = 'Make room on this disk, or name a place on another one.';
const KNOWN: Readonly<Record<string, { readonly code: ErrorCode; readonly todo?: string }>> = {
  ENOENT: { code: 'not_found', todo: 'Check the path on this machine.' },
  EEXIST: { code: 'exists' },
  ENOTDIR: { code: 'not_directory', todo: 'Name a folder of this machine.' },
  EISDIR: { code: 'is_directory', todo: 'Name a file of this machine.' },
  EACCES: { code: 'permission_denied', todo: RIGHTS },
  EPERM: { code: 'permission_denied', todo: RIGHTS },
  EROFS: { code: 'disk_failed', todo: 'Mount it so that it can be written, or name another place.' },
  ENOSPC: { code: 'no_space', todo: ROOM },
  EDQUOT: { code: 'no_space', todo: ROOM },
};

/** Stores know paths below their folder only; whoever gave them the folder says which one it is. */
export function inFolder(folder: string, thrown: unknown): unknown {
  if (!(thrown instanceof CollectiveError) || thrown.message.includes(folder)) return thrown;
  if (thrown.code !== 'store_damaged' && thrown.code !== 'version_too_new') return thrown;
  const { code, message, cause, details, todo } = thrown;
  return new CollectiveError(code, `Open the data in ${folder}: ${message}`, { cause, details, todo });
}

/** Everything else is a disk that does not do as it is told. */
export function fileError(whileDoing: string, cause: unknown): CollectiveError {
  const known = KNOWN[(cause as NodeJS.ErrnoException | undefined)?.code ?? ''];
  return new CollectiveError(known?.code ?? 'disk_failed', whileDoing, { cause, todo: known?.todo });
}
