/**
 * Lock requests that wait (M8): by inode in order of arrival, and the graph of who waits for whom, in which a new wait
 * that would close a circle is refused with EDEADLK. In memory: a client sends a waiting request again when it re-attaches.
 */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import type { WaitForLock } from '../ops/context.ts';

const WAITERS_MAX = 10_000;

interface Waiter {
  readonly wait: WaitForLock;
  readonly wake: () => void;
}

export class LockWaiters {
  readonly #byInode = new Map<InodeNumber, Set<Waiter>>();
  #count = 0;
  #changes = 0;

  /** Grows whenever locks change: to be noted before a look at the locks, and given to `wait`. */
  get changes(): number {
    return this.#changes;
  }

  waitedFor(inode: InodeNumber): boolean {
    return this.#byInode.has(inode);
  }

  get count(): number {
    return this.#count;
  }

  /** Resolves when locks of the inode changed, at once if any did since `seen`. Throws `deadlock`, `no_locks`, or the signal's reason. */
  async wait(wait: WaitForLock, signal: AbortSignal, seen: number): Promise<void> {
    signal.throwIfAborted();
    // Between the look and this call the event loop may have run others: what they changed must not be missed.
    if (seen !== this.#changes) return;
    if (this.#closesCircle(wait))
      throw new CollectiveError('deadlock', `Wait for a lock of inode ${wait.inode}: its holders wait for the caller`);
    if (this.#count >= WAITERS_MAX)
      throw new CollectiveError(
        'no_locks',
        `Wait for a lock of inode ${wait.inode}: ${WAITERS_MAX} requests wait already`,
      );
    const waiters = this.#byInode.get(wait.inode) ?? new Set<Waiter>();
    this.#byInode.set(wait.inode, waiters);
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = { wait, wake: () => end(resolve) };
      const onAbort = (): void => end(() => reject(signal.reason));
      const end = (settle: () => void): void => {
        if (!waiters.delete(waiter)) return;
        this.#count -= 1;
        if (waiters.size === 0) this.#byInode.delete(wait.inode);
        signal.removeEventListener('abort', onAbort);
        settle();
      };
      waiters.add(waiter);
      this.#count += 1;
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Locks of the inode changed: all that wait for it look again, the longest waiting first. */
  changed(inode: InodeNumber): void {
    this.#changes += 1;
    for (const waiter of [...(this.#byInode.get(inode) ?? [])]) waiter.wake();
  }

  #closesCircle(wait: WaitForLock): boolean {
    const seen = new Set<string>();
    const next = [...wait.blockers];
    for (let at = next.pop(); at !== undefined; at = next.pop()) {
      if (at === wait.waiter) return true;
      if (seen.has(at)) continue;
      seen.add(at);
      for (const waiters of this.#byInode.values())
        for (const waiter of waiters) if (waiter.wait.waiter === at) next.push(...waiter.wait.blockers);
    }
    return false;
  }
}
