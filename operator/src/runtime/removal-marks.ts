/**
 * Which objects were asked to leave, for as long as the cache has not caught up with it: a pod that is to end would be ended once
 * more by whoever looks a moment later. Forgetting a mark costs a call that changes nothing.
 */
import type { KubeObject } from '../kube/kube-object.ts';
import { isDeleting } from '../kube/object-facts.ts';

const MARKS_MAX = 10_000;

export class RemovalMarks {
  /** By uid: the version of the object that was seen before it was asked. */
  readonly #asked = new Map<string, string | undefined>();

  set({ metadata: { uid, resourceVersion } }: KubeObject): void {
    if (uid === undefined) return;
    this.#asked.delete(uid);
    this.#asked.set(uid, resourceVersion);
    if (this.#asked.size <= MARKS_MAX) return;
    const [oldest = uid] = this.#asked.keys();
    this.#asked.delete(oldest);
  }

  /** It says so itself, or is still what it was when it was asked. */
  isLeaving(seen: KubeObject): boolean {
    const { uid, resourceVersion } = seen.metadata;
    if (isDeleting(seen)) return true;
    return uid !== undefined && this.#asked.has(uid) && this.#asked.get(uid) === resourceVersion;
  }
}
