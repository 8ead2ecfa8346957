/**
 * Inode numbers that a client sends again with a change that was lost with the coordinator's power (M4). They come from
 * outside, so they are believed only as far as they can do no harm: an earlier start must have given them, and nothing may
 * bear them now. An inode number is no open door (M9).
 */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import { realmsWithTrash } from '../ops/realms.ts';
import { prefixEnd } from '../tables/table.ts';
import { BLOCKS, DOOMED, INODES, TRASH } from '../tables/tables.ts';

/** An operation draws one or two. */
const NUMBERS_MAX = 16;

/** Throws `replay_differs`. */
export function requireUnusedNumbers(
  tx: OperationRun,
  numbers: readonly number[],
  engine: { gavePreviously(inode: number): boolean },
): void {
  if (numbers.length > NUMBERS_MAX || new Set(numbers).size < numbers.length) throw refusal(numbers);
  if (!numbers.every((number) => engine.gavePreviously(number))) throw refusal(numbers);
  const realms = numbers.length === 0 ? [] : realmsWithTrash(tx);
  tx.need(numbers.flatMap((number) => [INODES.key(number as InodeNumber), DOOMED.key(number)]));
  tx.need(numbers.flatMap((number) => realms.map((realm) => TRASH.key(realm, number))));
  for (const number of numbers) {
    // A file that was emptied keeps its blocks under another number than its own.
    const blocks = BLOCKS.key(number, 0).slice(0, -4);
    const used =
      tx.get(INODES, number as InodeNumber) !== undefined ||
      tx.get(DOOMED, number) !== undefined ||
      realms.some((realm) => tx.get(TRASH, realm, number) !== undefined) ||
      tx.scan(BLOCKS, blocks, prefixEnd(blocks), 1).length > 0;
    if (used) throw refusal(numbers);
  }
}

function refusal(numbers: readonly number[]): CollectiveError {
  return new CollectiveError(
    'replay_differs',
    `Make a change again with the inode numbers ${numbers.slice(0, 4).join(', ')}: they are in use, or were never given`,
  );
}
