/**
 * How many blocks lost what was written to them last (D3), in the very commit that gives them back their earlier content: so a
 * loss is counted once, however often the coordinator starts and whatever else happens, until an administrator has settled it.
 */
import type { Transaction } from '../engine/transaction.ts';
import type { LossesRow } from '../tables/gen/tables.ts';
import { LOSSES } from '../tables/tables.ts';

const NONE: LossesRow = { blocks: 0, last: undefined };

export function losses(tx: Transaction): LossesRow {
  return tx.get(LOSSES) ?? NONE;
}

export function countLosses(tx: Transaction, blocks: number): void {
  if (blocks > 0) tx.put(LOSSES, { blocks: losses(tx).blocks + blocks, last: tx.now });
}

/** `seen`: those that the person knows of; what came since stays. Answers how many are settled now, and how many are left. */
export function settleLosses(tx: Transaction, seen: number): { readonly settled: number; readonly left: number } {
  const { blocks, last } = losses(tx);
  const settled = Math.min(seen, blocks);
  const left = blocks - settled;
  if (settled > 0) tx.put(LOSSES, { blocks: left, last: left > 0 ? last : undefined });
  return { settled, left };
}
