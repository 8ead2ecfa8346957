/**
 * A compaction that the coordinator has ordered (D4, D8). It may take far longer than anybody waits for an answer: each order of one run
 * is answered soon with how far it is, and is given again until the run is done. A run ends by itself, also when
 * nobody asks for it any more.
 */
import { type Clock, sleep } from '@collective/base/clock';
import type { Compacted } from '@collective/protocol/gen/node';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';

const ANSWER_WITHIN_MS_MAX = 30_000;

type CompactedStore = Pick<ChunkStore, 'compact' | 'stats'>;

interface Run {
  readonly id: string;
  /** Never rejects. */
  readonly ended: Promise<void>;
  outcome: { readonly failure?: unknown } | undefined;
}

export class OrderedCompaction {
  readonly #store: CompactedStore;
  readonly #clock: Clock;
  /** The last that was ordered: an order of it that comes again is answered as before. */
  #run: Run | undefined;

  constructor(store: CompactedStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Answers when the run is done, or after `withinMs`. Throws what the store threw, or the signal's reason. */
  async work(id: string, withinMs: number, signal: AbortSignal): Promise<Compacted> {
    if (this.#run?.id !== id) this.#run = this.#begin(id);
    const run = this.#run;
    await this.#whenEnded(run, Math.min(withinMs, ANSWER_WITHIN_MS_MAX), signal);
    if (run.outcome?.failure !== undefined) throw run.outcome.failure;
    const { deadBytes, compactedBytes, compactedSegments, stuckSegments } = this.#store.stats();
    return {
      done: run.outcome !== undefined,
      deadBytes,
      copiedBytes: compactedBytes,
      removedSegments: compactedSegments,
      stuckSegments,
    };
  }

  #begin(id: string): Run {
    const ended = this.#store.compact().then(
      () => {
        run.outcome = {};
      },
      (failure: unknown) => {
        run.outcome = { failure };
      },
    );
    const run: Run = { id, ended, outcome: undefined };
    return run;
  }

  async #whenEnded({ ended }: Run, withinMs: number, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    try {
      await Promise.race([ended, sleep(this.#clock, withinMs, AbortSignal.any([signal, stop.signal]))]);
    } finally {
      stop.abort();
    }
  }
}
