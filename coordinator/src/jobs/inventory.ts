/**
 * Compares what each node holds with what the rows say (D2, D8): when it has started anew or come back, when somebody asks, and
 * once a day. Both lists are in the order of ids and are read side by side, in pages, so memory is bounded however much a
 * node holds. Replicas that a node lacks are taken from their rows, and repair makes them anew; copies that no row names are
 * noted as orphans (`orphans.ts`), or taken as replicas where one is missing, after they were read.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { adoptCopies, compareStep, LAST_CHUNK, noteFindings } from '../ops/orphan-chunks.ts';
import type { NamedChunk } from '../placement/plan-inventory.ts';
import { type ByteRates, inOrders } from './byte-rates.ts';
import type { Round } from './keeper.ts';
import { type ChunkPage, type NodeOrders, VERIFY_CHUNKS_MAX } from './node-orders.ts';

/** The chunk store of a node that is there. */
export interface InventoriedStore {
  readonly node: NodeName;
  readonly disk: string;
  readonly incarnation: number;
  readonly stableSequence: number;
}

export interface InventoryParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly orders: Pick<NodeOrders, 'listChunks' | 'verifyChunks'>;
  stores(): readonly InventoriedStore[];
  readonly rates: Pick<ByteRates, 'reading' | 'bytesPerOrderMax'>;
  /** Replicas were missing on a node; of `lost` no other is known. */
  onMissing(store: InventoriedStore, dropped: number, lost: readonly ChunkId[]): void;
}

export interface NodeInventory {
  readonly chunks: number;
  /** Named by rows, and not there. */
  readonly missing: number;
  /** There, and named by no row. */
  readonly orphans: number;
  /** Became replicas. */
  readonly adopted: number;
  /** On boot time. */
  readonly endedMs: number;
}

export const INVENTORY_EVERY_MS = 24 * 3_600_000;
/** Ids in one page of a node's list. */
const LIST_PAGE = 2_000;
/** Lost chunks that an event names. */
const LOST_NAMED_MAX = 100;

export class InventoryJob {
  readonly #parts: InventoryParts;
  readonly #done = new Map<NodeName, { disk: string; incarnation: number; inventory: NodeInventory }>();
  readonly #asked = new Set<NodeName>();

  constructor(parts: InventoryParts) {
    this.#parts = parts;
  }

  /** Of nodes that were compared since the start. */
  get figures(): ReadonlyMap<NodeName, NodeInventory> {
    return new Map([...this.#done].map(([node, { inventory }]) => [node, inventory]));
  }

  /** In the next round, whenever it was compared before. */
  ask(node: NodeName): void {
    this.#asked.add(node);
  }

  askAll(): void {
    for (const { node } of this.#parts.stores()) this.ask(node);
  }

  /** Whether a round would compare anything. */
  get isDue(): boolean {
    return this.#parts.stores().some((store) => this.#isDue(store));
  }

  async work({ signal, progress }: Round): Promise<void> {
    const due = this.#parts.stores().filter((store) => this.#isDue(store));
    let failed: unknown;
    for (const [i, store] of due.entries()) {
      progress(i, due.length, 'nodes');
      try {
        await this.#compare(store, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof CollectiveError)) throw error;
        // The others first.
        failed ??= error;
      }
    }
    progress(due.length, due.length, 'nodes');
    if (failed !== undefined) throw failed;
  }

  #isDue({ node, disk, incarnation }: InventoriedStore): boolean {
    const done = this.#done.get(node);
    return (
      done === undefined ||
      this.#asked.has(node) ||
      done.disk !== disk ||
      done.incarnation !== incarnation ||
      this.#parts.clock.bootMs() - done.inventory.endedMs >= INVENTORY_EVERY_MS
    );
  }

  async #compare(store: InventoriedStore, signal: AbortSignal): Promise<void> {
    const { node, disk, incarnation } = store;
    this.#asked.delete(node);
    const counts = { chunks: 0, missing: 0, orphans: 0, adopted: 0 };
    const lost: ChunkId[] = [];
    let after: ChunkId | undefined;
    for (let end = false; !end; ) {
      const page = await this.#page(store, after, signal);
      end = page.end;
      const through = end ? LAST_CHUNK : (page.chunks.at(-1) ?? LAST_CHUNK);
      const inventory = { node, disk, incarnation, sequence: page.sequence, chunks: new Set(page.chunks) };
      counts.chunks += page.chunks.length;
      while (after !== through) {
        const from: ChunkId | undefined = after;
        const found = await this.#parts.engine.run((tx) => compareStep(tx, inventory, from, through), { signal });
        const orphans = await this.#stillHeld(store, from, found.orphans, signal);
        counts.orphans += found.unnamed - found.orphans.length + orphans.length;
        if (found.missing.length + orphans.length + found.settled.length > 0) {
          const noted = await this.#parts.engine.run((tx) => noteFindings(tx, store, { ...found, orphans }), {
            durability: 'written',
            signal,
          });
          counts.missing += noted.dropped;
          lost.push(...noted.lost.slice(0, LOST_NAMED_MAX - lost.length));
        }
        counts.adopted += await this.#adopt(store, found.needed, signal);
        after = found.through;
      }
    }
    this.#done.set(node, { disk, incarnation, inventory: { ...counts, endedMs: this.#parts.clock.bootMs() } });
    if (counts.missing > 0) this.#parts.onMissing(store, counts.missing, lost);
  }

  /**
   * Of chunks above `after` that no row names: those that a list has which was made since their rows were looked for. Garbage that was
   * collected between list and look is none of them: its node forgets it before its row goes (`garbage.ts`), and a note of it would stay
   * until the next comparison.
   */
  async #stillHeld(
    store: InventoriedStore,
    after: ChunkId | undefined,
    unnamed: readonly ChunkId[],
    signal: AbortSignal,
  ): Promise<readonly ChunkId[]> {
    if (unnamed.length === 0) return [];
    const { chunks } = await this.#page(store, after, signal);
    const held = new Set(chunks);
    return unnamed.filter((chunk) => held.has(chunk));
  }

  /** Throws `unavailable` when the node has another store by now: what it says is not about this one. */
  async #page(store: InventoriedStore, after: ChunkId | undefined, signal: AbortSignal): Promise<ChunkPage> {
    const { node, disk, incarnation } = store;
    const page = await this.#parts.orders.listChunks(node, after, LIST_PAGE, signal);
    const now = this.#parts.stores().find((each) => each.node === node);
    if (page.incarnation !== incarnation || now?.disk !== disk || now.incarnation !== incarnation)
      throw new CollectiveError('unavailable', `Compare what node ${node} holds: it has started anew meanwhile`);
    return page;
  }

  /** A copy is taken only after it was read: nobody has looked at it since nothing named it. */
  async #adopt(store: InventoriedStore, needed: readonly NamedChunk[], signal: AbortSignal): Promise<number> {
    const { engine, orders, rates, stores } = this.#parts;
    const bytesOf = ({ row }: NamedChunk): number => row.storedLength;
    let adopted = 0;
    for (const some of inOrders(needed, { tasksMax: VERIFY_CHUNKS_MAX, bytesMax: rates.bytesPerOrderMax, bytesOf })) {
      await rates.reading.take(
        some.reduce((sum, { row }) => sum + row.storedLength, 0),
        signal,
      );
      const read = await orders.verifyChunks(
        store.node,
        some.map(({ chunk }) => chunk),
        signal,
      );
      // What was written a moment ago might still be lost with the power (D3).
      const stable = stores().find(({ node }) => node === store.node)?.stableSequence ?? 0;
      const copies = read.flatMap((result) =>
        result.failure === undefined && result.replica.disk === store.disk && result.replica.sequence <= stable
          ? [{ chunk: result.chunk, digest: result.digest, ...result.replica }]
          : [],
      );
      adopted += await engine.run((tx) => adoptCopies(tx, copies), { signal });
    }
    return adopted;
  }
}
