/**
 * From paths to inodes. The coordinator walks a path in one round trip; only symbolic links come back here, because what
 * they mean depends on the path that led to them. A walk begins at the root of the innermost realm that the session may use.
 */
import { CollectiveError } from '@collective/base/errors';
import { SYMLINKS_FOLLOWED_MAX } from '@collective/base/limits';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import type { Failure } from '@collective/protocol/gen/common';
import type { Attributes as WireAttributes } from '@collective/protocol/gen/session';
import { expectResult } from '../session/operation-kinds.ts';
import type { Session } from '../session/session.ts';
import { formatPath, parsePath, quote, splitNames } from './path.ts';

export interface ResolvedPath {
  readonly attributes: WireAttributes;
  /** Without symbolic links. */
  readonly names: readonly string[];
}

export interface ParentDirectory {
  readonly inode: number;
  readonly realm: number;
}

/** A name in a directory, and what bears it, if anything does. */
export interface ResolvedEntry {
  readonly parent: ParentDirectory;
  readonly name: string;
  readonly existing: WireAttributes | undefined;
  readonly names: readonly string[];
}

interface Walk {
  readonly names: readonly string[];
  /** Unset: the path ends at a realm's root, whose parent is none of this session's business. */
  readonly parent: ParentDirectory | undefined;
  readonly end: { readonly attributes: WireAttributes } | { readonly missing: Failure };
}

export class PathResolver {
  readonly #session: Session;

  constructor(session: Session) {
    this.#session = session;
  }

  async resolve(
    path: string,
    options: { followLast: boolean; signal: AbortSignal | undefined },
  ): Promise<ResolvedPath> {
    const { end, names } = await this.#walk(parsePath(path), options.followLast, { count: 0 }, options.signal);
    if ('missing' in end) throw failureAt(end.missing, names);
    return { attributes: end.attributes, names };
  }

  /** For making, replacing and removing names: the last name need not exist. The root has no entry. */
  async entry(path: string, options: { followLast: boolean; signal: AbortSignal | undefined }): Promise<ResolvedEntry> {
    const names = parsePath(path);
    if (names.length === 0)
      throw new CollectiveError(
        'busy',
        `Use ${quote(path)} as a name: it is the root, which cannot be made or removed`,
      );
    const walk = await this.#walk(names, options.followLast, { count: 0 }, options.signal);
    const name = walk.names.at(-1);
    if (name === undefined || walk.parent === undefined)
      throw new CollectiveError('busy', `Use ${quote(path)} as a name: it is the root of a realm`);
    const existing = 'missing' in walk.end ? undefined : walk.end.attributes;
    return { parent: walk.parent, name, existing, names: walk.names };
  }

  async #walk(
    names: readonly string[],
    followLast: boolean,
    links: { count: number },
    signal: AbortSignal | undefined,
  ): Promise<Walk> {
    // Only targets of links go up; what lies before must be known without links first.
    const up = names.indexOf('..');
    if (up >= 0) {
      const before = await this.#walk(names.slice(0, up), true, links, signal);
      if ('missing' in before.end) throw failureAt(before.end.missing, before.names);
      return await this.#walk([...before.names.slice(0, -1), ...names.slice(up + 1)], followLast, links, signal);
    }
    const { root, realm, depth } = this.#realmOf(names);
    const rest = names.slice(depth);
    if (rest.length === 0) {
      const reply = await this.#session.call(
        { $case: 'getAttributes', value: { inode: root, opens: false } },
        { signal },
      );
      return { names, parent: undefined, end: { attributes: expectResult(reply, 'attributes') } };
    }
    const reply = await this.#session.call(
      { $case: 'resolve', value: { start: root, names: rest.map((name) => Buffer.from(name)), followLast } },
      { signal },
    );
    const { found, linkTarget, failure } = expectResult(reply, 'resolved');
    if (linkTarget.length > 0) {
      if (++links.count > SYMLINKS_FOLLOWED_MAX)
        throw new CollectiveError('too_many_symlinks', `Follow ${quote(formatPath(names))}`);
      const at = depth + found.length - 1;
      const target = linkTarget.toString();
      const base = target.startsWith('/') ? [] : names.slice(0, at);
      const next = [...base, ...splitNames(target), ...names.slice(at + 1)];
      return await this.#walk(next, followLast, links, signal);
    }
    const last = found.at(failure === undefined ? -2 : -1);
    const parent = found.length > (failure === undefined ? 1 : 0) && last !== undefined ? last : { inode: root, realm };
    if (failure !== undefined) {
      if (failure.code !== 'not_found' || found.length !== rest.length - 1) {
        // What is missing is the name after those that were found; every other failure is about the last of them.
        const about = names.slice(0, depth + found.length + (failure.code === 'not_found' ? 1 : 0));
        throw failureAt(failure, about);
      }
      return { names, parent, end: { missing: failure } };
    }
    const attributes = found.at(-1);
    if (attributes === undefined)
      throw new CollectiveError(
        'internal',
        `Look up ${quote(formatPath(names))}: the coordinator found nothing and no reason`,
      );
    return { names, parent, end: { attributes } };
  }

  #realmOf(names: readonly string[]): { root: number; realm: number; depth: number } {
    let best: { root: number; realm: number; depth: number } | undefined;
    for (const realm of this.#session.attached.realms) {
      if (realm.within) continue;
      const prefix = splitNames(realm.path);
      if (prefix.length > names.length || prefix.some((name, index) => names[index] !== name)) continue;
      if (best === undefined || prefix.length >= best.depth)
        best = { root: realm.root, realm: realm.realm, depth: prefix.length };
    }
    if (best !== undefined) return best;
    const known = this.#session.attached.realms.map(({ path }) => path).join(', ') || 'none';
    throw new CollectiveError(
      'permission_denied',
      `Look up ${quote(formatPath(names))}: it lies in no realm that was given to you (${known})`,
    );
  }
}

/** People know paths, not the inodes that the coordinator's words name. */
function failureAt(failure: Failure, names: readonly string[]): CollectiveError {
  const error = fromFailure(failure);
  return new CollectiveError(error.code, error.message, { details: { ...error.details, at: formatPath(names) } });
}
