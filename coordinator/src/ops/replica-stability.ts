/**
 * What becomes of replicas that were *written* but not yet stable when they were committed (D3). Their node reports them
 * stable; or it restarts, is asked, and has them or lacks them. A chunk that no named replica has any more is taken out
 * of its block, which thereby gets back its earlier content, and an event names the file.
 */
import { type ChunkId, chunkIdFromBytes, type InodeNumber, type NodeName } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { BLOCKS, CHUNKS, GARBAGE, INODES, UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';
import { storedBytes, withoutChunk } from './block-slices.ts';
import { noteUnderReplicated } from './chunks.ts';

export const STABILITY_STEP = 500;

interface UnstableReplica {
  readonly incarnation: number;
  readonly sequence: number;
  readonly chunk: ChunkId;
}

function unstableOf(tx: OperationRun, node: NodeName, from: string, to: string): UnstableReplica[] {
  const at = UNSTABLE.prefix.length + Buffer.byteLength(node) + 1;
  return tx.scan(UNSTABLE, from, to, STABILITY_STEP).map(({ key, value }) => ({
    incarnation: readBigEndian(key, at, 4),
    sequence: readBigEndian(key, at + 4, 8),
    chunk: chunkIdFromBytes(value.value),
  }));
}

const LOWEST = '0'.repeat(32) as ChunkId;

/** One bounded step: replicas of this start of the node's store up to `sequence` are stable. Answers how many it marked. */
export function markStable(tx: OperationRun, node: NodeName, incarnation: number, sequence: number): number {
  const found = unstableOf(
    tx,
    node,
    UNSTABLE.key(node, incarnation, 0, LOWEST),
    UNSTABLE.key(node, incarnation, sequence + 1, LOWEST),
  );
  tx.need(found.map(({ chunk }) => CHUNKS.key(chunk)));
  for (const replica of found) settleReplica(tx, node, replica);
  return found.length;
}

/** Replicas of earlier starts of the node's store: it must be asked whether it has them. At most a step's worth. */
export function doubtfulReplicas(tx: OperationRun, node: NodeName, incarnation: number): UnstableReplica[] {
  const prefix = UNSTABLE.key(node, 0, 0, LOWEST).slice(0, UNSTABLE.prefix.length + Buffer.byteLength(node) + 1);
  return unstableOf(tx, node, prefix, UNSTABLE.key(node, incarnation, 0, LOWEST));
}

export function anyUnstable(tx: OperationRun): number {
  return tx.scan(UNSTABLE, UNSTABLE.prefix, prefixEnd(UNSTABLE.prefix), 1_000).length;
}

function settleReplica(tx: OperationRun, node: NodeName, { incarnation, sequence, chunk }: UnstableReplica): void {
  tx.remove(UNSTABLE, node, incarnation, sequence, chunk);
  const row = tx.get(CHUNKS, chunk);
  if (row === undefined) return;
  tx.put(
    CHUNKS,
    {
      ...row,
      replicas: row.replicas.map((replica) => (replica.node === node ? { ...replica, stable: true } : replica)),
    },
    chunk,
  );
}

export interface RevertedFile {
  readonly inode: number;
  readonly block: number;
  readonly chunk: ChunkId;
}

/** The node answered which of these it has. What it lacks is no replica; a chunk without any is lost and its block reverts. */
export function settleDoubt(
  tx: OperationRun,
  node: NodeName,
  asked: readonly UnstableReplica[],
  held: ReadonlySet<ChunkId>,
): RevertedFile[] {
  const reverted: RevertedFile[] = [];
  tx.need(asked.map(({ chunk }) => CHUNKS.key(chunk)));
  needLost(
    tx,
    node,
    asked.filter(({ chunk }) => !held.has(chunk)),
  );
  for (const replica of asked) {
    if (held.has(replica.chunk)) {
      settleReplica(tx, node, replica);
      continue;
    }
    tx.remove(UNSTABLE, node, replica.incarnation, replica.sequence, replica.chunk);
    const row = tx.get(CHUNKS, replica.chunk);
    if (row === undefined) continue;
    const replicas = row.replicas.filter((each) => each.node !== node);
    const left = { ...row, replicas };
    tx.put(CHUNKS, left, replica.chunk);
    if (replicas.length > 0 && row.references > 0) noteUnderReplicated(tx, replica.chunk, left);
    if (replicas.length === 0) reverted.push(...revertBlock(tx, replica.chunk));
  }
  return reverted;
}

/** What the loss of these chunks will touch, fetched in three goes instead of one a row. */
function needLost(tx: OperationRun, node: NodeName, lacked: readonly UnstableReplica[]): void {
  const lost = lacked.flatMap(({ chunk }) => {
    const row = tx.get(CHUNKS, chunk);
    return row === undefined || row.replicas.some((replica) => replica.node !== node) ? [] : [row];
  });
  tx.need(lost.map(({ inode }) => INODES.key(inode as InodeNumber)));
  tx.need(
    lost.flatMap(({ inode, block }) => {
      const data = tx.get(INODES, inode as InodeNumber)?.data;
      return data === undefined ? [] : [BLOCKS.key(data, block), BLOCKS.key(data, block + 1)];
    }),
  );
}

function revertBlock(tx: OperationRun, chunk: ChunkId): RevertedFile[] {
  const row = tx.get(CHUNKS, chunk);
  if (row === undefined) return [];
  tx.put(GARBAGE, { since: tx.now, condemned: true }, chunk);
  tx.remove(UNDER_REPLICATED, chunk);
  tx.put(CHUNKS, { ...row, references: 0 }, chunk);
  const inode = tx.get(INODES, row.inode as InodeNumber);
  if (inode === undefined) return [];
  const lost = Buffer.from(chunk, 'hex');
  let bytes = inode.storedBytes;
  const reverted: RevertedFile[] = [];
  // Appended data may lie over two blocks: the hint names the first.
  for (const index of [row.block, row.block + 1]) {
    const block = tx.get(BLOCKS, inode.data, index);
    if (block === undefined) continue;
    const slices = withoutChunk(block.slices, lost);
    if (slices.length === block.slices.length) continue;
    bytes += storedBytes(slices) - storedBytes(block.slices);
    tx.put(BLOCKS, { version: inode.version + 1, slices }, inode.data, index);
    reverted.push({ inode: row.inode, block: index, chunk });
  }
  if (reverted.length > 0) {
    tx.addUsage(inode.realm, { bytes: bytes - inode.storedBytes });
    tx.put(
      INODES,
      { ...inode, storedBytes: bytes, version: inode.version + 1, ctime: tx.now },
      row.inode as InodeNumber,
    );
  }
  return reverted;
}
