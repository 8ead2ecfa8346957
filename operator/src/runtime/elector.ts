/**
 * One of several operators leads: it holds a Lease and says so every 2 s. Who cannot say so for 10 s has lost it and must be silent
 * before anybody else may lead, which is 15 s after it was last heard of; so it stops at once and `run` rejects, and the process ends.
 * All that is counted on the own clock since the renewal was sent, so clocks of other machines do not matter. Where an apiserver is
 * often silent for longer, all these times are made longer together (`lease.ts`).
 *
 * Asked to stop, it goes on renewing until what it led has ended, and then gives the lease back: the next one leads within 2 s.
 */
import { type Clock, sleep, wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import { type Random, randomUnit } from '@collective/base/random';
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError } from '../kube/kube-error.ts';
import type { KubeObject, ObjectReference } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import {
  claimOf,
  holderOf,
  type LeaseTimes,
  leaseTimes,
  mayTake,
  releaseOf,
  type SeenLease,
  seeLease,
} from './lease.ts';

export interface ElectorMetrics {
  leads(name: string, isLeader: boolean): void;
}

export interface ElectorOptions {
  readonly api: Pick<KubeApi, 'get' | 'create' | 'patch'>;
  readonly namespace: string;
  readonly name: string;
  /** Of this process alone, also after a restart: two of one identity would both lead. */
  readonly identity: string;
  readonly times?: LeaseTimes;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics?: ElectorMetrics;
}

export class Elector {
  readonly #options: ElectorOptions;
  readonly #times: LeaseTimes;
  readonly #reference: ObjectReference;
  readonly #log: Log;
  #seen: SeenLease | undefined;
  #lease: KubeObject | undefined;
  #isLeader = false;

  constructor(options: ElectorOptions) {
    const { namespace, name } = options;
    this.#options = options;
    this.#times = options.times ?? leaseTimes();
    this.#reference = { resource: RESOURCES.leases, namespace, name };
    this.#log = options.log.child({ lease: `${namespace}/${name}`, identity: options.identity });
  }

  get isLeader(): boolean {
    return this.#isLeader;
  }

  /**
   * Waits for the lease, then runs `lead` until it ends. Its signal is aborted with `signal`, and when the lease is lost; then
   * this rejects with the code "fenced". Resolves when it was stopped, also while it waited.
   */
  async run(lead: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { name, metrics } = this.#options;
    metrics?.leads(name, false);
    const renewedAtMs = await this.#acquire(signal);
    if (renewedAtMs === undefined) return;
    this.#isLeader = true;
    metrics?.leads(name, true);
    this.#log.info({}, 'leads');
    try {
      await this.#lead(lead, renewedAtMs, signal);
    } finally {
      this.#isLeader = false;
      metrics?.leads(name, false);
    }
  }

  /** When the successful claim was sent; undefined when it was stopped before. */
  async #acquire(signal: AbortSignal): Promise<number | undefined> {
    const { clock, random, identity } = this.#options;
    let waitsFor: string | undefined;
    while (!signal.aborted) {
      const startedMs = clock.bootMs();
      try {
        const lease = await this.#look(signal);
        if (lease === undefined || this.#mayTake(lease)) {
          await this.#claim(lease, signal);
          return startedMs;
        }
        if (holderOf(lease) !== waitsFor) {
          waitsFor = holderOf(lease);
          this.#log.info({ holder: waitsFor }, 'another one leads');
        }
      } catch (thrown) {
        if (signal.aborted) return undefined;
        if (!isKubeError(thrown) && !isLate(thrown)) throw thrown;
        // Who is told Conflict was too slow, and sees so with the next look.
        if (!isKubeError(thrown) || !thrown.isConflict)
          this.#log.warn({ err: thrown, identity }, 'cannot ask for the lease');
      }
      const delayMs = this.#times.retryMs * (1 + randomUnit(random) / 5);
      await sleep(clock, delayMs, signal).catch(() => undefined);
    }
    return undefined;
  }

  async #lead(lead: (signal: AbortSignal) => Promise<void>, renewedAtMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const lost = new AbortController();
    const over = new AbortController();
    const leading = lead(AbortSignal.any([signal, lost.signal])).finally(() => over.abort());
    // Whatever comes first is what run() tells; the other one is not unheard of, only late.
    leading.catch(() => undefined);
    const loss = await this.#renew(renewedAtMs, over.signal);
    if (loss === undefined) {
      await this.#release();
      return await leading;
    }
    this.#log.error({ err: loss }, 'lease is lost');
    lost.abort(loss);
    await sleep(clock, this.#times.silentWithinMs, over.signal).catch(() => undefined);
    throw loss;
  }

  /** Until `over`, or until the lease is lost: then why. */
  async #renew(renewedAtMs: number, over: AbortSignal): Promise<CollectiveError | undefined> {
    const { clock, identity } = this.#options;
    const { renewWithinMs, retryMs } = this.#times;
    let cause: unknown;
    for (let lastMs = renewedAtMs; ; ) {
      const leftMs = Math.max(0, lastMs + renewWithinMs - clock.bootMs());
      await sleep(clock, Math.min(retryMs, leftMs), over).catch(() => undefined);
      if (over.aborted) return undefined;
      const startedMs = clock.bootMs();
      if (startedMs - lastMs >= renewWithinMs) {
        return new CollectiveError('fenced', `Renew the lease of ${identity} within ${renewWithinMs} ms`, { cause });
      }
      try {
        await this.#claim(this.#lease, over, lastMs + renewWithinMs - startedMs);
        lastMs = startedMs;
      } catch (thrown) {
        if (over.aborted) return undefined;
        cause = thrown;
        this.#log.warn({ err: thrown }, 'lease is not renewed');
        const holder = await this.#holderAfterConflict(thrown, over, lastMs + renewWithinMs - clock.bootMs());
        if (holder !== undefined && holder !== identity) {
          return new CollectiveError('fenced', `Renew the lease of ${identity}: ${holder || 'nobody'} holds it`, {
            cause,
          });
        }
      }
    }
  }

  /** Somebody wrote the lease: who holds it now? Undefined when that is not known. */
  async #holderAfterConflict(thrown: unknown, signal: AbortSignal, withinMs: number): Promise<string | undefined> {
    if (!isKubeError(thrown) || !(thrown.isConflict || thrown.isNotFound)) return undefined;
    try {
      const lease = await this.#look(signal, withinMs);
      return lease === undefined ? undefined : holderOf(lease);
    } catch (again) {
      this.#log.debug({ err: again }, 'cannot look at the lease');
      return undefined;
    }
  }

  async #look(signal: AbortSignal, withinMs = this.#times.callWithinMs): Promise<KubeObject | undefined> {
    const { api, clock } = this.#options;
    this.#lease = await this.#within(withinMs, signal, (limit) => api.get(this.#reference, { signal: limit }));
    if (this.#lease !== undefined) this.#seen = seeLease(this.#seen, this.#lease, clock.bootMs());
    return this.#lease;
  }

  #mayTake(lease: KubeObject): boolean {
    const { clock, identity } = this.#options;
    const nowMs = clock.bootMs();
    return mayTake(lease, identity, this.#seen ?? seeLease(undefined, lease, nowMs), nowMs);
  }

  /** Bound to the version that was looked at: of two who try, one is told Conflict. */
  async #claim(lease: KubeObject | undefined, signal: AbortSignal, withinMs = this.#times.callWithinMs): Promise<void> {
    const { api, clock, identity, namespace, name } = this.#options;
    const spec = claimOf(lease, { identity, durationSeconds: this.#times.durationSeconds, nowWallMs: wallMs(clock) });
    const { apiVersion, kind } = RESOURCES.leases;
    this.#lease = await this.#within(Math.min(this.#times.callWithinMs, withinMs), signal, (limit) =>
      lease === undefined
        ? api.create(RESOURCES.leases, { apiVersion, kind, metadata: { namespace, name }, spec }, { signal: limit })
        : api.patch(this.#reference, bound(lease, spec), { signal: limit }),
    );
  }

  async #release(): Promise<void> {
    const { api, clock } = this.#options;
    const lease = this.#lease;
    if (lease === undefined) return;
    const never = new AbortController().signal;
    try {
      await this.#within(this.#times.callWithinMs, never, (limit) =>
        api.patch(this.#reference, bound(lease, releaseOf(wallMs(clock))), { signal: limit }),
      );
      this.#log.info({}, 'lease is given back');
    } catch (thrown) {
      // The next one waits until it is over.
      this.#log.warn({ err: thrown }, 'lease is not given back');
    }
  }

  async #within<Value>(
    withinMs: number,
    signal: AbortSignal,
    call: (limit: AbortSignal) => Promise<Value>,
  ): Promise<Value> {
    const limit = new AbortController();
    const timer = this.#options.clock.setTimer(Math.max(0, withinMs), () => limit.abort(new Late()));
    try {
      return await call(AbortSignal.any([signal, limit.signal]));
    } finally {
      timer.cancel();
    }
  }
}

class Late extends CollectiveError {
  constructor() {
    super('deadline_exceeded', 'Ask for the lease');
  }
}

function isLate(thrown: unknown): boolean {
  return thrown instanceof Late;
}

function bound({ metadata: { resourceVersion } }: KubeObject, spec: object): object {
  return { metadata: { resourceVersion }, spec };
}
