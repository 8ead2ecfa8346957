/**
 * What becomes of replicas that were *written* but not yet stable when they were committed (D3). Their node reports them
 * stable; or it restarts, is asked, and has them or lacks them. A chunk that no named replica has any more is taken out
 * of its block, which thereby gets back its earlier content, and an event names the file.
 */
import { type ChunkId, chunkIdFromBytes, type InodeNumber, type NodeName, type RealmId } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { readBigEndian } from '../tables/table.ts';
import {
  BLOCKS,
  CHUNKS,
  diskPrefix,
  GARBAGE,
  INODES,
  LOSSES,
  REALMS,
  UNDER_REPLICATED,
  UNFIRM,
  UNSTABLE,
} from '../tables/tables.ts';
import { storedBytes, withoutChunk } from './block-slices.ts';
import { isFirm, replicaRule } from './chunks.ts';
import { countLosses } from './losses.ts';
import { noLongerForRepair, noteIfShort } from './replica-places.ts';
import { addStoredBytes } from './trash.ts';

export const STABILITY_STEP = 500;

interface UnstableReplica {
  readonly incarnation: number;
  readonly sequence: number;
  readonly chunk: ChunkId;
}

/** A node's chunk store: one disk, one start of it. */
export interface StoreStart {
  readonly node: NodeName;
  /** uuid */
  readonly disk: string;
  readonly incarnation: number;
}

/** How far that start has come: all its writes up to the sequence are stable. */
export interface StoreState extends Omit<StoreStart, 'node'> {
  readonly stableSequence: number;
}

function unstableOf(tx: OperationRun, { node, disk }: StoreStart, from: string, to: string): UnstableReplica[] {
  const at = UNSTABLE.prefix.length + diskPrefix(node, disk).length;
  return tx.scan(UNSTABLE, from, to, STABILITY_STEP).map(({ key, value }) => ({
    incarnation: readBigEndian(key, at, 4),
    sequence: readBigEndian(key, at + 4, 8),
    chunk: chunkIdFromBytes(value.value),
  }));
}

const LOWEST = '0'.repeat(32) as ChunkId;

/** One bounded step: replicas of this start of the store up to `sequence` are stable. Answers how many it marked. */
export function markStable(tx: OperationRun, store: StoreStart, sequence: number): number {
  const { node, disk, incarnation } = store;
  const found = unstableOf(
    tx,
    store,
    UNSTABLE.key(node, disk, incarnation, 0, LOWEST),
    UNSTABLE.key(node, disk, incarnation, sequence + 1, LOWEST),
  );
  needToSettle(tx, found);
  for (const replica of found) settleReplica(tx, store, replica);
  return found.length;
}

/** Rows of these chunks and of their realms, fetched in two goes instead of one a row. */
function needToSettle(tx: OperationRun, replicas: readonly UnstableReplica[]): void {
  tx.need(replicas.map(({ chunk }) => CHUNKS.key(chunk)));
  const rows = replicas.flatMap(({ chunk }) => tx.get(CHUNKS, chunk) ?? []);
  tx.need([...new Set(rows.map(({ realm }) => REALMS.key(realm as RealmId)))]);
}

/**
 * Replicas of earlier starts of the same disk: the node must be asked whether it has them. At most a step's worth. Those on
 * another disk stay in doubt (D3): that disk may come back.
 */
export function doubtfulReplicas(tx: OperationRun, store: StoreStart): UnstableReplica[] {
  const { node, disk, incarnation } = store;
  const from = UNSTABLE.prefix + diskPrefix(node, disk);
  return unstableOf(tx, store, from, UNSTABLE.key(node, disk, incarnation, 0, LOWEST));
}

/** The replica is stable: its row says so from here on, and nobody waits for a chunk that is stable on enough nodes (D3). */
export function settleReplica(
  tx: OperationRun,
  { node, disk }: Pick<StoreStart, 'node' | 'disk'>,
  replica: UnstableReplica,
): void {
  const { incarnation, sequence, chunk } = replica;
  tx.remove(UNSTABLE, node, disk, incarnation, sequence, chunk);
  const row = tx.get(CHUNKS, chunk);
  if (row === undefined) return;
  const replicas = row.replicas.map((each) =>
    each.node === node && each.disk === disk ? { ...each, stable: true } : each,
  );
  tx.put(CHUNKS, { ...row, replicas }, chunk);
  if (isFirm({ replicas }, replicaRule(tx.get(REALMS, row.realm as RealmId))))
    tx.remove(UNFIRM, row.inode as InodeNumber, chunk);
}

/** Copies of it were made: where that makes it stable on enough nodes, nobody waits for it any more either. */
export function settleCopied(tx: OperationRun, chunk: ChunkId, before: ChunkRow | undefined, row: ChunkRow): void {
  const rule = replicaRule(tx.get(REALMS, row.realm as RealmId));
  if (before !== undefined && !isFirm(before, rule) && isFirm(row, rule))
    tx.remove(UNFIRM, row.inode as InodeNumber, chunk);
}

export interface RevertedFile {
  readonly inode: number;
  readonly block: number;
  readonly chunk: ChunkId;
}

/** The node answered which of these it has. What it lacks is no replica; a chunk without any is lost and its block reverts. */
export function settleDoubt(
  tx: OperationRun,
  store: StoreStart,
  asked: readonly UnstableReplica[],
  held: ReadonlySet<ChunkId>,
): RevertedFile[] {
  const { node, disk } = store;
  const reverted: RevertedFile[] = [];
  const lacked = asked.filter(({ chunk }) => !held.has(chunk));
  needToSettle(tx, asked);
  tx.need(lacked.map(({ chunk }) => UNDER_REPLICATED.key(chunk)));
  needLost(tx, store, lacked);
  for (const replica of asked) {
    if (held.has(replica.chunk)) {
      settleReplica(tx, store, replica);
      continue;
    }
    tx.remove(UNSTABLE, node, disk, replica.incarnation, replica.sequence, replica.chunk);
    const row = tx.get(CHUNKS, replica.chunk);
    if (row === undefined) continue;
    const replicas = row.replicas.filter((each) => each.node !== node || each.disk !== disk);
    const left = { ...row, replicas };
    tx.put(CHUNKS, left, replica.chunk);
    if (replicas.length > 0 && row.references > 0) noteIfShort(tx, replica.chunk, left);
    if (replicas.length === 0) reverted.push(...revertBlock(tx, replica.chunk));
  }
  countLosses(tx, reverted.length);
  return reverted;
}

/** What the loss of these chunks will touch, fetched in three goes instead of one a row. */
function needLost(tx: OperationRun, { node, disk }: StoreStart, lacked: readonly UnstableReplica[]): void {
  const lost = lacked.flatMap(({ chunk }) => {
    const row = tx.get(CHUNKS, chunk);
    return row === undefined || row.replicas.some((replica) => replica.node !== node || replica.disk !== disk)
      ? []
      : [row];
  });
  if (lost.length > 0) tx.need([LOSSES.key(), ...lost.map(({ inode }) => INODES.key(inode as InodeNumber))]);
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
  tx.put(GARBAGE, { since: tx.now, condemned: true, storedBytes: 0, gone: false }, chunk);
  noLongerForRepair(tx, chunk);
  tx.remove(UNFIRM, row.inode as InodeNumber, chunk);
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
    addStoredBytes(tx, inode, bytes - inode.storedBytes);
    tx.put(
      INODES,
      { ...inode, storedBytes: bytes, version: inode.version + 1, ctime: tx.now },
      row.inode as InodeNumber,
    );
  }
  return reverted;
}
