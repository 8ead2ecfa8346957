/** Errors of this machine's file system in our words: the code decides the exit code, the advice is about this machine. */
import { CollectiveError, type ErrorCode, toCollectiveError } from '@collective/base/errors';

const CODES: Readonly<Record<string, { readonly code: ErrorCode; readonly todo?: string }>> = {
  ENOENT: { code: 'not_found', todo: 'Check the path on this machine.' },
  EACCES: { code: 'permission_denied', todo: 'Check owner and mode on this machine.' },
  EPERM: { code: 'permission_denied', todo: 'Check owner and mode on this machine.' },
  EROFS: { code: 'read_only', todo: 'Choose a place on this machine that can be written.' },
  ENOSPC: { code: 'no_space', todo: 'Free room on this machine, or write to another disk.' },
  EDQUOT: { code: 'no_space', todo: 'Free room on this machine, or write to another disk.' },
  EEXIST: { code: 'exists' },
  ENOTDIR: { code: 'not_directory' },
  EISDIR: { code: 'is_directory' },
  ENAMETOOLONG: { code: 'name_too_long' },
  ELOOP: { code: 'too_many_symlinks' },
};

export function localError(doing: string, cause: unknown): CollectiveError {
  const known = CODES[cause instanceof Error && 'code' in cause ? String(cause.code) : ''];
  if (known === undefined) return toCollectiveError(cause, `${doing} on this machine`);
  return new CollectiveError(known.code, `${doing} on this machine`, { cause, todo: known.todo });
}
