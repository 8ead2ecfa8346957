/**
 * Disks that bear nothing any more (D8). That a drained node is empty must stay true once it was said, although uploads to it were
 * under way: from the moment that its disk is closed, no commit, copy or fold puts a chunk there. The mark is a row, read by the
 * same step that writes the chunk's, so there is no moment between the two; and it outlives the node's own row, since a late
 * commit may come after its removal. It goes when its disk is in use again: by a node that registers and does not drain.
 */
import type { NodeName } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import { prefixEnd } from '../tables/table.ts';
import { CLOSED_DISKS } from '../tables/tables.ts';

/** Longer than any session lives without its coordinator: nobody holds an upload that old. */
const CLOSED_KEPT_SECONDS = 7 * 86_400;
const CLOSED_MAX = 10_000;

export function isClosed(tx: OperationRun, disk: string): boolean {
  return tx.get(CLOSED_DISKS, disk) !== undefined;
}

/** What `isClosed` of these disks reads, for one prefetch. */
export function closedKeys(disks: Iterable<string>): string[] {
  return [...new Set(disks)].map((disk) => CLOSED_DISKS.key(disk));
}

/** Also forgets disks that were closed long ago and belong to no node that is known. */
export function closeDisks(
  tx: OperationRun,
  node: NodeName,
  disks: readonly string[],
  isKnown: (node: NodeName) => boolean,
): void {
  for (const { key, value } of tx.scan(CLOSED_DISKS, CLOSED_DISKS.prefix, prefixEnd(CLOSED_DISKS.prefix), CLOSED_MAX)) {
    const isOld = (value.since?.seconds ?? 0) + CLOSED_KEPT_SECONDS < tx.now.seconds;
    if (isOld && !isKnown(value.node as NodeName)) tx.remove(CLOSED_DISKS, key.slice(CLOSED_DISKS.prefix.length));
  }
  for (const disk of disks) if (!isClosed(tx, disk)) tx.put(CLOSED_DISKS, { node, since: tx.now }, disk);
}

/** `node` has the disk and is to take chunks on it. A mark of another node that is known stays: that one drains a disk of the same name. */
export function openDisk(tx: OperationRun, node: NodeName, disk: string, isKnown: (node: NodeName) => boolean): void {
  tx.need(closedKeys([disk]));
  const mark = tx.get(CLOSED_DISKS, disk);
  if (mark === undefined) return;
  if (mark.node === node || !isKnown(mark.node as NodeName)) tx.remove(CLOSED_DISKS, disk);
}
