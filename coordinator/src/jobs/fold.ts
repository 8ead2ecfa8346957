/**
 * Folds blocks that were written in very many pieces into few (D8). A block that nobody has written to for a while is folded
 * from FOLD_SLICES_MIN slices on; one that is written to all the time only when it has many more, since each fold copies what
 * the block shows. Candidates are noted as their rows are written; a survey of all blocks at the start and once a day finds
 * those that were missed. A writer that hears that a block has no room pokes this job and folds it itself meanwhile.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId, InodeNumber, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { type BlockName, type FoldOrder, type NewChunk, prepareFold, swapFolded } from '../ops/fold-block.ts';
import { FOLD_SLICES_MIN, type FoldingNode, placeFold } from '../placement/plan-fold.ts';
import type { BlockRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { BLOCKS, INODES } from '../tables/tables.ts';
import type { ByteRates } from './byte-rates.ts';
import type { Round } from './keeper.ts';
import type { ChunkResult, NodeOrders } from './node-orders.ts';

export interface FoldParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly orders: Pick<NodeOrders, 'foldBlock' | 'fetchChunks'>;
  /** Nodes that take new chunks. */
  candidates(): readonly FoldingNode[];
  drawChunkId(): ChunkId;
  readonly rates: Pick<ByteRates, 'copying'>;
  /** The block map of the inode is another one: what sessions cache of it is called back (M7). */
  recallData(inode: InodeNumber): Promise<void>;
}

/** Blocks that are noted at once; others wait for the survey. */
export const FOLD_CANDIDATES_MAX = 10_000;
/** Folded also while it is written to. */
export const FOLD_HOT_SLICES = 256;
/** Not written to for so long: it may be over. */
export const FOLD_QUIET_MS = 30_000;
const SURVEY_EVERY_MS = 24 * 3_600_000;
const SURVEY_PAGE = 500;
/** Between pages, so that a survey of millions of blocks is felt by nobody. */
const SURVEY_PAUSE_MS = 5;
const RETRY_MIN_MS = 5_000;
const RETRY_MAX_MS = 3_600_000;

interface Candidate extends BlockName {
  slices: number;
  writtenMs: number;
  /** A try failed: not before this. */
  notBeforeMs: number;
  pauseMs: number;
}

export interface FoldFigures {
  /** Noted now. */
  readonly candidates: number;
  /** Since the start. */
  readonly folded: number;
  /** Slices that these replaced. */
  readonly slices: number;
}

export class FoldJob {
  readonly #parts: FoldParts;
  readonly #candidates = new Map<string, Candidate>();
  #surveyedMs: number | undefined;
  #folded = 0;
  #slices = 0;

  constructor(parts: FoldParts) {
    this.#parts = parts;
  }

  get figures(): FoldFigures {
    return { candidates: this.#candidates.size, folded: this.#folded, slices: this.#slices };
  }

  /** The row of a block was written. Answers whether it should be folded at once. */
  noted(key: string, { slices }: BlockRow): boolean {
    const known = this.#candidates.get(key);
    if (slices.length < FOLD_SLICES_MIN) {
      if (known !== undefined) this.#candidates.delete(key);
      return false;
    }
    const writtenMs = this.#parts.clock.bootMs();
    const wasHot = known !== undefined && known.slices >= FOLD_HOT_SLICES;
    if (known !== undefined) {
      known.slices = slices.length;
      known.writtenMs = writtenMs;
    } else if (this.#candidates.size < FOLD_CANDIDATES_MAX) {
      this.#candidates.set(key, {
        ...blockName(key),
        slices: slices.length,
        writtenMs,
        notBeforeMs: 0,
        pauseMs: RETRY_MIN_MS,
      });
    }
    return slices.length >= FOLD_HOT_SLICES && !wasHot;
  }

  /** A commit was refused because the block has no room for another slice. */
  async crowded(inode: InodeNumber, block: number): Promise<void> {
    await this.#parts.engine.run((tx) => {
      const data = tx.get(INODES, inode)?.data;
      const row = data === undefined ? undefined : tx.get(BLOCKS, data, block);
      if (data !== undefined && row !== undefined) this.noted(BLOCKS.key(data, block), row);
    });
  }

  async work({ signal, progress }: Round): Promise<void> {
    const { clock } = this.#parts;
    if (this.#surveyedMs === undefined || clock.bootMs() - this.#surveyedMs >= SURVEY_EVERY_MS)
      await this.#survey(signal);
    const due = [...this.#candidates].filter(([, candidate]) => this.#isDue(candidate));
    for (const [i, [key, candidate]] of due.entries()) {
      signal.throwIfAborted();
      progress(i, due.length, 'chunks');
      if (!this.#isDue(candidate)) continue;
      try {
        const order = await this.#parts.engine.run((tx) => prepareFold(tx, candidate), { signal });
        if (order === 'never') this.#candidates.delete(key);
        else if (order !== 'later' && (await this.#fold(order, signal))) continue;
      } catch (error) {
        signal.throwIfAborted();
        // A node is away or full, a piece cannot be read: others first.
        if (!(error instanceof CollectiveError)) throw error;
      }
      this.#later(key, candidate);
    }
    progress(due.length, due.length, 'chunks');
  }

  #isDue({ slices, writtenMs, notBeforeMs }: Candidate): boolean {
    const nowMs = this.#parts.clock.bootMs();
    return nowMs >= notBeforeMs && (slices >= FOLD_HOT_SLICES || nowMs - writtenMs >= FOLD_QUIET_MS);
  }

  #later(key: string, candidate: Candidate): void {
    if (!this.#candidates.has(key)) return;
    candidate.notBeforeMs = this.#parts.clock.bootMs() + candidate.pauseMs;
    candidate.pauseMs = Math.min(RETRY_MAX_MS, candidate.pauseMs * 2);
  }

  /** False: it could not be done now. */
  async #fold(order: FoldOrder, signal: AbortSignal): Promise<boolean> {
    const { engine, rates, recallData } = this.#parts;
    let made: NewChunk | undefined;
    if (order.plan.length > 0) {
      await rates.copying.take(order.plan.length * order.rule.wanted, signal);
      made = await this.#make(order, signal);
      if (made === undefined) return false;
    }
    const swapped = await engine.run((tx) => swapFolded(tx, order, made), { signal });
    if (!swapped) return false;
    this.#folded += 1;
    this.#slices += order.plan.replaced;
    await recallData(order.inode);
    return true;
  }

  /** Undefined: there are not enough nodes for it. */
  async #make(order: FoldOrder, signal: AbortSignal): Promise<NewChunk | undefined> {
    const { orders, candidates, drawChunkId } = this.#parts;
    const { plan, inode, block, compress, rule } = order;
    const placesOf = (chunk: ChunkId): string[] => (order.places.get(chunk) ?? []).map(({ node }) => node);
    const nodes = placeFold(plan, candidates(), placesOf, rule.wanted);
    const [first, ...others] = (nodes ?? []) as NodeName[];
    if (first === undefined) return undefined;
    const chunk = drawChunkId();
    const pieces = plan.pieces.map((piece) => ({
      ...piece,
      sources: piece.chunk === undefined ? [] : (placesOf(piece.chunk) as NodeName[]).filter((node) => node !== first),
    }));
    const folded = replicaIn(await orders.foldBlock(first, { chunk, inode, block, compress, pieces }, signal));
    const { digest } = folded;
    const wanted = { chunk, length: plan.length, digest, inode, block, sources: [first], replace: false };
    const copies = await Promise.all(
      others.map(async (node) => {
        const [copy] = await orders.fetchChunks(node, [wanted], signal);
        if (copy === undefined)
          throw new CollectiveError('unavailable', `Fetch chunk ${chunk} on node ${node}: no outcome`);
        return replicaIn(copy).replica;
      }),
    );
    return {
      chunk,
      storedLength: folded.storedLength,
      digest: Buffer.from(digest),
      replicas: [folded.replica, ...copies],
    };
  }

  async #survey(signal: AbortSignal): Promise<void> {
    const { engine, clock } = this.#parts;
    let from = BLOCKS.prefix;
    for (;;) {
      const start = from;
      const page = await engine.run((tx) => tx.scan(BLOCKS, start, prefixEnd(BLOCKS.prefix), SURVEY_PAGE), { signal });
      for (const { key, value } of page) if (!this.#candidates.has(key)) this.noted(key, value);
      if (page.length < SURVEY_PAGE) break;
      from = `${page.at(-1)?.key}\0`;
      await sleep(clock, SURVEY_PAUSE_MS, signal);
    }
    this.#surveyedMs = clock.bootMs();
  }
}

function blockName(key: string): BlockName {
  const at = BLOCKS.prefix.length;
  return { data: readBigEndian(key, at, 6), block: readBigEndian(key, at + 6, 4) };
}

function replicaIn(result: ChunkResult): Exclude<ChunkResult, { readonly failure: object }> {
  if (result.failure === undefined) return result;
  throw new CollectiveError('unavailable', `Make chunk ${result.chunk} by a fold: ${result.failure.message}`);
}
