/**
 * Hears at once when a coordinator keeps a request for a certificate (T5): one call to each member that is only answered when there is
 * news, and is then made again. Without it a person who enrols would wait for the next look at the member. What is heard is no
 * truth, only a reason to look.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { toCollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import type { Admin } from '@collective/client';
import type { ObjectKey } from '../kube/kube-object.ts';

/** Shorter than what ends a connection of an authority that was given up takes to be noticed. */
const HELD_SECONDS = 20;
/** Answers without news do not come faster than this, whatever the other side does. */
const CALL_EVERY_MS_MIN = 250;
const FAILED_AGAIN_MS = 1_000;
const FAILED_AGAIN_MS_MAX = 60_000;

export interface RequestWatchOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Something is kept that was not told of before. */
  readonly onRequest: (key: ObjectKey) => void;
}

interface Followed {
  readonly admin: Admin;
  readonly stop: AbortController;
  /** Of a wait after a failure. */
  endWait: () => void;
}

export class RequestWatch implements Disposable {
  readonly #options: RequestWatchOptions;
  readonly #followed = new Map<string, Followed>();

  constructor(options: RequestWatchOptions) {
    this.#options = options;
  }

  /** With each look at which the coordinator answered: what is followed already by this connection goes on. */
  follow(key: ObjectKey, admin: Admin): void {
    const name = nameOf(key);
    const known = this.#followed.get(name);
    if (known?.admin === admin) {
      known.endWait();
      return;
    }
    this.forget(key);
    const followed = { admin, stop: new AbortController(), endWait: () => undefined };
    this.#followed.set(name, followed);
    void this.#listen(key, followed);
  }

  forget(key: ObjectKey): void {
    this.#followed.get(nameOf(key))?.stop.abort();
    this.#followed.delete(nameOf(key));
  }

  [Symbol.dispose](): void {
    for (const { stop } of this.#followed.values()) stop.abort();
    this.#followed.clear();
  }

  /** Never throws: a coordinator that does not answer is asked again, later and later. */
  async #listen(key: ObjectKey, followed: Followed): Promise<void> {
    const { clock, log, onRequest } = this.#options;
    const { admin } = followed;
    const { signal } = followed.stop;
    let after = '';
    let failedAgainMs = FAILED_AGAIN_MS;
    while (!signal.aborted) {
      try {
        const { requests, mark } = await admin.certificateRequests.list(
          { after, waitSeconds: HELD_SECONDS },
          { signal },
        );
        const isNews = requests.length > 0 && mark !== after;
        after = mark;
        failedAgainMs = FAILED_AGAIN_MS;
        if (isNews) onRequest(key);
        await sleep(clock, CALL_EVERY_MS_MIN, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        // Another start of it knows nothing of what was told before.
        after = '';
        log.debug({ ...key, err: toCollectiveError(thrown, 'Listen for requests') }, 'requests are not heard');
        const wait = new AbortController();
        followed.endWait = () => wait.abort();
        await sleep(clock, failedAgainMs, AbortSignal.any([signal, wait.signal])).catch(() => undefined);
        followed.endWait = () => undefined;
        failedAgainMs = Math.min(2 * failedAgainMs, FAILED_AGAIN_MS_MAX);
      }
    }
  }
}

function nameOf({ namespace, name }: ObjectKey): string {
  return `${namespace}/${name}`;
}
