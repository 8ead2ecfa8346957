/**
 * An identity that is held in memory and replaced by whoever holds it: for programs whose certificates come from somewhere
 * else than a folder (a Kubernetes Secret). A set that does not fit together, or is somebody else's, is refused and the last
 * good one stays in use (T4), as with files.
 */
import { CollectiveError } from '@collective/base/errors';
import type { Trust } from './trust-files.ts';
import { isSameSet, parseTrustSet, type TrustPems, type TrustSet } from './trust-set.ts';

export class MemoryTrust implements Trust {
  readonly #where: string;
  readonly #listeners = new Set<(set: TrustSet) => void>();
  #current: TrustSet;

  /** `where` names the origin in errors. Throws `unauthenticated` when the set does not fit together. */
  constructor(pems: TrustPems, where = 'an identity in memory') {
    this.#where = where;
    this.#current = parseTrustSet(pems, where);
  }

  get current(): TrustSet {
    return this.#current;
  }

  onChange(listener: (set: TrustSet) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** True if it differs from the one in use. Throws `unauthenticated`, and `wrong_member` when it names another peer. */
  replace(pems: TrustPems): boolean {
    if (isSameSet(pems, this.#current)) return false;
    const set = parseTrustSet(pems, this.#where);
    if (set.id.uri !== this.#current.id.uri)
      throw new CollectiveError(
        'wrong_member',
        `Replace ${this.#where}: the identity changed from ${this.#current.id.uri} to ${set.id.uri}`,
      );
    this.#current = set;
    for (const listener of [...this.#listeners]) listener(set);
    return true;
  }
}
