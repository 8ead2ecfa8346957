/**
 * Has all nodes give back the room of what they have forgotten (D4, D8), when somebody who wants it now has had garbage collected. A node
 * does it in its own time, which may be hours: it is asked again and again how far it is, and given up only when it gets nowhere or
 * cannot be reached. It is a job of its own, so that garbage is collected meanwhile. Who did not finish, and why, is kept for whoever asked.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { Epoch, NodeName } from '@collective/base/ids';
import type { Round } from './keeper.ts';
import type { NodeOrders } from './node-orders.ts';

export interface CompactionParts {
  readonly clock: Clock;
  readonly epoch: Epoch;
  readonly orders: Pick<NodeOrders, 'compact'>;
  /** All that the member has. */
  nodes(): readonly { readonly node: NodeName; readonly isThere: boolean }[];
}

export interface NodeCompaction {
  readonly node: NodeName;
  readonly state: 'working' | 'done' | 'unfinished';
  readonly deadBytes: number;
  /** Of one that is unfinished. */
  readonly reason: string;
}

/** A node that gets nowhere for so long is given up. */
export const STALLED_AFTER_MS = 180_000;
/** One that restarts is back sooner. */
export const SILENT_AFTER_MS = 30_000;
const RETRY_AFTER_MS = 2_000;
const PASSES_BY: readonly ErrorCode[] = ['unavailable', 'overloaded', 'shutting_down', 'interrupted'];

export class CompactionJob {
  readonly #parts: CompactionParts;
  #asked = 0;
  #finished = 0;
  readonly #nodes = new Map<NodeName, NodeCompaction>();

  constructor(parts: CompactionParts) {
    this.#parts = parts;
  }

  /** The highest request that is done, as far as could be. */
  get finished(): number {
    return this.#finished;
  }

  /** Of the newest request that was begun. */
  get nodes(): readonly NodeCompaction[] {
    return [...this.#nodes.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
  }

  /** All requests up to this one are waiting for it. */
  ask(number: number): void {
    this.#asked = number;
  }

  async work(round: Round): Promise<void> {
    const number = this.#asked;
    if (number === this.#finished) return;
    const { epoch, nodes } = this.#parts;
    const run = `${epoch.generation}-${epoch.start}-${number}`;
    this.#nodes.clear();
    const deadAtFirst = new Map<NodeName, number>();
    const note = (compaction: NodeCompaction): void => {
      this.#nodes.set(compaction.node, compaction);
      if (!deadAtFirst.has(compaction.node)) deadAtFirst.set(compaction.node, compaction.deadBytes);
      const total = sum(deadAtFirst.values());
      const left = sum(this.nodes.map(({ deadBytes }) => deadBytes));
      round.progress(Math.max(0, total - left), total, 'bytes');
    };
    await Promise.all(
      nodes().map(async ({ node, isThere }) => {
        if (isThere) await this.#compact(node, run, note, round.signal);
        else note(unfinished(node, 0, 'it is away; collect again when it is back'));
      }),
    );
    this.#finished = number;
  }

  /** Until the node is done, or nothing can be hoped for. */
  async #compact(
    node: NodeName,
    run: string,
    note: (compaction: NodeCompaction) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { orders, clock } = this.#parts;
    let deadBytes = 0;
    let gotTo = '';
    let movedMs = clock.bootMs();
    let heardMs = movedMs;
    for (;;) {
      try {
        const state = await orders.compact(node, run, signal);
        heardMs = clock.bootMs();
        deadBytes = state.deadBytes;
        if (state.done) return note(ended(node, deadBytes, state.stuckSegments));
        note({ node, state: 'working', deadBytes, reason: '' });
        const at = `${state.copiedBytes} ${state.removedSegments}`;
        if (at !== gotTo) movedMs = heardMs;
        gotTo = at;
        if (heardMs - movedMs >= STALLED_AFTER_MS)
          return note(unfinished(node, deadBytes, 'it gets nowhere; look at its log, and collect again'));
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof CollectiveError)) throw error;
        if (!PASSES_BY.includes(error.code)) return note(unfinished(node, deadBytes, error.message));
        if (clock.bootMs() - heardMs >= SILENT_AFTER_MS)
          return note(unfinished(node, deadBytes, `${error.message}; collect again when it is back`));
        await sleep(clock, RETRY_AFTER_MS, signal);
      }
    }
  }
}

function ended(node: NodeName, deadBytes: number, stuckSegments: number): NodeCompaction {
  if (stuckSegments === 0) return { node, state: 'done', deadBytes, reason: '' };
  const what = stuckSegments === 1 ? '1 segment holds a chunk' : `${stuckSegments} segments hold chunks`;
  return unfinished(
    node,
    deadBytes,
    `${what} with a damaged header; collect again when that is repaired: collective nodes scrub ${node}`,
  );
}

function unfinished(node: NodeName, deadBytes: number, reason: string): NodeCompaction {
  return { node, state: 'unfinished', deadBytes, reason };
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
