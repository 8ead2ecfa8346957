/**
 * Takes what nodes report as damaged (D5): their rows say so from then on, and repair makes the copies anew. A node reports a
 * chunk in each heartbeat until it is mended, so each is looked at once, unless no row names it there: one whose commit is still
 * under way may be named later, and nobody would report it anew.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { noteDamage } from '../ops/chunk-repair.ts';
import type { Place } from '../placement/plan-repair.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';

export interface DamagedCopy {
  readonly chunk: ChunkId;
  /** That names it. */
  readonly row: ChunkRow;
  readonly place: Place;
}

export interface DamageReportParts {
  readonly engine: Engine;
  /** The rows say so now, and did not before. */
  onDamaged(found: readonly DamagedCopy[]): void;
  onFailure(error: unknown): void;
}

interface Report {
  readonly disk: string;
  readonly chunks: readonly ChunkId[];
}

export class DamageReports {
  readonly #parts: DamageReportParts;
  /** What was looked at of each node's last report. */
  readonly #known = new Map<NodeName, { readonly disk: string; readonly chunks: Set<ChunkId> }>();
  /** The newest report of each node that is not looked at yet. */
  readonly #waiting = new Map<NodeName, Report>();
  #work: Promise<void> | undefined;

  constructor(parts: DamageReportParts) {
    this.#parts = parts;
  }

  reported(node: NodeName, disk: string, chunks: readonly ChunkId[]): void {
    if (chunks.length === 0 && !this.#known.has(node)) return;
    this.#waiting.set(node, { disk, chunks });
    this.#work ??= this.#lookAtAll().finally(() => {
      this.#work = undefined;
    });
  }

  /** A whole copy took its place: should it be reported again, it is damaged again. */
  mended(node: NodeName, chunk: ChunkId): void {
    this.#known.get(node)?.chunks.delete(chunk);
  }

  async #lookAtAll(): Promise<void> {
    for (let next = this.#waiting.entries().next().value; next !== undefined; ) {
      const [node, report] = next;
      this.#waiting.delete(node);
      try {
        await this.#look(node, report);
      } catch (error) {
        // It comes again with the next heartbeat.
        this.#known.delete(node);
        this.#parts.onFailure(error);
      }
      next = this.#waiting.entries().next().value;
    }
  }

  async #look(node: NodeName, { disk, chunks }: Report): Promise<void> {
    const known = this.#known.get(node);
    const before = known?.disk === disk ? known.chunks : new Set<ChunkId>();
    const fresh = chunks.filter((chunk) => !before.has(chunk));
    if (chunks.length === 0) this.#known.delete(node);
    else this.#known.set(node, { disk, chunks: new Set(chunks) });
    if (fresh.length === 0) return;
    const place = { node, disk };
    const { marked, unnamed } = await this.#parts.engine.run(
      (tx) =>
        noteDamage(
          tx,
          fresh.map((chunk) => ({ chunk, place })),
        ),
      { durability: 'written' },
    );
    for (const chunk of unnamed) this.#known.get(node)?.chunks.delete(chunk);
    if (marked.length > 0) this.#parts.onDamaged(marked.map((each) => ({ ...each, place })));
  }
}
