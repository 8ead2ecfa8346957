/**
 * Gives back the room of chunks on nodes that no row says to lie there, once their grace time is over (`ops/orphan-chunks.ts`
 * says why nothing that is needed goes). A copy too many goes only after the other replicas of its chunk were read again, and
 * are whole (D8).
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import type { Place } from '../ops/garbage.ts';
import { placeKey } from '../ops/garbage.ts';
import { isDue, ORPHAN_GRACE_MIN_SECONDS } from '../ops/grace.ts';
import {
  condemnOrphans,
  dropNotes,
  isOrphanDue,
  markLeaving,
  noteForgotten,
  ORPHAN_PAGE,
  type OrphanChunk,
  orphanPage,
} from '../ops/orphan-chunks.ts';
import type { NamedChunk } from '../placement/plan-inventory.ts';
import { type ByteRates, inOrders } from './byte-rates.ts';
import type { Round } from './keeper.ts';
import { type NodeOrders, VERIFY_CHUNKS_MAX } from './node-orders.ts';

/** A fetch that was ordered before the copy left has long been answered, or given up. */
const LEAVING_KEPT_SECONDS = 600;

export interface OrphanParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly orders: Pick<NodeOrders, 'forgetChunks' | 'verifyChunks'>;
  /** The disk that the node has now; undefined for a node that the member does not have. */
  diskOf(node: NodeName): string | undefined;
  settings(): { readonly garbageGraceSeconds: number; readonly garbageWaits: boolean };
  readonly rates: Pick<ByteRates, 'reading' | 'bytesPerOrderMax'>;
  /** Resolves when no change that was lost with the power can be made again (M4). */
  replaysOver(signal: AbortSignal): Promise<void>;
  /** Nodes may take chunks again that they had given up. */
  onMayTakeAgain(): void;
  /** Instead of ORPHAN_GRACE_MIN_SECONDS, for the simulation. */
  readonly graceMinSeconds?: number | undefined;
}

export interface OrphanFigures {
  /** Noted now. */
  readonly chunks: number;
  /** Since the start. */
  readonly forgotten: number;
}

export class OrphanJob {
  readonly #parts: OrphanParts;
  #figures: OrphanFigures = { chunks: 0, forgotten: 0 };

  constructor(parts: OrphanParts) {
    this.#parts = parts;
  }

  get figures(): OrphanFigures {
    return this.#figures;
  }

  async work({ signal, progress }: Round): Promise<void> {
    const { engine, clock, settings, replaysOver, graceMinSeconds = ORPHAN_GRACE_MIN_SECONDS } = this.#parts;
    const { garbageGraceSeconds, garbageWaits } = settings();
    if (garbageWaits) return;
    await replaysOver(signal);
    const graceSeconds = Math.max(garbageGraceSeconds, graceMinSeconds);
    let kept = 0;
    let seen = 0;
    let ended = 0;
    let after: string | undefined;
    for (;;) {
      const from = after;
      const page = await engine.run((tx) => orphanPage(tx, from, ORPHAN_PAGE), { signal });
      const now = clock.now();
      const over: OrphanChunk[] = [];
      const due = new Map<string, OrphanChunk[]>();
      for (const note of page) {
        const isHere = this.#parts.diskOf(note.node as NodeName) === note.disk;
        const isOver = note.forgotten !== undefined && isDue(note.forgotten, now, LEAVING_KEPT_SECONDS);
        if (!isHere || isOver) over.push(note);
        else if (isOrphanDue(note, now, graceSeconds))
          due.set(placeKey(note), [...(due.get(placeKey(note)) ?? []), note]);
        else if (!note.leaving) kept += 1;
      }
      if (over.length > 0) await engine.run((tx) => dropNotes(tx, over), { durability: 'written', signal });
      ended += over.length;
      for (const notes of due.values()) kept += notes.length - (await this.#letGo(notes, signal));
      seen += page.length;
      progress(seen, undefined, 'chunks');
      after = page.at(-1)?.key;
      if (page.length < ORPHAN_PAGE) break;
    }
    this.#figures = { ...this.#figures, chunks: kept };
    if (ended > 0) this.#parts.onMayTakeAgain();
  }

  /** Of one disk. Answers how many are gone. */
  async #letGo(notes: readonly OrphanChunk[], signal: AbortSignal): Promise<number> {
    const { engine, orders } = this.#parts;
    const place = notes[0];
    if (place === undefined) return 0;
    const chunks = notes.map(({ chunk }) => chunk);
    const { condemned, tooMany } = await engine.run((tx) => condemnOrphans(tx, place, chunks), { signal });
    const spare = await this.#whoseOthersAreWhole(place, tooMany, signal);
    const leaving = await engine.run((tx) => markLeaving(tx, place, spare), { signal });
    const going = [...condemned, ...leaving];
    if (going.length === 0) return 0;
    try {
      await orders.forgetChunks(place.node as NodeName, going, signal);
    } catch (error) {
      signal.throwIfAborted();
      // In a later round: they are marked.
      if (error instanceof CollectiveError) return 0;
      throw error;
    }
    await engine.run((tx) => noteForgotten(tx, place, going), { durability: 'written', signal });
    this.#figures = { ...this.#figures, forgotten: this.#figures.forgotten + going.length };
    return going.length;
  }

  async #whoseOthersAreWhole(place: Place, tooMany: readonly NamedChunk[], signal: AbortSignal): Promise<NamedChunk[]> {
    const whole = new Map<ChunkId, number>();
    const byNode = new Map<NodeName, NamedChunk[]>();
    for (const named of tooMany)
      for (const { node, damaged } of named.row.replicas)
        if (!damaged && node !== place.node)
          byNode.set(node as NodeName, [...(byNode.get(node as NodeName) ?? []), named]);
    const tasksMax = VERIFY_CHUNKS_MAX;
    const bytesMax = this.#parts.rates.bytesPerOrderMax;
    const bytesOf = ({ row }: NamedChunk): number => row.storedLength;
    for (const [node, chunks] of byNode)
      for (const some of inOrders(chunks, { tasksMax, bytesMax, bytesOf }))
        for (const chunk of await this.#readWhole(node, some, signal)) whole.set(chunk, (whole.get(chunk) ?? 0) + 1);
    return tooMany.filter(({ chunk, row }) => (whole.get(chunk) ?? 0) >= row.wanted);
  }

  /** Those that the node has, whole and as their rows say. */
  async #readWhole(node: NodeName, chunks: readonly NamedChunk[], signal: AbortSignal): Promise<ChunkId[]> {
    const { orders, rates } = this.#parts;
    await rates.reading.take(
      chunks.reduce((sum, { row }) => sum + row.storedLength, 0),
      signal,
    );
    try {
      const ids = chunks.map(({ chunk }) => chunk);
      const read = await orders.verifyChunks(node, ids, signal);
      return read.flatMap((result) => {
        const row = chunks.find(({ chunk }) => chunk === result.chunk)?.row;
        const disk = row?.replicas.find((each) => each.node === node)?.disk;
        const isWhole =
          result.failure === undefined &&
          row !== undefined &&
          result.replica.disk === disk &&
          Buffer.compare(row.digest, result.digest) === 0;
        return isWhole ? [result.chunk] : [];
      });
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CollectiveError) return [];
      throw error;
    }
  }
}
