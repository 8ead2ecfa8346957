/**
 * Counts of rows that say what is not as it should be with chunks (D8), for status and metrics: as the rows are now, whoever wrote
 * them, and not as a walk over all chunks has found them once. Each count ends at a bound, so that it costs the same however
 * much is wrong.
 */
import { type Clock, sleep, type Timestamp } from '@collective/base/clock';
import type { Engine } from '../engine/engine.ts';
import { losses } from '../ops/losses.ts';
import { prefixEnd, type Table } from '../tables/table.ts';
import { REPAIR_ORDER, TO_MOVE, UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';

/** Counted up to here; beyond, "at least" is enough for a person. */
const COUNTED_MAX = 10_000;

export interface ReplicationCounts {
  readonly underReplicated: number;
  readonly unstable: number;
  readonly toMove: number;
  /** No sound copy is left; among those that are under-replicated. */
  readonly unreadable: number;
  /** Blocks that got back their earlier content, and that nobody has settled; and when the last of them did. */
  readonly lost: number;
  readonly lostLast: Timestamp | undefined;
}

/** Several figures of one look are of one count, and who looks again and again costs one in so long. */
const KEPT_MS = 5_000;
/** Whoever asks for figures gets the others when the store does not answer. */
const ANSWERED_WITHIN_MS = 2_000;

/** For metrics, each of which asks for itself. */
export class KeptCounts {
  readonly #clock: Clock;
  readonly #engine: Engine;
  #last: { readonly endedMs: number; readonly counts: ReplicationCounts } | undefined;
  #underWay: Promise<ReplicationCounts> | undefined;

  constructor(clock: Clock, engine: Engine) {
    this.#clock = clock;
    this.#engine = engine;
  }

  /** NaN: it is not known now. */
  async figure(of: (counts: ReplicationCounts) => number): Promise<number> {
    const clock = this.#clock;
    if (this.#last !== undefined && clock.bootMs() - this.#last.endedMs < KEPT_MS) return of(this.#last.counts);
    this.#underWay ??= this.#count();
    const waited = new AbortController();
    try {
      const counts = await Promise.race([this.#underWay, sleep(clock, ANSWERED_WITHIN_MS, waited.signal)]);
      return counts === undefined ? Number.NaN : of(counts);
    } catch {
      return Number.NaN;
    } finally {
      waited.abort();
    }
  }

  /** One at a time, however long it takes. */
  async #count(): Promise<ReplicationCounts> {
    try {
      const counts = await countReplication(this.#engine);
      this.#last = { endedMs: this.#clock.bootMs(), counts };
      return counts;
    } finally {
      this.#underWay = undefined;
    }
  }
}

export function countReplication(engine: Engine): Promise<ReplicationCounts> {
  return engine.run((tx) => {
    const rows = (table: Table<readonly never[], object>, prefix = table.prefix): number =>
      tx.scan(table, prefix, prefixEnd(prefix), COUNTED_MAX).length;
    const notes = (sound: number): number => rows(REPAIR_ORDER, REPAIR_ORDER.prefix + String.fromCharCode(sound));
    const { blocks, last } = losses(tx);
    return {
      underReplicated: rows(UNDER_REPLICATED),
      unstable: rows(UNSTABLE),
      toMove: notes(TO_MOVE),
      unreadable: notes(0),
      lost: blocks,
      lostLast: last,
    };
  });
}
