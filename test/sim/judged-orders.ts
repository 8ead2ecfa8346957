/**
 * Looks at what the coordinator tells nodes to forget, at the moment when it does: nothing that is named is ever deleted, and
 * nothing else goes before it was condemned and has been kept for its grace time (D2), or, as a copy too many, before the others were
 * read again (D8). What the judge of contents would see only after several more faults is seen here at once.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '@collective/coordinator/engine/engine';
import type { ChunkResult, NodeOrders } from '@collective/coordinator/jobs/node-orders';
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

export interface OrderJudgeParts {
  /** True time. */
  nowMs(): number;
  readonly garbageGraceMs: number;
  readonly orphanGraceMs: number;
  /** Graces go by wall time: where nobody sets it, they can be told by true time too. */
  isWallSteady(): boolean;
  onBreach(error: Error): void;
}

/** Clocks of machines are not exact, rows keep whole seconds. */
const GRACE_TOLERANCE_MS = 4_000;

/** One for a whole run, over all starts of the coordinator. */
export class OrderJudge {
  readonly #parts: OrderJudgeParts;
  /** Since when chunks are garbage, and orphans, by the keys of their rows. */
  readonly #since = new Map<string, number>();
  /** Copies that were read from a disk, or written to it, by an order: chunk and node. */
  readonly #read = new Set<string>();
  #forgotten = 0;

  constructor(parts: OrderJudgeParts) {
    this.#parts = parts;
  }

  /** Chunks that nodes were told to forget. */
  get forgotten(): number {
    return this.#forgotten;
  }

  judged(orders: NodeOrders, engine: Engine, diskOf: (node: NodeName) => string | undefined): NodeOrders {
    engine.watch(GARBAGE, (key, { condemned }) => this.#noted(key, !condemned));
    engine.watch(ORPHAN_CHUNKS, (key, { leaving }) => this.#noted(key, !leaving));
    return {
      listChunks: (...order) => orders.listChunks(...order),
      fetchChunks: async (...order) => this.#wereRead(order[0], await orders.fetchChunks(...order)),
      verifyChunks: async (...order) => this.#wereRead(order[0], await orders.verifyChunks(...order)),
      foldBlock: (...order) => orders.foldBlock(...order),
      scrub: (...order) => orders.scrub(...order),
      compact: (...order) => orders.compact(...order),
      forgetChunks: async (node, chunks, signal) => {
        const disk = diskOf(node);
        // One that was removed meanwhile has no link by which the order could reach it, and no disk by which notes of it are found.
        if (disk !== undefined) await this.#lookAt(engine, { node, disk }, chunks, signal);
        await orders.forgetChunks(node, chunks, signal);
      },
    };
  }

  #noted(key: string, isKept: boolean): void {
    if (isKept) this.#since.set(key, this.#parts.nowMs());
  }

  #wereRead(node: NodeName, results: ChunkResult[]): ChunkResult[] {
    for (const { chunk, failure } of results) if (failure === undefined) this.#read.add(`${chunk} ${node}`);
    return results;
  }

  async #lookAt(
    engine: Engine,
    place: { readonly node: NodeName; readonly disk: string },
    chunks: readonly ChunkId[],
    signal: AbortSignal,
  ): Promise<void> {
    this.#forgotten += chunks.length;
    const keysOf = (chunk: ChunkId): string[] => [
      CHUNKS.key(chunk),
      GARBAGE.key(chunk),
      ORPHAN_CHUNKS.key(place.node, place.disk, chunk),
    ];
    await engine.run(
      (tx) => {
        tx.need(chunks.flatMap(keysOf));
        for (const chunk of chunks) {
          const row = tx.get(CHUNKS, chunk);
          const garbage = tx.get(GARBAGE, chunk);
          const note = tx.get(ORPHAN_CHUNKS, place.node, place.disk, chunk);
          const why =
            whyNotForget({ place, row, garbage, note }) ??
            (row !== undefined && !garbage?.condemned ? this.#whyNotSpare(chunk, row) : this.#whyNotDue(chunk, place));
          if (why !== undefined)
            this.#parts.onBreach(new Error(`Node ${place.node} is told to forget chunk ${chunk}: ${why}`));
        }
      },
      { durability: 'written', signal },
    );
  }

  /** Of garbage within its grace, which leaves a node that is emptied, one copy is enough. */
  #whyNotSpare(chunk: ChunkId, { references, wanted, replicas }: ChunkRow): string | undefined {
    const read = replicas.filter(({ node }) => this.#read.has(`${chunk} ${node}`)).length;
    return read < Math.min(references > 0 ? wanted : 1, replicas.length)
      ? `of ${replicas.length} other copies of ${wanted} that it should have ${read} were read`
      : undefined;
  }

  #whyNotDue(chunk: ChunkId, { node, disk }: { readonly node: NodeName; readonly disk: string }): string | undefined {
    const { nowMs, garbageGraceMs, orphanGraceMs, isWallSteady } = this.#parts;
    if (!isWallSteady()) return undefined;
    const left = [
      [GARBAGE.key(chunk), garbageGraceMs] as const,
      [ORPHAN_CHUNKS.key(node, disk, chunk), Math.max(garbageGraceMs, orphanGraceMs)] as const,
    ].flatMap(([key, graceMs]) => {
      const since = this.#since.get(key);
      return since === undefined ? [] : [since + graceMs - GRACE_TOLERANCE_MS - nowMs()];
    });
    // Neither: it was condemned for another reason than its age.
    return left.length > 0 && left.every((ms) => ms > 0)
      ? `its grace time is over in ${Math.min(...left)} ms only`
      : undefined;
  }
}
