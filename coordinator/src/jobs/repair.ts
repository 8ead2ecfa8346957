/**
 * Works off what is noted for repair, most endangered first (D8): plans each chunk anew, has its copies made and its places
 * given up, and takes the note away when nothing is left to do. What cannot be done now stays noted and is looked at again
 * when the world has changed.
 *
 * A node that failed is left alone for a while, and so is a chunk of which it was not the target that failed: nothing is tried in a
 * loop. Nothing here needs to survive a restart: the notes do.
 */
import type { Clock } from '@collective/base/clock';
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import {
  isFine,
  type JudgedChunk,
  judgeChunks,
  type Outlook,
  REPAIR_PAGE,
  repairStep,
  weighNotes,
} from '../ops/chunk-repair.ts';
import { BLOCKED_REASONS, type BlockedReason, type RepairAction } from '../placement/plan-repair.ts';
import type { RepairRow } from '../tables/gen/tables.ts';
import { Backoffs } from './backoffs.ts';
import type { ChunkMover, MoveOutcome } from './chunk-mover.ts';
import type { Round } from './keeper.ts';
import { RepairWalk } from './repair-walk.ts';

export interface RepairParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly mover: Pick<ChunkMover, 'begin' | 'end' | 'copy' | 'drop' | 'figures'>;
  /** Nodes that failed a moment ago are no targets in it. */
  outlook(): Outlook;
  onNodeFailed(node: NodeName): void;
  /** D9: after a restore nothing is removed anywhere until a person confirms. */
  mayRemove(): boolean;
}

/** Why a chunk is left as it is for now. */
export const LEFT_REASONS = {
  ...BLOCKED_REASONS,
  unconfirmed: 'nothing is removed until a person confirms the restore: collective maintenance set garbage-waits=false',
  failed: 'it failed a moment ago and is tried again',
} as const;

export type LeftReason = BlockedReason | 'unconfirmed' | 'failed';
export type LeftCounts = ReadonlyMap<LeftReason, number>;

export interface RepairFigures {
  /** Chunks that are noted, and bytes that are to be copied for them; exact after each look at all. */
  readonly leftChunks: number;
  readonly leftBytes: number;
  /** Why chunks were left as they are, by the last look at all; where there is none, by the one under way so far. */
  readonly left: LeftCounts;
  /** The same for those that lie on a draining node. */
  readonly leftOn: ReadonlyMap<NodeName, LeftCounts>;
  /** Why the last that failed did, until nothing is left. */
  readonly failure: string | undefined;
}

/** Chunks that are worked on at once: their rows are in memory. */
export const CHUNKS_AT_ONCE = 256;
/** Plans of one chunk in one go: a copy, a damaged source, a drop; more says that something changes all the time. */
const PLANS_IN_A_ROW = 6;
const CHUNK_PAUSES = { firstMs: 5_000, longestMs: 600_000, entriesMax: 10_000 };

export class RepairJob {
  readonly #parts: RepairParts;
  readonly #walk = new RepairWalk();
  readonly #backoffs: Backoffs<ChunkId>;
  readonly #underWay = new Set<Promise<void>>();
  #looksAtAll = true;
  #todo = { chunks: 0, bytes: 0 };
  #counts = new LeftTally();
  #counting = new LeftTally();
  #failure: string | undefined;

  constructor(parts: RepairParts) {
    this.#parts = parts;
    this.#backoffs = new Backoffs({ clock: parts.clock, ...CHUNK_PAUSES });
  }

  get figures(): RepairFigures {
    return {
      leftChunks: Math.max(0, this.#todo.chunks),
      leftBytes: Math.max(0, this.#todo.bytes),
      left: this.#counts.all,
      leftOn: this.#counts.on,
      failure: this.#failure,
    };
  }

  /** After a round: when another one is worth it though nothing changes. */
  get retryInMs(): number | undefined {
    return this.#backoffs.nextInMs;
  }

  /** A row of the order of repair was written. In the turn of its commit: only noted. */
  noted(key: string, { bytes }: RepairRow): void {
    this.#walk.noted(key);
    this.#todo.chunks += 1;
    this.#todo.bytes += bytes;
  }

  /** A round now would find something that was not looked at yet. */
  get hasNews(): boolean {
    return this.#looksAtAll || this.#walk.next() !== undefined || this.#backoffs.nextInMs === 0;
  }

  /** The next round looks at all that is noted. `forgives`: the world has changed, so also at what failed a moment ago. */
  lookAtAll({ forgives }: { readonly forgives: boolean }): void {
    this.#looksAtAll = true;
    if (!forgives) return;
    this.#backoffs.forgive();
    this.forgetLeft();
  }

  /** What was in the way need not be so any more, and a look at all of a long drain ends with the drain: nobody is to wait for that. */
  forgetLeft(): void {
    this.#counts = new LeftTally();
  }

  async work(round: Round): Promise<void> {
    const { signal } = round;
    const failures: unknown[] = [];
    while (failures.length === 0) {
      signal.throwIfAborted();
      if (this.#looksAtAll) await this.#beginAll(signal);
      const some = this.#underWay.size < CHUNKS_AT_ONCE ? await this.#nextChunks(signal) : undefined;
      if (some !== undefined) for (const each of some) this.#begin(each, failures, round);
      else if (this.#underWay.size > 0) await Promise.race(this.#underWay);
      else break;
    }
    await Promise.all(this.#underWay);
    if (failures.length > 0) throw failures[0];
    // Mended elsewhere or at a later try: nobody need hear of it any more.
    if (this.#todo.chunks <= 0) this.#failure = undefined;
  }

  async #beginAll(signal: AbortSignal): Promise<void> {
    this.#looksAtAll = false;
    this.#walk.all();
    this.#counting = new LeftTally();
    if (this.#counts.all.size === 0) this.#counts = this.#counting;
    const todo = { chunks: 0, bytes: 0 };
    let after: string | undefined;
    do {
      const from = after;
      const page = await this.#parts.engine.run((tx) => weighNotes(tx, from), { durability: 'written', signal });
      todo.chunks += page.chunks;
      todo.bytes += page.bytes;
      after = page.next;
    } while (after !== undefined);
    this.#todo = todo;
  }

  /** Undefined: there are no more for now. */
  async #nextChunks(signal: AbortSignal): Promise<readonly JudgedChunk[] | undefined> {
    const { engine, outlook } = this.#parts;
    const due = this.#backoffs.takeDue(REPAIR_PAGE);
    if (due.length > 0)
      return await engine.run((tx) => judgeChunks(tx, due, outlook()), { durability: 'written', signal });
    const stretch = this.#walk.next();
    if (stretch === undefined) return undefined;
    const { after, to, isWhole } = stretch;
    const step = await engine.run((tx) => repairStep(tx, after, to, outlook()), { durability: 'written', signal });
    this.#walk.looked(stretch, step.last);
    this.#todo.chunks -= step.settled.chunks;
    this.#todo.bytes -= step.settled.bytes;
    const fresh = step.judged.filter((each) => {
      const isWaiting = this.#backoffs.isWaiting(each.chunk);
      const reason = isWaiting ? 'failed' : this.#reasonToLeave(each);
      if (isWhole && reason !== undefined) this.#counting.add(each, reason, outlook());
      return !isWaiting;
    });
    // Another look at all was asked for meanwhile: what this one saw is not so any more.
    if (isWhole && step.last === undefined && !this.#looksAtAll) this.#counts = this.#counting;
    return fresh;
  }

  #begin(judged: JudgedChunk, failures: unknown[], { signal, progress }: Round): void {
    const { mover } = this.#parts;
    const { chunk } = judged;
    if (this.#possible(judged).length === 0 || !mover.begin(chunk)) return;
    const work = this.#mend(judged, signal)
      .catch((error) => void failures.push(error))
      .finally(() => {
        mover.end(chunk);
        this.#underWay.delete(work);
        const { copiedBytes } = mover.figures;
        progress(copiedBytes, copiedBytes + this.figures.leftBytes, 'bytes');
      });
    this.#underWay.add(work);
  }

  /** Plan after plan, until nothing is left to do or something fails. */
  async #mend(first: JudgedChunk, signal: AbortSignal): Promise<void> {
    const { engine, outlook } = this.#parts;
    const { chunk } = first;
    let judged = first;
    for (let plans = 1; ; plans++) {
      const actions = this.#possible(judged);
      const outcomes = await Promise.all(actions.map((action) => this.#carryOut(judged, action)));
      if (!this.#noteFailures(actions, outcomes)) return this.#backoffs.failed(chunk);
      const [again] = await engine.run((tx) => judgeChunks(tx, [chunk], outlook()), { durability: 'written', signal });
      if (again === undefined || isFine(again.plan)) {
        this.#todo.chunks -= 1;
        this.#todo.bytes -= first.plan.missing * first.row.storedLength;
        this.#backoffs.succeeded(chunk);
        return;
      }
      if (this.#possible(again).length === 0) return;
      if (plans === PLANS_IN_A_ROW) return this.#backoffs.failed(chunk);
      judged = again;
    }
  }

  #carryOut({ chunk, row }: JudgedChunk, action: RepairAction): Promise<MoveOutcome> {
    const { mover } = this.#parts;
    return action.kind === 'copy' ? mover.copy(chunk, row, action) : mover.drop(chunk, row, action);
  }

  /**
   * Answers whether the chunk may be planned again at once: where no more than targets have failed, they are none for a while,
   * and another node takes the copy. Were the chunk to wait as well, both pauses would end together, and it might meet the same
   * node each time.
   */
  #noteFailures(actions: readonly RepairAction[], outcomes: readonly MoveOutcome[]): boolean {
    let isOfTargets = true;
    for (const [i, outcome] of outcomes.entries()) {
      if (outcome.state !== 'failed') continue;
      const { error, of } = outcome;
      const action = actions[i];
      this.#failure = error.message;
      if (of !== undefined) this.#parts.onNodeFailed(of);
      if (action?.kind !== 'copy' || action.to.node !== of) isOfTargets = false;
    }
    return isOfTargets;
  }

  #possible({ plan }: JudgedChunk): readonly RepairAction[] {
    return this.#parts.mayRemove() ? plan.actions : plan.actions.filter(({ kind }) => kind === 'copy');
  }

  #reasonToLeave(judged: JudgedChunk): LeftReason | undefined {
    const { plan } = judged;
    if (plan.blocked !== undefined) return plan.blocked;
    return plan.actions.length > this.#possible(judged).length ? 'unconfirmed' : undefined;
  }
}

/** How many chunks were left, why, and on which draining node they lie. */
class LeftTally {
  readonly all = new Map<LeftReason, number>();
  readonly on = new Map<NodeName, Map<LeftReason, number>>();

  add({ row }: JudgedChunk, reason: LeftReason, { picture }: Outlook): void {
    this.all.set(reason, (this.all.get(reason) ?? 0) + 1);
    for (const { node } of row.replicas) {
      if (picture.get(node)?.duty !== 'draining') continue;
      const counts = this.on.get(node as NodeName) ?? new Map<LeftReason, number>();
      counts.set(reason, (counts.get(reason) ?? 0) + 1);
      this.on.set(node as NodeName, counts);
    }
  }
}
