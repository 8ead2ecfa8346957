/**
 * Workers that bring one kind of thing into the state that it should have: take a key, reconcile it, say when to look again. A
 * reconcile that throws is logged and comes again by the queue's backoff, whatever it threw, so that one object cannot stop
 * the others. Each has a deadline and a signal.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import { isKubeError } from '../kube/kube-error.ts';
import type { ObjectKey } from '../kube/kube-object.ts';
import type { WorkQueue } from './work-queue.ts';

const RECONCILE_WITHIN_MS = 5 * 60_000;
/** What does not heed its signal is left behind; the process is about to end. */
const STOP_WITHIN_MS = 10_000;

export interface Reconciled {
  /** Absent: when something changes, or at the resync. */
  readonly requeueAfterMs?: number;
}

/** Of several reasons to look again; undefined is none. */
export function soonest(...timesMs: readonly (number | undefined)[]): Reconciled {
  const known = timesMs.filter((timeMs) => timeMs !== undefined);
  return known.length === 0 ? {} : { requeueAfterMs: Math.min(...known) };
}

export type ReconcileResult = 'success' | 'requeue_after' | 'error';

export interface ControllerMetrics {
  reconciled(result: ReconcileResult, tookMs: number): void;
  workers(active: number, of: number): void;
}

export interface ControllerOptions {
  readonly name: string;
  readonly queue: WorkQueue<ObjectKey>;
  /** Keys at once. */
  readonly workers: number;
  readonly reconcile: (key: ObjectKey, signal: AbortSignal) => Promise<Reconciled>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics?: ControllerMetrics;
  readonly reconcileWithinMs?: number;
}

export class Controller {
  readonly #options: ControllerOptions;
  readonly #log: Log;
  #active = 0;

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.#log = options.log.child({ controller: options.name });
  }

  /** Until the signal is aborted and every worker is done with its key. */
  async run(signal: AbortSignal): Promise<void> {
    const { workers, clock, metrics } = this.#options;
    metrics?.workers(0, workers);
    const late = Promise.withResolvers<void>();
    let patience: Timer | undefined;
    const onAbort = (): void => {
      patience = clock.setTimer(STOP_WITHIN_MS, late.resolve);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const working = Promise.all(Array.from({ length: workers }, () => this.#work(signal)));
      await Promise.race([working, late.promise]);
      if (this.#active > 0) this.#log.warn({ active: this.#active }, 'reconciles did not end in time');
    } finally {
      patience?.cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { queue } = this.#options;
    while (!signal.aborted) {
      let key: ObjectKey;
      try {
        key = await queue.get(signal);
      } catch (thrown) {
        if (signal.aborted) return;
        throw thrown;
      }
      await this.#one(key, signal);
    }
  }

  async #one(key: ObjectKey, signal: AbortSignal): Promise<void> {
    const { queue, clock, metrics, workers, reconcileWithinMs = RECONCILE_WITHIN_MS } = this.#options;
    const startedMs = clock.bootMs();
    const finished = (result: ReconcileResult): void => metrics?.reconciled(result, clock.bootMs() - startedMs);
    const limit = new AbortController();
    const timer = clock.setTimer(reconcileWithinMs, () => {
      limit.abort(new CollectiveError('deadline_exceeded', `Reconcile ${key.namespace}/${key.name}`));
    });
    metrics?.workers(++this.#active, workers);
    try {
      const both = AbortSignal.any([signal, limit.signal]);
      const { requeueAfterMs } = await this.#options.reconcile(key, both);
      queue.done(key, 'forget');
      if (requeueAfterMs !== undefined) queue.addAfter(key, requeueAfterMs);
      finished(requeueAfterMs === undefined ? 'success' : 'requeue_after');
    } catch (thrown) {
      queue.done(key, 'retry');
      if (signal.aborted) return;
      this.#hearOf(key, thrown);
      finished('error');
    } finally {
      timer.cancel();
      metrics?.workers(--this.#active, workers);
    }
  }

  #hearOf(key: ObjectKey, thrown: unknown): void {
    // The cache was behind, or somebody else was quicker: looking again is the whole cure.
    if (isKubeError(thrown) && thrown.isConflict) this.#log.debug({ ...key, err: thrown }, 'reconcile is tried again');
    else this.#log.warn({ ...key, err: thrown }, 'reconcile failed');
  }
}
