/** Paths of the public API: absolute, '/' between names, UTF-8. Checked here so that a bad one never leaves the program. */
import { CollectiveError } from '@collective/base/errors';
import { NAME_BYTES_MAX, PATH_BYTES_MAX } from '@collective/base/limits';

/** The names of an absolute path; empty for the root. */
export function parsePath(path: string): string[] {
  if (!path.startsWith('/'))
    throw new CollectiveError('invalid_name', `Use path ${quote(path)}: it must be absolute, beginning with '/'`);
  if (Buffer.byteLength(path) > PATH_BYTES_MAX)
    throw new CollectiveError('name_too_long', `Use path ${quote(path)}: a path has at most ${PATH_BYTES_MAX} bytes`);
  const names = splitNames(path);
  for (const name of names) {
    if (name === '..')
      throw new CollectiveError('invalid_name', `Use path ${quote(path)}: '..' is not allowed in a path`);
    checkName(name, path);
  }
  return names;
}

/** The target of a symbolic link may be relative and may go up. */
export function splitNames(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

export function formatPath(names: readonly string[]): string {
  return `/${names.join('/')}`;
}

export function childPath(parent: string, name: string): string {
  return parent.endsWith('/') ? `${parent}${name}` : `${parent}/${name}`;
}

/** For messages: a path of any length and content on one line. */
export function quote(path: string): string {
  const shown = path.length > 200 ? `${path.slice(0, 199)}…` : path;
  return `'${JSON.stringify(shown).slice(1, -1)}'`;
}

function checkName(name: string, path: string): void {
  if (name.includes('\0')) throw new CollectiveError('invalid_name', `Use path ${quote(path)}: a name holds a NUL`);
  if (!name.isWellFormed())
    throw new CollectiveError('invalid_name', `Use path ${quote(path)}: a name is not valid Unicode`);
  const bytes = Buffer.byteLength(name);
  if (bytes > NAME_BYTES_MAX)
    throw new CollectiveError(
      'name_too_long',
      `Use path ${quote(path)}: the name ${quote(name)} has ${bytes} bytes, at most ${NAME_BYTES_MAX} are allowed`,
    );
}
