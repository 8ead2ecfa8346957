/**
 * Walks over all chunks and judges each against the picture of the nodes (D8): what is short or lies where it should not is
 * noted for repair. It is made when something changed that rows do not tell: a node was given up, came back, got another
 * duty or disk, a realm another rule; and once a day. In memory is one page, and sums.
 *
 * It also counts what lies on each node: that nothing is left on one that is emptied is said only by a whole walk.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { type JudgedChunk, type Outlook, surveyStep } from '../ops/chunk-repair.ts';
import type { Round } from './keeper.ts';

export interface SurveyParts {
  readonly engine: Engine;
  outlook(): Outlook;
  /** Chunks that have no sound copy left, and that was not known; at most NEWS_MAX of them, and how many there are. */
  onLost(named: readonly JudgedChunk[], inAll: number): void;
}

export interface NodeLoad {
  readonly chunks: number;
  /** As stored. */
  readonly bytes: number;
}

export interface SurveyFigures {
  /** Whole walks since the start. */
  readonly ended: number;
  readonly chunks: number;
  /** Named chunks with fewer replicas than their realm wants. */
  readonly short: number;
  /** That have enough, but not where they should, or too many. */
  readonly toMove: number;
  /** Named, and no copy of them can be read now; with those that are lost. */
  readonly unreadable: number;
  /** Named, and no sound copy of them is left. */
  readonly lost: number;
  /** By node: chunks whose rows name it, on whatever disk. */
  readonly loads: ReadonlyMap<NodeName, NodeLoad>;
}

/** Lost chunks that are told by name. */
export const NEWS_MAX = 20;

export class Survey {
  readonly #parts: SurveyParts;
  #figures: SurveyFigures = {
    ended: 0,
    chunks: 0,
    short: 0,
    toMove: 0,
    unreadable: 0,
    lost: 0,
    loads: new Map(),
  };

  constructor(parts: SurveyParts) {
    this.#parts = parts;
  }

  /** Of the last whole walk. */
  get figures(): SurveyFigures {
    return this.#figures;
  }

  async work({ signal, progress }: Round): Promise<void> {
    const { engine, outlook, onLost } = this.#parts;
    const sums = { chunks: 0, short: 0, toMove: 0, unreadable: 0, lost: 0 };
    const loads = new Map<NodeName, { chunks: number; bytes: number }>();
    const news: JudgedChunk[] = [];
    let newsInAll = 0;
    let after: ChunkId | undefined;
    do {
      const from = after;
      // Nodes may come and go while a long walk is made: each page is judged by what is so now.
      const step = await engine.run((tx) => surveyStep(tx, from, outlook()), { durability: 'written', signal });
      for (const { row } of step.rows) {
        for (const node of new Set(row.replicas.map((each) => each.node as NodeName))) {
          const load = loads.get(node) ?? { chunks: 0, bytes: 0 };
          load.chunks += 1;
          load.bytes += row.storedLength;
          loads.set(node, load);
        }
      }
      for (const { plan, wanted } of step.judged) {
        if (wanted === 0 || plan.sound >= wanted) sums.toMove += 1;
        else sums.short += 1;
        if (wanted > 0 && plan.readable === 0) sums.unreadable += 1;
        if (wanted > 0 && plan.sound === 0) sums.lost += 1;
      }
      news.push(...step.newlyLost.slice(0, NEWS_MAX - news.length));
      newsInAll += step.newlyLost.length;
      sums.chunks += step.rows.length;
      progress(sums.chunks, undefined, 'chunks');
      after = step.next;
    } while (after !== undefined);
    this.#figures = { ...sums, ended: this.#figures.ended + 1, loads };
    if (newsInAll > 0) onLost(news, newsInAll);
  }
}
