/**
 * Carries out what plans say of single chunks (D8): copies them to nodes, and gives places up after the others were read
 * again. Orders to nodes are gathered and bounded; bytes go at the member's rate; each end is a commit that looks again.
 * Repair, drain and rebalance share one mover, so their limits hold for all of them together.
 */
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { ChunkId, NodeName } from '@collective/base/ids';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import type { Engine } from '../engine/engine.ts';
import {
  giveUpPlaces,
  keepCopies,
  type MadeCopy,
  noteDamage,
  type Outlook,
  PLACES_STEP,
  type WantedDrop,
} from '../ops/chunk-repair.ts';
import { noteForgotten } from '../ops/orphan-chunks.ts';
import type { CopyAction, DropAction, Place } from '../placement/plan-repair.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import type { ByteRates } from './byte-rates.ts';
import {
  type ChunkResult,
  FETCH_CHUNKS_MAX,
  type NodeOrders,
  VERIFY_CHUNKS_MAX,
  type WantedChunk,
} from './node-orders.ts';
import { OrderLanes } from './order-lanes.ts';

/** Orders of one kind that a node has at once: while one syncs and one is asked for, the next is under way. */
const ORDERS_PER_NODE = 3;
const ORDERS_IN_ALL = 16;

export interface MoverParts {
  readonly engine: Engine;
  readonly orders: Pick<NodeOrders, 'fetchChunks' | 'verifyChunks' | 'forgetChunks'>;
  readonly signal: AbortSignal;
  outlook(): Outlook;
  readonly rates: ByteRates;
  /** Bytes at these places are wrong or missing; the rows say so now. */
  onDamaged(found: readonly { readonly chunk: ChunkId; readonly row: ChunkRow; readonly place: Place }[]): void;
  /** A whole copy lies there, and the row says so. */
  onCopied(node: NodeName, chunk: ChunkId): void;
  /** A row does not name this node any more. */
  onGivenUp(place: Place, chunk: ChunkId, row: ChunkRow): void;
}

/**
 * done: committed. changed: the world is not as it was when this was planned, so plan again. failed: not now; `of` is the
 * node that failed, undefined when it is not known which.
 */
export type MoveOutcome =
  | { readonly state: 'done' | 'changed' }
  | { readonly state: 'failed'; readonly error: CollectiveError; readonly of: NodeName | undefined };

export interface MoverFigures {
  /** Since the start. */
  readonly copiedChunks: number;
  readonly copiedBytes: number;
  readonly readBytes: number;
  readonly givenUp: number;
  readonly failures: number;
}

interface CopyTask {
  readonly bytes: number;
  readonly wanted: WantedChunk;
  readonly to: Place;
}

interface ReadTask {
  readonly bytes: number;
  readonly chunk: ChunkId;
}

interface DropTask extends WantedDrop {
  readonly bytes: number;
  readonly row: ChunkRow;
}

const DONE: MoveOutcome = { state: 'done' };
const CHANGED: MoveOutcome = { state: 'changed' };

export class ChunkMover {
  readonly #parts: MoverParts;
  readonly #copies: OrderLanes<CopyTask, MoveOutcome>;
  readonly #reads: OrderLanes<ReadTask, ChunkResult>;
  readonly #drops: OrderLanes<DropTask, MoveOutcome>;
  readonly #busy = new Set<ChunkId>();
  #figures: MoverFigures = { copiedChunks: 0, copiedBytes: 0, readBytes: 0, givenUp: 0, failures: 0 };

  constructor(parts: MoverParts) {
    this.#parts = parts;
    const { rates } = parts;
    const bytesPerOrderMax = (): number => rates.bytesPerOrderMax;
    const limits = { perNodeMax: ORDERS_PER_NODE, inAllMax: ORDERS_IN_ALL, bytesPerOrderMax };
    this.#copies = new OrderLanes({
      ...limits,
      tasksPerOrderMax: FETCH_CHUNKS_MAX,
      order: async (node, tasks) => {
        await rates.copying.take(sumOf(tasks), parts.signal);
        return await this.#fetch(node, tasks);
      },
    });
    this.#reads = new OrderLanes({
      ...limits,
      tasksPerOrderMax: VERIFY_CHUNKS_MAX,
      order: async (node, tasks) => {
        const bytes = sumOf(tasks);
        await rates.reading.take(bytes, parts.signal);
        const chunks = tasks.map(({ chunk }) => chunk);
        const read = await parts.orders.verifyChunks(node, chunks, parts.signal);
        this.#count({ readBytes: bytes });
        return chunks.map((chunk, i) => (read[i]?.chunk === chunk ? read[i] : unanswered(chunk)));
      },
    });
    this.#drops = new OrderLanes({
      ...limits,
      perNodeMax: 1,
      tasksPerOrderMax: PLACES_STEP,
      bytesPerOrderMax: () => Number.POSITIVE_INFINITY,
      order: (node, tasks) => this.#giveUp(node, tasks),
    });
  }

  get figures(): MoverFigures {
    return this.#figures;
  }

  /** One at a time may work on a chunk: who begins ends. */
  begin(chunk: ChunkId): boolean {
    if (this.#busy.has(chunk)) return false;
    this.#busy.add(chunk);
    return true;
  }

  isUnderWay(chunk: ChunkId): boolean {
    return this.#busy.has(chunk);
  }

  end(chunk: ChunkId): void {
    this.#busy.delete(chunk);
  }

  async copy(chunk: ChunkId, row: ChunkRow, { to, sources, replaces }: CopyAction): Promise<MoveOutcome> {
    const { length, digest, inode, block, storedLength } = row;
    const names = sources as readonly NodeName[];
    const wanted = { chunk, length, digest, inode, block, sources: names, replace: replaces };
    const outcome = await this.#guarded(to.node as NodeName, 'Copy chunks', () =>
      this.#copies.add(to.node as NodeName, { bytes: storedLength, wanted, to }),
    );
    if (outcome.state !== 'failed' || !isOfTheBytes(outcome.error.code)) return outcome;
    // One of the sources has not what its row says: which one, only they know.
    const places = row.replicas.filter(({ node }) => sources.includes(node));
    const read = await Promise.all(places.map((place) => this.#reread(chunk, row, place)));
    return read.some(({ state }) => state === 'changed') ? CHANGED : outcome;
  }

  async drop(chunk: ChunkId, row: ChunkRow, drop: DropAction): Promise<MoveOutcome> {
    const read = await Promise.all(drop.reread.map((place) => this.#reread(chunk, row, place)));
    const bad = read.find(({ state }) => state === 'changed') ?? read.find(({ state }) => state === 'failed');
    if (bad !== undefined) return bad;
    const node = drop.place.node as NodeName;
    return await this.#guarded(node, 'Give up places', () =>
      this.#drops.add(node, { chunk, drop, row, bytes: row.storedLength }),
    );
  }

  /** done: it is whole there. changed: it is not, and its row says so now. */
  async #reread(chunk: ChunkId, row: ChunkRow, { node, disk }: Place): Promise<MoveOutcome> {
    const name = node as NodeName;
    let result: ChunkResult | undefined;
    const outcome = await this.#guarded(name, 'Read chunks again', async () => {
      result = await this.#reads.add(name, { chunk, bytes: row.storedLength });
      return DONE;
    });
    if (result === undefined) return outcome;
    if (result.failure === undefined) {
      if (result.replica.disk !== disk) return CHANGED;
      if (Buffer.compare(result.digest, row.digest) === 0) return DONE;
    } else if (!isOfTheBytes(result.failure.code)) return this.#failed(failureOf(result.failure, name), name);
    const { engine, signal, onDamaged } = this.#parts;
    const place = { node, disk };
    const { marked } = await engine.run((tx) => noteDamage(tx, [{ chunk, place }]), { durability: 'written', signal });
    onDamaged(marked.map((each) => ({ ...each, place })));
    return CHANGED;
  }

  async #fetch(node: NodeName, tasks: readonly CopyTask[]): Promise<MoveOutcome[]> {
    const { engine, orders, signal, onCopied } = this.#parts;
    const results = await orders.fetchChunks(
      node,
      tasks.map(({ wanted }) => wanted),
      signal,
    );
    const made = new Map<ChunkId, MadeCopy>();
    for (const [i, { wanted, to }] of tasks.entries()) {
      const { chunk, digest } = wanted;
      const result = results[i];
      if (result?.chunk !== chunk || result.failure !== undefined || result.replica.disk !== to.disk) continue;
      if (Buffer.compare(result.digest, digest) === 0) made.set(chunk, { chunk, place: result.replica });
    }
    const copies = [...made.values()];
    const kept = await engine.run((tx) => keepCopies(tx, copies), { durability: 'written', signal });
    const isKept = new Map(copies.map(({ chunk }, i) => [chunk, kept[i] === true]));
    let bytes = 0;
    const outcomes = tasks.map((task, i): MoveOutcome => {
      const { chunk } = task.wanted;
      if (isKept.get(chunk)) {
        bytes += task.bytes;
        onCopied(node, chunk);
        return DONE;
      }
      const failure = results[i]?.failure;
      // Made for nothing: the chunk is gone, or the node is just forgetting another copy of it.
      if (failure === undefined) return isKept.has(chunk) ? this.#failed(refused(chunk, node), undefined) : CHANGED;
      return this.#failed(failureOf(failure, node), isOfTheTarget(failure.code) ? node : undefined);
    });
    this.#count({ copiedChunks: kept.filter((each) => each).length, copiedBytes: bytes });
    return outcomes;
  }

  async #giveUp(node: NodeName, tasks: readonly DropTask[]): Promise<MoveOutcome[]> {
    const { engine, orders, signal, outlook, onGivenUp } = this.#parts;
    // Stable before the node hears of it.
    const gone = await engine.run((tx) => giveUpPlaces(tx, tasks, outlook()), { durability: 'stable', signal });
    const going = tasks.filter(({ drop }, i) => gone[i] && drop.forgets);
    for (const [i, { chunk, drop, row }] of tasks.entries()) if (gone[i]) onGivenUp(drop.place, chunk, row);
    this.#count({ givenUp: gone.filter((each) => each).length });
    const byDisk = Map.groupBy(going, ({ drop }) => drop.place.disk);
    for (const [disk, leaving] of byDisk) {
      const chunks = leaving.map(({ chunk }) => chunk);
      try {
        await orders.forgetChunks(node, chunks, signal);
        await engine.run((tx) => noteForgotten(tx, { node, disk }, chunks), { durability: 'written', signal });
      } catch (error) {
        signal.throwIfAborted();
        // It is noted that they leave: the node is told again by whoever looks after orphans.
        if (!(error instanceof CollectiveError)) throw error;
      }
    }
    return gone.map((each) => (each ? DONE : CHANGED));
  }

  /** What a node or its link did wrong is an outcome; a defect or the end of the job is thrown. */
  async #guarded(node: NodeName, what: string, act: () => Promise<MoveOutcome>): Promise<MoveOutcome> {
    try {
      return await act();
    } catch (thrown) {
      this.#parts.signal.throwIfAborted();
      if (!(thrown instanceof CollectiveError)) throw thrown;
      return this.#failed(toCollectiveError(thrown, `${what} on node ${node}`), node);
    }
  }

  #failed(error: CollectiveError, of: NodeName | undefined): MoveOutcome {
    this.#count({ failures: 1 });
    return { state: 'failed', error, of };
  }

  #count(more: Partial<MoverFigures>): void {
    const before = this.#figures;
    this.#figures = {
      copiedChunks: before.copiedChunks + (more.copiedChunks ?? 0),
      copiedBytes: before.copiedBytes + (more.copiedBytes ?? 0),
      readBytes: before.readBytes + (more.readBytes ?? 0),
      givenUp: before.givenUp + (more.givenUp ?? 0),
      failures: before.failures + (more.failures ?? 0),
    };
  }
}

function sumOf(tasks: readonly { readonly bytes: number }[]): number {
  return tasks.reduce((sum, { bytes }) => sum + bytes, 0);
}

function isOfTheBytes(code: string): boolean {
  return code === 'chunk_missing' || code === 'chunk_corrupt' || code === 'chunk_conflict';
}

function isOfTheTarget(code: string): boolean {
  return code === 'no_space' || code === 'disk_failed' || code === 'shutting_down' || code === 'overloaded';
}

function failureOf({ code, message }: { code: string; message: string }, node: NodeName): CollectiveError {
  return fromFailure({ code, message, details: { node } });
}

function refused(chunk: ChunkId, node: NodeName): CollectiveError {
  return new CollectiveError(
    'busy',
    `Keep the copy of chunk ${chunk} on node ${node}: it is just forgetting another one`,
  );
}

function unanswered(chunk: ChunkId): ChunkResult {
  return { chunk, failure: { code: 'unavailable', message: 'it gave no answer about this chunk' } };
}
