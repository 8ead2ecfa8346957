/**
 * Looks at what the coordinator tells nodes to forget, at the moment when it does: nothing that is named is ever deleted, and
 * nothing else goes before it was condemned (D2), or, as a copy too many, marked as leaving (D8). What the judge of contents would see only after several more faults is seen here at once.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '@collective/coordinator/engine/engine';
import type { NodeOrders } from '@collective/coordinator/jobs/node-orders';
import type { ChunkRow, GarbageRow, OrphanChunkRow } from '@collective/coordinator/tables/gen/tables';
import { CHUNKS, GARBAGE, ORPHAN_CHUNKS } from '@collective/coordinator/tables/tables';

/** What rows say of a chunk that a node is to forget. */
export interface Forgetting {
  readonly place: { readonly node: string; readonly disk: string };
  readonly row: ChunkRow | undefined;
  readonly garbage: GarbageRow | undefined;
  readonly note: OrphanChunkRow | undefined;
}

/** Why the chunk must not go; undefined: it may. */
export function whyNotForget({ place, row, garbage, note }: Forgetting): string | undefined {
  const { node, disk } = place;
  if (row !== undefined && row.references > 0) {
    if (row.replicas.some((each) => each.node === node && each.disk === disk)) return 'it is named';
    return note?.leaving ? undefined : 'it is a copy too many that was not marked as leaving';
  }
  return garbage?.condemned || note?.leaving ? undefined : 'it was not condemned';
}

/** One for a whole run. */
export class OrderJudge {
  readonly #onBreach: (error: Error) => void;
  #forgotten = 0;

  constructor(onBreach: (error: Error) => void) {
    this.#onBreach = onBreach;
  }

  /** Chunks that nodes were told to forget. */
  get forgotten(): number {
    return this.#forgotten;
  }

  judged(orders: NodeOrders, engine: Engine, diskOf: (node: NodeName) => string | undefined): NodeOrders {
    return {
      listChunks: (...order) => orders.listChunks(...order),
      fetchChunks: (...order) => orders.fetchChunks(...order),
      verifyChunks: (...order) => orders.verifyChunks(...order),
      foldBlock: (...order) => orders.foldBlock(...order),
      scrub: (...order) => orders.scrub(...order),
      compact: (...order) => orders.compact(...order),
      forgetChunks: async (node, chunks, signal) => {
        await this.#lookAt(engine, { node, disk: diskOf(node) ?? '' }, chunks, signal);
        await orders.forgetChunks(node, chunks, signal);
      },
    };
  }

  async #lookAt(
    engine: Engine,
    place: { readonly node: NodeName; readonly disk: string },
    chunks: readonly ChunkId[],
    signal: AbortSignal,
  ): Promise<void> {
    this.#forgotten += chunks.length;
    await engine.run(
      (tx) => {
        tx.need(
          chunks.flatMap((chunk) => [
            CHUNKS.key(chunk),
            GARBAGE.key(chunk),
            ORPHAN_CHUNKS.key(place.node, place.disk, chunk),
          ]),
        );
        for (const chunk of chunks) {
          const why = whyNotForget({
            place,
            row: tx.get(CHUNKS, chunk),
            garbage: tx.get(GARBAGE, chunk),
            note: tx.get(ORPHAN_CHUNKS, place.node, place.disk, chunk),
          });
          if (why !== undefined)
            this.#onBreach(new Error(`Node ${place.node} is told to forget chunk ${chunk}: ${why}`));
        }
      },
      { durability: 'written', signal },
    );
  }
}
