/**
 * The two ends of a fold (D8): what there is to fold, and the commit that puts the new chunk in the place of the slices that it
 * was made of. That commit is the only thing that counts: it looks again whether these slices are still what the block begins
 * with, and otherwise the new chunk is garbage at once.
 *
 * The content does not change, so neither does the block's version nor the inode's: a writer with an exclusive promise that
 * expects a version (F6) must not be told that somebody wrote.
 */
import { type ChunkId, chunkIdFromBytes, chunkIdToBytes, type InodeNumber } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import { type FoldPlan, isStillThere, planFold } from '../placement/plan-fold.ts';
import type { BlockRow, ChunkRow, InodeRow, ReplicaPlace, SlicePiece } from '../tables/gen/tables.ts';
import { BLOCKS, CHUNKS, type DataNumber, GARBAGE, INODES, REALMS, UNDER_REPLICATED } from '../tables/tables.ts';
import { type ReplicaRule, releaseChunk, replicaRule } from './chunks.ts';
import { isClosed } from './closed-disks.ts';
import { quotaOf } from './realm-border.ts';
import { noteIfShort, soundReplicas } from './replica-places.ts';
import { addStoredBytes } from './trash.ts';

/** Names a block of a file that may be emptied meanwhile: then nothing has this name any more. */
export interface BlockName {
  readonly data: DataNumber;
  readonly block: number;
}

export interface FoldOrder extends BlockName {
  readonly inode: InodeNumber;
  readonly realm: number;
  readonly rule: ReplicaRule;
  readonly compress: boolean;
  readonly plan: FoldPlan;
  /** The slices that go, for the look at the end. */
  readonly replaced: readonly SlicePiece[];
  readonly places: ReadonlyMap<ChunkId, readonly ReplicaPlace[]>;
}

/** 'never': the block has gone, or there is nothing to gain until it is written to again. 'later': its slices are not firm yet (D3). */
export function prepareFold(tx: OperationRun, { data, block }: BlockName): FoldOrder | 'later' | 'never' {
  const row = tx.get(BLOCKS, data, block);
  if (row === undefined) return 'never';
  const chunks = chunksOf(row.slices);
  tx.need(chunks.map((chunk) => CHUNKS.key(chunk)));
  const rows = new Map<ChunkId, ChunkRow>();
  for (const chunk of chunks) {
    const found = tx.get(CHUNKS, chunk);
    if (found !== undefined) rows.set(chunk, found);
  }
  const [any] = rows.values();
  if (any === undefined) return 'never';
  const owner = ownerOf(tx, any.inode as InodeNumber, data);
  if (owner === undefined) return 'never';
  const realm = tx.get(REALMS, owner.realm as never);
  const rule = replicaRule(realm);
  const isFirm = ({ chunk }: SlicePiece): boolean => {
    if (chunk.length !== 16) return true;
    const replicas = rows.get(chunkIdFromBytes(chunk))?.replicas ?? [];
    return replicas.filter(({ stable }) => stable).length >= rule.needed;
  };
  const filling = planFold(row.slices, isFirm);
  const plan =
    filling === undefined || hasRoom(tx, owner, filling.filledBytes) ? filling : planFold(row.slices, isFirm, false);
  if (plan === undefined) return row.slices.every(isFirm) ? 'never' : 'later';
  return {
    data,
    block,
    inode: any.inode as InodeNumber,
    realm: owner.realm,
    rule,
    compress: realm?.compressionOff !== true,
    plan,
    replaced: row.slices.slice(0, plan.replaced),
    places: new Map([...rows].map(([chunk, { replicas }]) => [chunk, replicas.filter(({ damaged }) => !damaged)])),
  };
}

export interface NewChunk {
  readonly chunk: ChunkId;
  readonly storedLength: number;
  readonly digest: Buffer;
  /** Each stable. */
  readonly replicas: readonly Omit<ReplicaPlace, 'damaged' | 'stable'>[];
}

/** False: the block is another one by now, the realm has no room for what would be filled, the chunk was condemned, or a node was drained that has it; then it is garbage. */
export function swapFolded(tx: OperationRun, order: FoldOrder, made: NewChunk | undefined): boolean {
  const { data, block, inode, plan, replaced } = order;
  const chunks = chunksOf(replaced);
  tx.need(chunks.map((chunk) => CHUNKS.key(chunk)));
  const row = tx.get(BLOCKS, data, block);
  const owner = ownerOf(tx, inode, data);
  const isRefused = made !== undefined && tx.get(GARBAGE, made.chunk) !== undefined;
  const isOnClosed = made?.replicas.some(({ disk }) => isClosed(tx, disk)) === true;
  const fits = owner !== undefined && hasRoom(tx, owner, plan.filledBytes);
  if (
    row === undefined ||
    owner === undefined ||
    isRefused ||
    isOnClosed ||
    !fits ||
    !isStillThere(replaced, row.slices)
  ) {
    if (made !== undefined && !isRefused) giveUp(tx, order, made);
    return false;
  }
  tx.need(shortOf(tx, chunks).map((chunk) => UNDER_REPLICATED.key(chunk)));
  const slices: SlicePiece[] = plan.slices.map((slice) => ({
    ...slice,
    chunk: made === undefined ? Buffer.alloc(0) : chunkIdToBytes(made.chunk),
  }));
  const folded: BlockRow = { ...row, slices: [...slices, ...row.slices.slice(plan.replaced)] };
  tx.put(BLOCKS, folded, data, block);
  if (made !== undefined) {
    // Its realm may be another one by now.
    const chunk = { ...rowOf(order, made, slices.length), realm: owner.realm };
    tx.put(CHUNKS, chunk, made.chunk);
    noteIfShort(tx, made.chunk, chunk);
  }
  for (const piece of replaced) releaseChunk(tx, piece);
  if (plan.filledBytes > 0) {
    addStoredBytes(tx, owner, plan.filledBytes);
    tx.put(INODES, { ...owner, storedBytes: owner.storedBytes + plan.filledBytes }, inode);
  }
  return true;
}

/** Nothing will ever name it: its nodes forget it with the next garbage. */
function giveUp(tx: OperationRun, order: FoldOrder, made: NewChunk): void {
  const storedBytes = made.storedLength * made.replicas.length;
  tx.put(CHUNKS, rowOf(order, made, 0), made.chunk);
  tx.put(GARBAGE, { since: tx.now, condemned: true, storedBytes, gone: false }, made.chunk);
}

function rowOf({ plan, rule, inode, block, realm }: FoldOrder, made: NewChunk, references: number): ChunkRow {
  return {
    length: plan.length,
    storedLength: made.storedLength,
    digest: made.digest,
    replicas: made.replicas.map((replica) => ({ ...replica, stable: true, damaged: false })),
    wanted: rule.wanted,
    references,
    inode,
    block,
    realm,
  };
}

/** The inode whose blocks bear this number. */
function ownerOf(tx: OperationRun, inode: InodeNumber, data: DataNumber): InodeRow | undefined {
  const row = tx.get(INODES, inode);
  return row !== undefined && row.type === InodeType.FILE && row.data === data ? row : undefined;
}

function hasRoom(tx: OperationRun, owner: InodeRow, moreBytes: number): boolean {
  if (moreBytes === 0) return true;
  const { limits, used } = quotaOf(tx, owner.realm);
  return limits.quotaBytes === 0 || used.bytes + moreBytes <= limits.quotaBytes;
}

function shortOf(tx: OperationRun, chunks: readonly ChunkId[]): ChunkId[] {
  return chunks.filter((chunk) => {
    const row = tx.get(CHUNKS, chunk);
    return row !== undefined && soundReplicas(row) < row.wanted;
  });
}

function chunksOf(slices: readonly SlicePiece[]): ChunkId[] {
  return [...new Set(slices.filter(({ chunk }) => chunk.length === 16).map(({ chunk }) => chunkIdFromBytes(chunk)))];
}
