/**
 * Where the replicas of a chunk lie, and which chunks are to be repaired (D8): every change of a chunk's places goes through
 * here, so that the table of what is short, and its order by danger, say the same as the rows.
 *
 * A row tells what was committed. Whether a node is there now is not in it: `placement/plan-repair.ts` judges rows against
 * a picture of the nodes, and notes here what it finds short.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import type { ChunkRow, ReplicaPlace } from '../tables/gen/tables.ts';
import { CHUNKS, ORPHAN_CHUNKS, REPAIR_ORDER, TO_MOVE, UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';
import { isClosed } from './closed-disks.ts';

/** Replicas that count: a damaged one is none. */
export function soundReplicas(row: Pick<ChunkRow, 'replicas'>): number {
  return row.replicas.reduce((sum, { damaged }) => sum + (damaged ? 0 : 1), 0);
}

/** The row alone says that replicas are missing. Nobody misses replicas of garbage. */
export function noteIfShort(tx: OperationRun, id: ChunkId, row: ChunkRow): void {
  const sound = soundReplicas(row);
  const bytes = Math.max(0, row.wanted - sound) * row.storedLength;
  if (row.references > 0 && (sound < row.wanted || sound < row.replicas.length)) noteForRepair(tx, id, sound, bytes);
}

/** `sound`: replicas that can be counted on, by whatever the caller knows; fewer come first. `bytes`: to be copied. */
export function noteForRepair(tx: OperationRun, id: ChunkId, sound: number, bytes = 0): void {
  const known = tx.get(UNDER_REPLICATED, id);
  if (known?.sound === sound && known.bytes === bytes) return;
  if (known !== undefined && known.sound !== sound) tx.remove(REPAIR_ORDER, known.sound, id);
  const row = { since: known?.since ?? tx.now, sound, bytes };
  tx.put(UNDER_REPLICATED, row, id);
  tx.put(REPAIR_ORDER, row, sound, id);
}

export function noLongerForRepair(tx: OperationRun, id: ChunkId): void {
  const known = tx.get(UNDER_REPLICATED, id);
  if (known === undefined) return;
  tx.remove(REPAIR_ORDER, known.sound, id);
  tx.remove(UNDER_REPLICATED, id);
}

/** It has its replicas, but not all where they should be: copies to be made elsewhere, places to be given up. */
export function noteToMove(tx: OperationRun, id: ChunkId, bytes: number): void {
  const known = tx.get(REPAIR_ORDER, TO_MOVE, id);
  if (known?.bytes === bytes) return;
  tx.put(REPAIR_ORDER, { since: known?.since ?? tx.now, sound: TO_MOVE, bytes }, TO_MOVE, id);
}

export function noLongerToMove(tx: OperationRun, id: ChunkId): void {
  if (tx.get(REPAIR_ORDER, TO_MOVE, id) !== undefined) tx.remove(REPAIR_ORDER, TO_MOVE, id);
}

/**
 * A copy was made, stable. It takes the place of what the row says of this node. Answers the row, or undefined when the chunk is
 * gone, when its disk is closed, or when its node has been told to forget a copy of it that was there before (`orphan-chunks.ts`).
 */
export function addReplica(
  tx: OperationRun,
  id: ChunkId,
  place: Omit<ReplicaPlace, 'damaged' | 'stable'>,
): ChunkRow | undefined {
  const node = place.node as NodeName;
  if (isClosed(tx, place.disk)) return undefined;
  const note = tx.get(ORPHAN_CHUNKS, node, place.disk, id);
  if (note?.leaving) return undefined;
  if (note !== undefined) tx.remove(ORPHAN_CHUNKS, node, place.disk, id);
  return changePlaces(tx, id, (replicas) => [
    ...replicas.filter(({ node }) => node !== place.node),
    { ...place, stable: true, damaged: false },
  ]);
}

export function dropReplica(tx: OperationRun, id: ChunkId, at: { node: string; disk: string }): ChunkRow | undefined {
  return changePlaces(tx, id, (replicas) => replicas.filter(({ node, disk }) => node !== at.node || disk !== at.disk));
}

export function markDamaged(tx: OperationRun, id: ChunkId, at: { node: string; disk: string }): ChunkRow | undefined {
  return changePlaces(tx, id, (replicas) =>
    replicas.map((each) => (each.node === at.node && each.disk === at.disk ? { ...each, damaged: true } : each)),
  );
}

function changePlaces(
  tx: OperationRun,
  id: ChunkId,
  change: (replicas: readonly ReplicaPlace[]) => ReplicaPlace[],
): ChunkRow | undefined {
  const row = tx.get(CHUNKS, id);
  if (row === undefined) return undefined;
  const changed = { ...row, replicas: change(row.replicas) };
  tx.put(CHUNKS, changed, id);
  for (const each of row.replicas)
    if (!each.stable && !changed.replicas.some((other) => isSamePut(each, other)))
      tx.remove(UNSTABLE, each.node as NodeName, each.disk, each.incarnation, each.sequence, id);
  noteIfShort(tx, id, changed);
  return changed;
}

function isSamePut(a: ReplicaPlace, b: ReplicaPlace): boolean {
  return a.node === b.node && a.disk === b.disk && a.incarnation === b.incarnation && a.sequence === b.sequence;
}
