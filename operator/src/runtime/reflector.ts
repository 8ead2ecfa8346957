/**
 * Keeps an `ObjectStore` as the apiserver has it: list, then watch from there; a watch that ends or breaks goes on from the last
 * version seen, one whose version is forgotten (410) begins with a list again. So no change is missed, and the store is never
 * empty in between; only changes that cancel each other out may go unseen.
 *
 * It goes on until its signal is aborted, whatever the server does, and then it is over. The one thing that ends it otherwise is
 * a listener that throws: a defect, which must end the process rather than leave a part of it deaf.
 */
import { assert } from '@collective/base/assert';
import { type Clock, sleep, type Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import { type Random, randomUnit } from '@collective/base/random';
import type { KubeApi, WatchEvent } from '../kube/kube-api.ts';
import { isKubeError, type KubeError, NO_ANSWER } from '../kube/kube-error.ts';
import type { KubeObject, ResourceKind } from '../kube/kube-object.ts';
import { type IndexBy, type ObjectChange, ObjectStore } from './object-store.ts';

/** A safety net below events and `requeueAfterMs`; it costs no call. */
const RESYNC_MS = 30 * 60_000;
const BACKOFF_FIRST_MS = 200;
const BACKOFF_MAX_MS = 30_000;
/** A watch that lived this long was well, although nothing may have happened. */
const WELL_AFTER_MS = 5_000;

export interface ReflectorOptions {
  readonly api: Pick<KubeApi, 'list' | 'watch'>;
  readonly resource: ResourceKind;
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly indexBy?: IndexBy;
  readonly resyncMs?: number;
}

export class Reflector {
  readonly store: ObjectStore;
  readonly #options: ReflectorOptions;
  readonly #log: Log;
  readonly #listeners: ((change: ObjectChange) => void)[] = [];
  readonly #synced = Promise.withResolvers<void>();
  readonly #heard = Promise.withResolvers<void>();
  #hasSynced = false;
  #started = false;
  #version: string | undefined;
  #wasForgotten = false;
  /** In a row; the backoff goes by it. */
  #failures = 0;
  #trouble: KubeError | undefined;
  #warnedOf: string | undefined;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.store = new ObjectStore(options.indexBy);
    this.#log = options.log.child({ resource: options.resource.plural });
  }

  /** The store has held all objects once; from then on it is behind by moments only, or `trouble` says why more. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Why it cannot list or watch now; 404: the kind is not installed. Undefined while all is well. */
  get trouble(): KubeError | undefined {
    return this.#trouble;
  }

  /** Called within the turn that changed the store, in the order of the server. Must not throw. */
  onChange(listener: (change: ObjectChange) => void): void {
    assert(!this.#started, 'listeners are there before the first object is');
    this.#listeners.push(listener);
  }

  /** Resolves with the first complete list. */
  async whenSynced(signal: AbortSignal): Promise<void> {
    await this.#unlessAborted(this.#synced.promise, signal);
  }

  /** Resolves with the first complete list, or with the first word that there can be none now: `trouble` says why. */
  async whenHeard(signal: AbortSignal): Promise<void> {
    await this.#unlessAborted(this.#heard.promise, signal);
  }

  /** Once. Resolves after the signal was aborted; rejects when a listener threw. */
  async run(signal: AbortSignal): Promise<void> {
    assert(!this.#started, 'a reflector runs once');
    this.#started = true;
    const stop = new AbortController();
    const resyncFailed = Promise.withResolvers<never>();
    const resyncs = this.#resyncFromTimeToTime((thrown) => resyncFailed.reject(thrown));
    const following = this.#follow(AbortSignal.any([signal, stop.signal]));
    try {
      await Promise.race([following, resyncFailed.promise]);
    } finally {
      resyncs.cancel();
      stop.abort();
      await following;
    }
  }

  async #unlessAborted(level: Promise<void>, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([level, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    while (!signal.aborted) {
      let trouble: KubeError | undefined;
      try {
        this.#version ??= await this.#list(signal);
        await this.#watch(this.#version, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        if (!isKubeError(thrown)) throw thrown;
        trouble = thrown;
        this.#hearOf(thrown);
      }
      if (this.#failures === 0) continue;
      const backoffMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** (this.#failures - 1));
      const delayMs = Math.max(backoffMs * (0.5 + randomUnit(random) / 2), trouble?.retryAfterMs ?? 0);
      await sleep(clock, delayMs, signal).catch(() => undefined);
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { api, resource } = this.#options;
    const { objects, resourceVersion } = await api.list(resource, { ...this.#selection(), signal });
    // A list that only leads to the next forgotten version is no success.
    if (!this.#wasForgotten) this.#failures = 0;
    this.#tell(this.store.replace(objects.map(withoutManagedFields)));
    if (!this.#hasSynced) this.#log.debug({ objects: objects.length }, 'kind listed');
    this.#hasSynced = true;
    this.#synced.resolve();
    this.#heard.resolve();
    return resourceVersion;
  }

  async #watch(resourceVersion: string, signal: AbortSignal): Promise<void> {
    const { api, resource, clock } = this.#options;
    const startedMs = clock.bootMs();
    const isWell = (): void => {
      this.#failures = 0;
      this.#wasForgotten = false;
    };
    const onOpen = (): void => {
      if (this.#warnedOf !== undefined) this.#log.info({}, 'kind is watched again');
      this.#warnedOf = undefined;
      this.#trouble = undefined;
    };
    // One that breaks early, again and again, is not well for having been opened.
    this.#failures++;
    try {
      for await (const event of api.watch(resource, { ...this.#selection(), resourceVersion, signal, onOpen })) {
        if (signal.aborted) return;
        isWell();
        this.#take(event);
      }
    } finally {
      if (clock.bootMs() - startedMs >= WELL_AFTER_MS) isWell();
    }
  }

  #take(event: WatchEvent): void {
    if (event.type === 'BOOKMARK') {
      this.#version = event.resourceVersion;
      return;
    }
    const object = withoutManagedFields(event.object);
    const changes = event.type === 'DELETED' ? this.store.remove(object) : this.store.put(object);
    this.#version = object.metadata.resourceVersion;
    this.#tell(changes);
  }

  /** Every listener hears of every change, also when another one threw. */
  #tell(changes: readonly ObjectChange[]): void {
    const thrown: unknown[] = [];
    for (const change of changes) {
      for (const listener of this.#listeners) {
        try {
          listener(change);
        } catch (error) {
          thrown.push(error);
        }
      }
    }
    if (thrown.length === 0) return;
    throw new CollectiveError('internal', `Tell of changes of ${this.#options.resource.plural}`, { cause: thrown[0] });
  }

  #hearOf(error: KubeError): void {
    if (this.#version === undefined) this.#failures++;
    if (error.isGone) {
      this.#version = undefined;
      this.#wasForgotten = true;
      this.#log.info({ err: error }, 'version is forgotten, listing again');
      return;
    }
    this.#trouble = error;
    this.#heard.resolve();
    // Connections break in ordinary life; a second time in a row is worth a line, the same again is not.
    const isOrdinary = error.reason === NO_ANSWER.connectionLost && this.#failures <= 1;
    const kind = `${error.status} ${error.reason}`;
    if (isOrdinary || this.#warnedOf === kind) return;
    this.#warnedOf = kind;
    this.#log.warn({ err: error }, 'kind cannot be watched');
  }

  #resyncFromTimeToTime(failed: (thrown: unknown) => void): Timer {
    const { clock, random, resyncMs = RESYNC_MS } = this.#options;
    let timer: Timer;
    const again = (): void => {
      timer = clock.setTimer(resyncMs * (0.9 + randomUnit(random) / 5), resync, { background: true });
    };
    const resync = (): void => {
      try {
        this.#tell(this.store.list().map((object) => ({ type: 'resync', object })));
        again();
      } catch (thrown) {
        failed(thrown);
      }
    };
    again();
    return { cancel: () => timer.cancel() };
  }

  #selection(): { namespace?: string; labelSelector?: string } {
    const { namespace, labelSelector } = this.#options;
    return {
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
    };
  }
}

/** Who set which field is the server's book-keeping, often half of an object, and nobody here reads it. */
function withoutManagedFields(object: KubeObject): KubeObject {
  const { managedFields, ...metadata } = object.metadata;
  return managedFields === undefined ? object : { ...object, metadata };
}
