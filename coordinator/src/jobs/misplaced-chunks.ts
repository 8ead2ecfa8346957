/**
 * Chunks that were committed with a place that no longer counts (D8): whoever wrote them was given the place before its node was
 * drained, given up, or came with another disk, and the survey of that change may have passed them by. They are judged one by
 * one as they come; so a node that is drained comes to be empty while clients go on writing.
 *
 * In memory, and bounded: when there are too many, or after a restart, a survey finds them.
 */
import type { ChunkId } from '@collective/base/ids';
import { chunkIdFromBytes } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { judgeChunks, type Outlook, REPAIR_PAGE } from '../ops/chunk-repair.ts';
import type { NodePicture } from '../placement/node-picture.ts';
import { isOrdinaryPlace } from '../placement/plan-repair.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { bytesOf } from '../tables/table.ts';
import { CHUNKS } from '../tables/tables.ts';

export const MISPLACED_MAX = 10_000;

export interface MisplacedParts {
  readonly engine: Engine;
  /** As it was when a survey was last thought of: what is committed before its next change is seen by that survey. */
  picture(): NodePicture;
  outlook(): Outlook;
  isUnderWay(chunk: ChunkId): boolean;
  onFound(): void;
  onTooMany(): void;
}

export class MisplacedChunks {
  readonly #parts: MisplacedParts;
  readonly #chunks = new Set<ChunkId>();

  constructor(parts: MisplacedParts) {
    this.#parts = parts;
  }

  /** A row of a chunk was written. In the turn of its commit: only noted. */
  noted(key: string, { references, replicas }: ChunkRow): void {
    if (references === 0) return;
    const { picture, isUnderWay, onFound, onTooMany } = this.#parts;
    if (replicas.every((place) => isOrdinaryPlace(place, picture()))) return;
    const chunk = chunkIdFromBytes(bytesOf(key.slice(CHUNKS.prefix.length)));
    // Its repair changes the row itself, and looks again.
    if (isUnderWay(chunk)) return;
    if (this.#chunks.size < MISPLACED_MAX) {
      this.#chunks.add(chunk);
      onFound();
    } else onTooMany();
  }

  /** Notes them for repair. */
  async work(signal: AbortSignal): Promise<void> {
    const { engine, outlook } = this.#parts;
    while (this.#chunks.size > 0) {
      const some = [...this.#chunks.keys().take(REPAIR_PAGE)];
      await engine.run((tx) => judgeChunks(tx, some, outlook()), { durability: 'written', signal });
      for (const chunk of some) this.#chunks.delete(chunk);
    }
  }
}
