/**
 * The directories that a copy has entered, so that with -L a link to a directory above itself is a failure and not a copy
 * without end. A value is never changed: each way down has its own.
 */
import { CollectiveError } from '@collective/base/errors';

export class FollowedLinks {
  readonly #entered: ReadonlySet<string>;

  constructor(entered: ReadonlySet<string> = new Set()) {
    this.#entered = entered;
  }

  /** `identity`: the same for one directory whatever path leads to it. */
  into(path: string, identity: string): FollowedLinks {
    if (this.#entered.has(identity)) {
      throw new CollectiveError('too_many_symlinks', `Copy ${path}: it leads to a directory that it lies in`, {
        todo: 'Copy without -L, or leave the link out.',
      });
    }
    return new FollowedLinks(new Set([...this.#entered, identity]));
  }
}
