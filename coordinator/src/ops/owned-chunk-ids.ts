/**
 * Who may still commit a chunk that has no row: only the session that was given its id (D2, D7), as long as it lives. Its row
 * names its ids before it hears of them, and ids are never given twice (M2a): what nobody owns now, nobody will ever own.
 */
import { type ChunkId, chunkIdFromBytes } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import { prefixEnd } from '../tables/table.ts';
import { SESSIONS } from '../tables/tables.ts';

/** Rows of sessions: there are fewer. */
const SESSIONS_READ_MAX = 100_000;

export class OwnedChunkIds {
  /** By the first id; blocks of sessions do not overlap. */
  readonly #ranges: readonly { readonly first: ChunkId; readonly last: ChunkId }[];

  static read(tx: OperationRun): OwnedChunkIds {
    const rows = tx.scan(SESSIONS, SESSIONS.prefix, prefixEnd(SESSIONS.prefix), SESSIONS_READ_MAX);
    return new OwnedChunkIds(
      rows.flatMap(({ value }) =>
        value.chunkIds.map(({ first, last }) => ({ first: chunkIdFromBytes(first), last: chunkIdFromBytes(last) })),
      ),
    );
  }

  constructor(ranges: readonly { readonly first: ChunkId; readonly last: ChunkId }[]) {
    this.#ranges = [...ranges].sort((a, b) => (a.first < b.first ? -1 : 1));
  }

  has(chunk: ChunkId): boolean {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ranges[middle]?.first ?? '') <= chunk) low = middle + 1;
      else high = middle;
    }
    const range = this.#ranges[low - 1];
    return range !== undefined && chunk <= range.last;
  }
}
