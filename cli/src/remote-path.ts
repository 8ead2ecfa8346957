/**
 * Paths on the command line. Where only a remote path can stand, `/photos`, `photos` and `collective:/photos` mean the
 * same. Where both kinds can stand (cp), the prefix tells them apart; a local file whose name begins so is written
 * `./collective:x`, as with scp. What a path may hold is judged by the client and the coordinator, not here.
 */
import { existsSync } from 'node:fs';
import { CollectiveError } from '@collective/base/errors';

export const REMOTE_PREFIX = 'collective:';

export type CopyPlace =
  | { readonly kind: 'remote'; readonly path: string }
  | { readonly kind: 'local'; readonly path: string }
  | { readonly kind: 'stream' };

export function remotePath(text: string): string {
  const bare = text.startsWith(REMOTE_PREFIX) ? text.slice(REMOTE_PREFIX.length) : text;
  if (bare === '') throw new CollectiveError('invalid_argument', `Read '${text}' as a remote path: it is empty`);
  if (bare.includes(NOT_UTF8)) {
    throw new CollectiveError('invalid_name', `Read '${text}' as a remote path: it is not UTF-8`);
  }
  return bare.startsWith('/') ? bare : `/${bare}`;
}

/** For commands that begin at the root when nothing is named. */
export function pathsOrRoot(texts: readonly string[]): string[] {
  return (texts.length === 0 ? ['/'] : texts).map(remotePath);
}

export function copyPlace(text: string): CopyPlace {
  if (text === '-') return { kind: 'stream' };
  if (text.startsWith(REMOTE_PREFIX)) return { kind: 'remote', path: remotePath(text) };
  if (text === '') throw new CollectiveError('invalid_argument', 'Read the paths of a copy: one is empty');
  if (text.includes(NOT_UTF8) && !existsSync(text)) {
    throw new CollectiveError('invalid_name', `Read '${text}' as a path: it is not UTF-8`, {
      todo: 'Copy the directory that it lies in, or give it a name in UTF-8.',
    });
  }
  return { kind: 'local', path: text };
}

/** What the terminal gave in another encoding arrives with this mark; a name made of it would not be the one that was meant. */
export const NOT_UTF8 = '\ufffd';

export function joinRemote(folder: string, name: string): string {
  return folder.endsWith('/') ? folder + name : `${folder}/${name}`;
}

export function isRoot(path: string): boolean {
  return path.split('/').every((name) => name === '' || name === '.');
}

/** The directory that a path's last name lies in. */
export function parentOf(path: string): string {
  const bare = path.replace(/\/+$/, '');
  return bare.slice(0, bare.lastIndexOf('/')) || '/';
}

/** The last name of a path; empty for the root. */
export function baseName(path: string): string {
  return path.replace(/\/+$/, '').split('/').at(-1) ?? '';
}
