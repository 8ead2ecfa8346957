/** What the file operations share: the session, the ways of the bytes, and how a failure gets the path that it belongs to. */

import type { Clock } from '@collective/base/clock';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { Random } from '@collective/base/random';
import type { Durability } from '../api.ts';
import type { Session } from '../session/session.ts';
import type { CallSettings } from '../session/session-options.ts';
import type { DownloadPorts } from '../transfer/download.ts';
import type { UploadPorts } from '../transfer/upload.ts';
import type { OpenFiles } from './open-files.ts';
import { formatPath, quote, splitNames } from './path.ts';
import type { PathResolver } from './path-resolver.ts';

export interface FileContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly session: Session;
  readonly paths: PathResolver;
  readonly upload: UploadPorts;
  readonly download: DownloadPorts;
  readonly open: OpenFiles;
  /** Whether chunks of the realm are compressed where it pays (D5). */
  readonly compresses: (realm: number) => boolean;
  /** Replicas that the realm wants. */
  readonly replicasOf: (realm: number) => number;
}

export const NEVER_ABORTED: AbortSignal = new AbortController().signal;

/** Runs an action on a path; what it throws gets the path into its message and stays the cause. */
export async function about<T>(what: string, path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw withPath(what, path, error);
  }
}

/** The same for what yields. */
export async function* aboutEach<T>(
  what: string,
  path: string,
  act: () => AsyncGenerator<T, void, undefined>,
): AsyncGenerator<T, void, undefined> {
  try {
    yield* act();
  } catch (error) {
    throw withPath(what, path, error);
  }
}

export function settingsOf(options: { signal?: AbortSignal; durability?: Durability } | undefined): CallSettings {
  return { signal: options?.signal, durability: options?.durability ?? 'stable' };
}

/** What some codes say of a path; the others are read as words. */
const SAYS: Partial<Readonly<Record<ErrorCode, string>>> = {
  not_found: 'not found',
  exists: 'exists already',
  not_directory: 'is not a directory',
  is_directory: 'is a directory',
  not_empty: 'is not empty',
};

/** `details.at`, where an error has it, is the part of a path that it is about. */
function withPath(what: string, path: string, error: unknown): unknown {
  if (!(error instanceof CollectiveError) || error.details.path !== undefined) return error;
  const { at } = error.details;
  const says = SAYS[error.code];
  const part = typeof at === 'string' && at !== formatPath(splitNames(path)) ? quote(at) + (says ? ' ' : ': ') : '';
  const why = `${part}${says ?? error.code.replaceAll('_', ' ')}`;
  return new CollectiveError(error.code, `${what} ${quote(path)}: ${why}`, {
    cause: error,
    details: { ...error.details, path },
    todo: error.todo,
  });
}
