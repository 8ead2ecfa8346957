/**
 * Keys that want to be looked at. A key is there once however often it is added, and is with one worker at most: added while
 * one has it, it comes again when that one is done. Failing keys come again later and later, each by its own backoff.
 *
 * A waiting time (`addAfter`) belongs to the look that asked for it: when the key is taken, whatever it was to wait for is
 * looked at now, and the time is forgotten. Of two waiting times the earlier counts.
 */
import { assert } from '@collective/base/assert';
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type Random, randomUnit } from '@collective/base/random';

const KEYS_MAX = 100_000;
const BASE_MS = 200;
const DELAY_MAX_MS = 300_000;

export interface QueueMetrics {
  depth(keys: number): void;
  added(): void;
  taken(waitedMs: number): void;
  finished(workedMs: number): void;
  retried(): void;
}

export interface WorkQueueOptions<Key> {
  readonly clock: Clock;
  readonly random: Random;
  /** Two keys of one name are the same key. */
  readonly nameOf: (key: Key) => string;
  /** After the first failure; twice as long after each further one. */
  readonly baseMs?: number;
  readonly maxMs?: number;
  readonly metrics?: QueueMetrics;
}

interface Entry<Key> {
  readonly key: Key;
  /** Since when it is ready to be taken. */
  readyAtMs: number | undefined;
  waiting: { readonly timer: Timer; readonly atMs: number } | undefined;
  /** Since when a worker has it. */
  takenAtMs: number | undefined;
  failures: number;
}

export class WorkQueue<Key> {
  readonly #options: WorkQueueOptions<Key>;
  readonly #entries = new Map<string, Entry<Key>>();
  /** Ready and with no worker, first come first. */
  readonly #ready = new Set<Entry<Key>>();
  readonly #takers = new Set<(entry: Entry<Key>) => void>();

  constructor(options: WorkQueueOptions<Key>) {
    this.#options = options;
  }

  /** Ready to be taken. */
  get depth(): number {
    return this.#ready.size;
  }

  add(key: Key): void {
    const entry = this.#entry(key);
    if (entry.readyAtMs !== undefined) return;
    entry.readyAtMs = this.#options.clock.bootMs();
    this.#options.metrics?.added();
    if (entry.takenAtMs === undefined) this.#offer(entry);
  }

  addAfter(key: Key, delayMs: number): void {
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const { clock } = this.#options;
    const entry = this.#entry(key);
    const atMs = clock.bootMs() + delayMs;
    if (entry.waiting !== undefined && entry.waiting.atMs <= atMs) return;
    entry.waiting?.timer.cancel();
    const onTime = (): void => {
      entry.waiting = undefined;
      this.add(key);
    };
    entry.waiting = { atMs, timer: clock.setTimer(delayMs, onTime) };
  }

  /** The next key, for one worker alone until it says `done`. Rejects with the signal's reason. */
  async get(signal: AbortSignal): Promise<Key> {
    signal.throwIfAborted();
    const [first] = this.#ready;
    if (first !== undefined) return this.#take(first);
    const { promise, resolve, reject } = Promise.withResolvers<Key>();
    const onAbort = (): void => {
      this.#takers.delete(taker);
      reject(signal.reason);
    };
    const taker = (entry: Entry<Key>): void => {
      signal.removeEventListener('abort', onAbort);
      resolve(this.#take(entry));
    };
    this.#takers.add(taker);
    signal.addEventListener('abort', onAbort, { once: true });
    return await promise;
  }

  /** "forget": it went well, its failures are over. "retry": it comes again by itself. */
  done(key: Key, outcome: 'forget' | 'retry'): void {
    const { clock, metrics } = this.#options;
    const entry = this.#entries.get(this.#options.nameOf(key));
    assert(entry?.takenAtMs !== undefined, 'only who has a key is done with it');
    metrics?.finished(clock.bootMs() - entry.takenAtMs);
    entry.takenAtMs = undefined;
    if (outcome === 'forget') entry.failures = 0;
    else {
      metrics?.retried();
      this.addAfter(key, this.#backoffMs(entry));
      entry.failures++;
    }
    if (entry.readyAtMs !== undefined) this.#offer(entry);
    else if (entry.waiting === undefined) this.#entries.delete(this.#options.nameOf(key));
  }

  /** Nothing comes from timers any more; keys that are ready may still be taken. */
  stop(): void {
    for (const entry of this.#entries.values()) {
      entry.waiting?.timer.cancel();
      entry.waiting = undefined;
    }
  }

  #entry(key: Key): Entry<Key> {
    const name = this.#options.nameOf(key);
    const known = this.#entries.get(name);
    if (known !== undefined) return known;
    if (this.#entries.size >= KEYS_MAX) {
      throw new CollectiveError('overloaded', `Queue ${name}: ${KEYS_MAX} keys wait already`);
    }
    const entry = { key, readyAtMs: undefined, waiting: undefined, takenAtMs: undefined, failures: 0 };
    this.#entries.set(name, entry);
    return entry;
  }

  #offer(entry: Entry<Key>): void {
    const [taker] = this.#takers;
    if (taker !== undefined) {
      this.#takers.delete(taker);
      taker(entry);
      return;
    }
    this.#ready.add(entry);
    this.#options.metrics?.depth(this.#ready.size);
  }

  #take(entry: Entry<Key>): Key {
    const { clock, metrics } = this.#options;
    const nowMs = clock.bootMs();
    this.#ready.delete(entry);
    metrics?.depth(this.#ready.size);
    metrics?.taken(nowMs - (entry.readyAtMs ?? nowMs));
    entry.readyAtMs = undefined;
    entry.takenAtMs = nowMs;
    entry.waiting?.timer.cancel();
    entry.waiting = undefined;
    return entry.key;
  }

  #backoffMs({ failures }: Entry<Key>): number {
    const { random, baseMs = BASE_MS, maxMs = DELAY_MAX_MS } = this.#options;
    // The exponent is bounded too: 2 ** 1024 is no number.
    const fullMs = Math.min(maxMs, baseMs * 2 ** Math.min(failures, 30));
    return fullMs * (0.5 + randomUnit(random) / 2);
  }
}
