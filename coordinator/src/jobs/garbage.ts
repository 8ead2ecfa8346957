/**
 * Gives back the room of chunks that nothing names any more (D2, D8): walks over all garbage, and what is older than the
 * grace time is condemned in a stable commit, forgotten by its nodes, and then by the coordinator (`ops/garbage.ts`). A node
 * that cannot be reached is told in a later round; what lies on a disk that the member has lost is nobody's to forget.
 *
 * The table is in the order of ids, not of age, so a walk reads all of it: a million rows take some seconds, in pages between
 * which others run. It is left out while nothing can be due. In memory is one page.
 */
import type { Clock, Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import {
  CONDEMN_MAX,
  type CondemnedChunk,
  condemn,
  dropRefusals,
  GARBAGE_PAGE,
  type GarbageChunk,
  garbagePage,
  placeKey,
  takeAway,
} from '../ops/garbage.ts';
import { isDue } from '../ops/grace.ts';
import { OwnedChunkIds } from '../ops/owned-chunk-ids.ts';
import type { GarbageRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { GARBAGE } from '../tables/tables.ts';
import type { Round } from './keeper.ts';
import { FORGET_CHUNKS_MAX, type NodeOrders } from './node-orders.ts';

export interface GarbageParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly orders: Pick<NodeOrders, 'forgetChunks'>;
  /** The disk that the node has now; undefined for a node that the member does not have. */
  diskOf(node: NodeName): string | undefined;
  settings(): { readonly garbageGraceSeconds: number; readonly garbageWaits: boolean };
  /** Blocks of removed files become garbage first, when somebody asks for all room now. */
  releaseBlocks(round: Round): Promise<void>;
  /** Resolves when no change that was lost with the power can be made again (M4). */
  replaysOver(signal: AbortSignal): Promise<void>;
  /** The coordinator itself may be about to commit the chunk. */
  ownsChunk(chunk: ChunkId): boolean;
  /** Requests up to this one are done: who made them wants the room back as well. */
  onCollected(upTo: number): void;
}

export interface GarbageFigures {
  /** When the last whole walk ended. */
  readonly walkedAt: Timestamp | undefined;
  /** Kept for the grace time, or for a node that is away: as it was then, and what became garbage since. */
  readonly chunks: number;
  /** On all nodes together. */
  readonly storedBytes: number;
  /** Condemned, and not forgotten by all their nodes yet. */
  readonly condemned: number;
  /** Nodes that could not be told, and why. */
  readonly waitsFor: ReadonlyMap<NodeName, string>;
  /** Since the start. */
  readonly collectedChunks: number;
  readonly collectedBytes: number;
  /** Times that somebody asked for a collection, and how many of these are done. */
  readonly asked: number;
  readonly finished: number;
}

interface Counted {
  readonly chunks: number;
  readonly storedBytes: number;
}

/** More count twice until the next walk. */
const AHEAD_MAX = 10_000;
const NONE: Counted = { chunks: 0, storedBytes: 0 };

function sumOf(...counted: readonly Counted[]): Counted {
  return counted.reduce((sum, { chunks, storedBytes }) => ({
    chunks: sum.chunks + chunks,
    storedBytes: sum.storedBytes + storedBytes,
  }));
}

interface Asked {
  readonly graceSeconds: number;
}

export class GarbageCollector {
  readonly #parts: GarbageParts;
  #asked: Asked[] = [];
  /** Wall seconds since when the oldest is garbage that the last walk has left to its grace; undefined: look. */
  #oldest: number | undefined;
  /** What became garbage since the last walk passed its place. */
  #fresh = NONE;
  /** Rows that were written above the place of the walk under way: it counts them if it finds them. Their bytes, by key. */
  readonly #ahead = new Map<string, number>();
  /** Of the walk under way: what is above is still to be counted. */
  #walkedThrough: string | undefined;
  #figures: GarbageFigures = {
    walkedAt: undefined,
    chunks: 0,
    storedBytes: 0,
    condemned: 0,
    waitsFor: new Map(),
    collectedChunks: 0,
    collectedBytes: 0,
    asked: 0,
    finished: 0,
  };

  constructor(parts: GarbageParts) {
    this.#parts = parts;
  }

  get figures(): GarbageFigures {
    const ahead = [...this.#ahead.values()].map((storedBytes) => ({ chunks: 1, storedBytes }));
    return { ...this.#figures, ...sumOf(this.#figures, this.#fresh, ...ahead) };
  }

  /** A row of garbage was written. In the turn of its commit: only counted. */
  noted(key: string, { condemned, gone, storedBytes }: GarbageRow): void {
    if (condemned || gone) return;
    const isAhead = this.#walkedThrough !== undefined && key > this.#walkedThrough && this.#ahead.size < AHEAD_MAX;
    if (isAhead) this.#ahead.set(key, storedBytes);
    else this.#fresh = sumOf(this.#fresh, { chunks: 1, storedBytes });
  }

  /** All that is older than this goes in the next round. Answers the number of the request. */
  ask(graceSeconds: number): number {
    if (this.#parts.settings().garbageWaits)
      throw new CollectiveError(
        'not_permitted',
        'Collect garbage: it is off until a person confirms, because this coordinator was restored from a backup',
      );
    this.#asked.push({ graceSeconds });
    this.#figures = { ...this.#figures, asked: this.#figures.asked + 1 };
    return this.#figures.asked;
  }

  async work(round: Round): Promise<void> {
    const { settings, clock, releaseBlocks, replaysOver } = this.#parts;
    const { garbageGraceSeconds, garbageWaits } = settings();
    const nothingDue = this.#oldest !== undefined && this.#oldest + garbageGraceSeconds > clock.now().seconds;
    if (this.#asked.length === 0 && nothingDue) return;
    await replaysOver(round.signal);
    if (garbageWaits) {
      // Nothing goes, but it is known how much waits.
      await this.#walk(Number.POSITIVE_INFINITY, round);
      return;
    }
    const asked = this.#asked;
    this.#asked = [];
    try {
      if (asked.length > 0) await releaseBlocks(round);
      const graceSeconds = Math.min(garbageGraceSeconds, ...asked.map((each) => each.graceSeconds));
      await this.#walk(graceSeconds, round);
    } catch (error) {
      this.#asked.unshift(...asked);
      throw error;
    }
    if (asked.length === 0) return;
    const finished = this.#figures.finished + asked.length;
    this.#figures = { ...this.#figures, finished };
    this.#parts.onCollected(finished);
  }

  async #walk(graceSeconds: number, round: Round): Promise<void> {
    try {
      await this.#walkAll(graceSeconds, round);
    } finally {
      this.#walkedThrough = undefined;
      // Of one that failed.
      this.#passed(prefixEnd(GARBAGE.prefix), []);
    }
  }

  /** With a grace without end nothing is changed, only counted. */
  async #walkAll(graceSeconds: number, { signal, progress }: Round): Promise<void> {
    const { engine, clock } = this.#parts;
    const began = clock.now().seconds;
    const collects = Number.isFinite(graceSeconds);
    const owned = await engine.run((tx) => OwnedChunkIds.read(tx), { signal });
    const mayBeCommitted = (chunk: ChunkId): boolean => owned.has(chunk) || this.#parts.ownsChunk(chunk);
    const walk = new Walk(this.#parts, signal);
    let oldest = began;
    let chunks = 0;
    let storedBytes = 0;
    let seen = 0;
    let after: ChunkId | undefined;
    // Until it has ended the figures say what was known before.
    this.#figures = this.figures;
    this.#fresh = NONE;
    this.#walkedThrough = GARBAGE.prefix;
    for (;;) {
      const from = after;
      const page = await engine.run((tx) => garbagePage(tx, from, GARBAGE_PAGE), { signal });
      const last = page.length < GARBAGE_PAGE ? undefined : page.at(-1)?.chunk;
      this.#passed(last === undefined ? prefixEnd(GARBAGE.prefix) : GARBAGE.key(last), page);
      const now = clock.now();
      const due: ChunkId[] = [];
      const gone: ChunkId[] = [];
      for (const garbage of page) {
        if (garbage.gone) {
          if (collects && !mayBeCommitted(garbage.chunk)) gone.push(garbage.chunk);
        } else if (collects && (garbage.condemned || isDue(garbage.since, now, graceSeconds))) due.push(garbage.chunk);
        else {
          chunks += 1;
          storedBytes += garbage.storedBytes;
          oldest = Math.min(oldest, garbage.since?.seconds ?? 0);
        }
      }
      if (gone.length > 0) await engine.run((tx) => dropRefusals(tx, gone), { durability: 'written', signal });
      await walk.collect(due, graceSeconds);
      seen += page.length;
      progress(seen, undefined, 'chunks');
      this.#count(walk);
      after = page.at(-1)?.chunk;
      if (page.length < GARBAGE_PAGE) break;
    }
    // What became garbage since is younger than what was seen.
    this.#oldest = walk.left > 0 || !collects ? undefined : oldest;
    this.#figures = {
      ...this.#figures,
      walkedAt: clock.now(),
      chunks: chunks + walk.left,
      storedBytes,
      condemned: walk.left,
      waitsFor: walk.silent,
    };
  }

  /** The walk has read all rows up to this key. What was written above its place meanwhile it has found among them, or missed. */
  #passed(to: string, page: readonly GarbageChunk[]): void {
    const found = new Set(page.map(({ chunk }) => GARBAGE.key(chunk)));
    if (this.#walkedThrough !== undefined) this.#walkedThrough = to;
    for (const [key, storedBytes] of this.#ahead) {
      if (key > to) continue;
      this.#ahead.delete(key);
      if (!found.has(key)) this.#fresh = sumOf(this.#fresh, { chunks: 1, storedBytes });
    }
  }

  #count(walk: Walk): void {
    const { chunks, storedBytes } = walk.drain();
    const { collectedChunks, collectedBytes } = this.#figures;
    this.#figures = {
      ...this.#figures,
      collectedChunks: collectedChunks + chunks,
      collectedBytes: collectedBytes + storedBytes,
    };
  }
}

/** One walk: whom it could not reach, and what it took away. */
class Walk {
  readonly silent = new Map<NodeName, string>();
  left = 0;
  readonly #parts: GarbageParts;
  readonly #signal: AbortSignal;
  #taken = { chunks: 0, storedBytes: 0 };

  constructor(parts: GarbageParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
  }

  /** What was taken away since the last call. */
  drain(): { readonly chunks: number; readonly storedBytes: number } {
    const taken = this.#taken;
    this.#taken = { chunks: 0, storedBytes: 0 };
    return taken;
  }

  async collect(due: readonly ChunkId[], graceSeconds: number): Promise<void> {
    const { engine } = this.#parts;
    const signal = this.#signal;
    const condemned: CondemnedChunk[] = [];
    for (const ids of inPieces(due, CONDEMN_MAX))
      condemned.push(...(await engine.run((tx) => condemn(tx, ids, graceSeconds), { signal })));
    const gone = await this.#forget(condemned);
    for (const chunks of inPieces(condemned, CONDEMN_MAX)) {
      const judged = chunks.map(({ chunk, places }) => ({
        chunk,
        goneFrom: new Set(places.map(placeKey).filter((place) => gone.has(place))),
      }));
      const taken = await engine.run((tx) => takeAway(tx, judged), { durability: 'written', signal });
      this.left += chunks.length - taken.chunks;
      this.#taken = {
        chunks: this.#taken.chunks + taken.chunks,
        storedBytes: this.#taken.storedBytes + taken.storedBytes,
      };
    }
  }

  /** Tells each node of its own; answers the places where none of these lies any more. */
  async #forget(condemned: readonly CondemnedChunk[]): Promise<ReadonlySet<string>> {
    const gone = new Set<string>();
    const byPlace = new Map<string, { node: NodeName; disk: string; chunks: ChunkId[] }>();
    for (const { chunk, places } of condemned)
      for (const place of places) {
        const known = byPlace.get(placeKey(place));
        if (known !== undefined) known.chunks.push(chunk);
        else byPlace.set(placeKey(place), { node: place.node as NodeName, disk: place.disk, chunks: [chunk] });
      }
    await Promise.all(
      [...byPlace].map(async ([key, { node, disk, chunks }]) => {
        // A removed node or a lost disk: should it come back, its inventory shows what it has too much.
        if (this.#parts.diskOf(node) !== disk || (await this.#tell(node, chunks))) gone.add(key);
      }),
    );
    return gone;
  }

  async #tell(node: NodeName, chunks: readonly ChunkId[]): Promise<boolean> {
    if (this.silent.has(node)) return false;
    try {
      for (const ids of inPieces(chunks, FORGET_CHUNKS_MAX))
        await this.#parts.orders.forgetChunks(node, ids, this.#signal);
      return true;
    } catch (error) {
      this.#signal.throwIfAborted();
      if (!(error instanceof CollectiveError)) throw error;
      this.silent.set(node, error.message);
      return false;
    }
  }
}

/** Those of garbage that a collection with this grace would take, from `after` on; at most a page is looked at. */
export async function dueGarbage(
  engine: Engine,
  graceSeconds: number,
  after: ChunkId | undefined,
): Promise<{ readonly due: GarbageChunk[]; readonly next: ChunkId | undefined }> {
  return engine.run((tx) => {
    const page = garbagePage(tx, after, GARBAGE_PAGE);
    const due = page.filter(({ gone, condemned, since }) => !gone && (condemned || isDue(since, tx.now, graceSeconds)));
    return { due, next: page.length < GARBAGE_PAGE ? undefined : page.at(-1)?.chunk };
  });
}

function* inPieces<T>(all: readonly T[], size: number): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += size) yield all.slice(at, at + size);
}
