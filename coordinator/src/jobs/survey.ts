/**
 * Walks over all chunks and judges each against the picture of the nodes (D8): what is short or lies where it should not is
 * noted for repair. It is made when something changed that rows do not tell: a node was given up, came back, got another
 * duty or disk, a realm another rule; and once a day. In memory is one page, and sums.
 *
 * It also counts what lies on each node.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { type JudgedChunk, type Outlook, surveyStep } from '../ops/chunk-repair.ts';
import type { Round } from './keeper.ts';
import type { MovingLoads, NodeLoad } from './moving-loads.ts';

export interface SurveyParts {
  readonly engine: Engine;
  outlook(): Outlook;
  /** Chunks that have no sound copy left, and that was not known; at most NEWS_MAX of them, and how many there are. */
  onLost(named: readonly JudgedChunk[], inAll: number): void;
  readonly loads: MovingLoads;
}

export interface SurveyFigures {
  /** Whole walks since the start. */
  readonly ended: number;
  readonly chunks: number;
  /** Named, and no copy of them can be read now. What is short, or to be moved, is told by the rows that it notes. */
  readonly unreadable: number;
}

/** Lost chunks that are told by name. */
export const NEWS_MAX = 20;

export class Survey {
  readonly #parts: SurveyParts;
  #figures: SurveyFigures = {
    ended: 0,
    chunks: 0,
    unreadable: 0,
  };

  constructor(parts: SurveyParts) {
    this.#parts = parts;
  }

  /** Of the last whole walk. */
  get figures(): SurveyFigures {
    return this.#figures;
  }

  async work({ signal, progress }: Round): Promise<void> {
    const { engine, outlook, onLost, loads } = this.#parts;
    const sums = { chunks: 0, unreadable: 0 };
    const counted = new Map<NodeName, NodeLoad>();
    const news: JudgedChunk[] = [];
    let newsInAll = 0;
    let after: ChunkId | undefined;
    loads.walkBegan();
    do {
      const from = after;
      // Nodes may come and go while a long walk is made: each page is judged by what is so now.
      const step = await engine.run((tx) => surveyStep(tx, from, outlook()), { durability: 'written', signal });
      for (const { row } of step.rows) {
        // Garbage is on its way out, and nobody misses it.
        if (row.references === 0) continue;
        for (const node of new Set(row.replicas.map((each) => each.node as NodeName))) {
          const { chunks = 0, bytes = 0 } = counted.get(node) ?? {};
          counted.set(node, { chunks: chunks + 1, bytes: bytes + row.storedLength });
        }
      }
      sums.unreadable += step.judged.filter(({ plan, wanted }) => wanted > 0 && plan.readable === 0).length;
      news.push(...step.newlyLost.slice(0, NEWS_MAX - news.length));
      newsInAll += step.newlyLost.length;
      sums.chunks += step.rows.length;
      progress(sums.chunks, undefined, 'chunks');
      after = step.next;
      if (after !== undefined) loads.walkPassed(after);
    } while (after !== undefined);
    loads.walkEnded(counted);
    this.#figures = { ...sums, ended: this.#figures.ended + 1 };
    if (newsInAll > 0) onLost(news, newsInAll);
  }
}
