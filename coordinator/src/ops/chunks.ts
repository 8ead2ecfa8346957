/**
 * Chunk rows (D1-D3, D8): where a chunk lies is written by the commit that first names it; a chunk that no slice names
 * any more becomes garbage, which a later job collects after its grace time.
 */
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, type InodeNumber, type NodeName, type RealmId } from '@collective/base/ids';
import { BLOCK_BYTES, COMMIT_SLICES_MAX, REPLICAS_MAX } from '@collective/base/limits';
import type { ChunkCommit } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { ChunkRow, RealmRow, ReplicaPlace, SlicePiece } from '../tables/gen/tables.ts';
import { CHUNKS, GARBAGE, REALMS, UNFIRM, UNSTABLE } from '../tables/tables.ts';
import { closedKeys, isClosed } from './closed-disks.ts';
import type { OperationContext } from './context.ts';
import { noLongerForRepair, noteIfShort, soundReplicas } from './replica-places.ts';

const REPLICAS_DEFAULT = 2;
const MIN_REPLICAS_DEFAULT = 1;

export interface ReplicaRule {
  readonly wanted: number;
  readonly needed: number;
}

export function replicaRule(realm: Pick<RealmRow, 'replicas' | 'minReplicas'> | undefined): ReplicaRule {
  const wanted = realm?.replicas || REPLICAS_DEFAULT;
  return { wanted, needed: Math.min(wanted, realm?.minReplicas || MIN_REPLICAS_DEFAULT) };
}

/** D3: stable on as many nodes as its realm needs. */
export function isFirm({ replicas }: Pick<ChunkRow, 'replicas'>, { needed }: ReplicaRule): boolean {
  return replicas.filter(({ stable, damaged }) => stable && !damaged).length >= needed;
}

/** Where a commit says that a chunk lies: one replica a node, whatever the client says. */
export function replicasOf(context: OperationContext, id: ChunkId, commit: ChunkCommit): ReplicaPlace[] {
  const good = commit.replicas.filter(({ failure, disk }) => failure === undefined && !isClosed(context.tx, disk));
  return [...new Map(good.map((each) => [each.node, each])).values()].map(
    ({ node, disk, stable, incarnation, sequence }) => ({
      node,
      disk,
      // Its node may have synced since the put was answered.
      stable: stable || context.stable.covers(id, { node, disk, incarnation, sequence }),
      incarnation,
      sequence,
      damaged: false,
    }),
  );
}

export function realmRow(context: OperationContext, realm: number): RealmRow {
  const row = context.tx.get(REALMS, realm as RealmId);
  if (row === undefined) throw new CollectiveError('internal', `Use realm ${realm}: it has no row`);
  return row;
}

/** Chunk rows that a commit makes, not yet written: references are counted while its slices are applied. */
export class ChunkCommits {
  readonly #context: OperationContext;
  readonly #rows = new Map<ChunkId, ChunkRow>();
  readonly #rule: ReplicaRule;
  readonly #realm: number;
  readonly #inode: number;

  constructor(context: OperationContext, realm: number, commits: readonly ChunkCommit[], inode: number) {
    this.#context = context;
    this.#realm = realm;
    this.#inode = inode;
    this.#rule = replicaRule(realmRow(context, realm));
    if (commits.length > COMMIT_SLICES_MAX)
      throw new CollectiveError(
        'invalid_argument',
        `Commit ${commits.length} chunks at once: at most ${COMMIT_SLICES_MAX} are allowed`,
      );
    const ids = commits.map((commit) => chunkIdFromBytes(commit.chunk));
    context.tx.need([
      ...ids.flatMap((id) => [CHUNKS.key(id), GARBAGE.key(id)]),
      ...closedKeys(commits.flatMap(({ replicas }) => replicas.map(({ disk }) => disk))),
    ]);
    for (const [i, commit] of commits.entries()) {
      const id = ids[i];
      if (id !== undefined) this.#rows.set(id, this.#known(id) ?? this.#row(id, commit));
    }
  }

  /**
   * The row of a chunk that was committed before, if there is one. Ids can be guessed, so only the file that has the chunk
   * may name it again: a slice of somebody else's chunk would be a way around modes and realms (M9).
   */
  #known(id: ChunkId): ChunkRow | undefined {
    const { tx } = this.#context;
    tx.need([CHUNKS.key(id), GARBAGE.key(id)]);
    if (tx.get(GARBAGE, id)?.condemned)
      throw new CollectiveError(
        'chunk_condemned',
        `Commit chunk ${id}: it was condemned as garbage; upload its data again`,
      );
    const known = tx.get(CHUNKS, id);
    // Nobody named it any more when its node was found empty.
    if (known?.references === 0 && known.replicas.some(({ disk }) => isClosed(tx, disk)))
      throw new CollectiveError(
        'chunk_condemned',
        `Commit chunk ${id}: it lies on a node that was drained meanwhile; upload its data again`,
      );
    // Not by its realm: that follows the file's a moment later when it moves (M9).
    if (known !== undefined && known.inode !== this.#inode)
      throw new CollectiveError('permission_denied', `Commit a slice of chunk ${id}: it belongs to another file`);
    return known;
  }

  #row(id: ChunkId, commit: ChunkCommit): ChunkRow {
    if (!this.#context.caller.ownsChunk(id))
      throw new CollectiveError(
        'chunk_foreign',
        `Commit chunk ${id}: its id was not given to this session; upload its data again under an id that was`,
      );
    if (commit.length < 1 || commit.length > BLOCK_BYTES)
      throw new CollectiveError(
        'invalid_argument',
        `Commit chunk ${id} of ${commit.length} bytes: 1 to ${BLOCK_BYTES} are allowed`,
      );
    const replicas = replicasOf(this.#context, id, commit);
    if (replicas.length > REPLICAS_MAX)
      throw new CollectiveError(
        'invalid_argument',
        `Commit chunk ${id} with ${replicas.length} replicas: at most ${REPLICAS_MAX}`,
      );
    const onClosed = commit.replicas.some(({ disk }) => isClosed(this.#context.tx, disk));
    if (replicas.length < Math.max(this.#rule.needed, 1) && onClosed)
      throw new CollectiveError(
        'chunk_condemned',
        `Commit chunk ${id}: it lies on a node that was drained meanwhile; upload its data again`,
      );
    if (replicas.length < Math.max(this.#rule.needed, 1))
      throw new CollectiveError(
        'unavailable',
        `Commit chunk ${id}: it lies on ${replicas.length} nodes, its realm needs ${this.#rule.needed}`,
      );
    return {
      length: commit.length,
      storedLength: commit.storedLength,
      digest: commit.digest,
      replicas,
      wanted: this.#rule.wanted,
      references: 0,
      inode: this.#inode,
      block: 0,
      realm: this.#realm,
    };
  }

  /** A slice of this commit, in this block, names the chunk. */
  reference(piece: SlicePiece, block: number): void {
    const id = chunkIdFromBytes(piece.chunk);
    const row = this.#rows.get(id) ?? this.#known(id);
    if (row === undefined)
      throw new CollectiveError(
        'invalid_argument',
        `Commit a slice of chunk ${id}, which the commit does not describe`,
      );
    if (piece.chunkOffset + piece.length > row.length)
      throw new CollectiveError(
        'invalid_argument',
        `Commit a slice that ends at byte ${piece.chunkOffset + piece.length} of chunk ${id}, which has ${row.length}`,
      );
    // Appended data may lie over two blocks; nothing else does, so that a lost chunk is found by the block in its row (D3).
    if (row.references > 0 && block !== row.block && block !== row.block + 1)
      throw new CollectiveError(
        'invalid_argument',
        `Commit a slice of chunk ${id} to block ${block}: it is in block ${row.block}`,
      );
    this.#rows.set(id, { ...row, block: row.references === 0 ? block : row.block, references: row.references + 1 });
  }

  isFirm(piece: SlicePiece): boolean {
    if (piece.chunk.length !== 16) return true;
    const id = chunkIdFromBytes(piece.chunk);
    const row = this.#rows.get(id) ?? this.#context.tx.get(CHUNKS, id);
    return row !== undefined && isFirm(row, this.#rule);
  }

  /** Writes the rows of all chunks that got a reference. `version`: of the file's data after this commit. */
  write(version: number): void {
    const { tx } = this.#context;
    for (const [id, row] of this.#rows) {
      if (row.references === 0) continue;
      const before = tx.get(CHUNKS, id);
      tx.put(CHUNKS, row, id);
      if (before !== undefined) {
        if (tx.get(GARBAGE, id) === undefined) continue;
        tx.remove(GARBAGE, id);
        this.#note(id, row, version);
        continue;
      }
      for (const replica of row.replicas)
        if (!replica.stable)
          tx.put(
            UNSTABLE,
            { value: Buffer.from(id, 'hex') },
            replica.node as NodeName,
            replica.disk,
            replica.incarnation,
            replica.sequence,
            id,
          );
      this.#note(id, row, version);
    }
  }

  #note(id: ChunkId, row: ChunkRow, version: number): void {
    const { tx } = this.#context;
    if (!isFirm(row, this.#rule)) tx.put(UNFIRM, { version }, row.inode as InodeNumber, id);
    noteIfShort(tx, id, row);
  }
}

/** A slice that named the chunk is gone. The last one makes the chunk garbage. */
export function releaseChunk(tx: OperationRun, piece: SlicePiece): void {
  if (piece.chunk.length !== 16) return;
  const id = chunkIdFromBytes(piece.chunk);
  const row = tx.get(CHUNKS, id);
  // A chunk that was lost before it was stable (D3) is condemned with all its slices, also those that a removed file left.
  if (row === undefined || row.references === 0) return;
  tx.put(CHUNKS, { ...row, references: row.references - 1 }, id);
  if (row.references > 1) return;
  const storedBytes = row.storedLength * row.replicas.length;
  tx.put(GARBAGE, { since: tx.now, condemned: false, storedBytes, gone: false }, id);
  // Nobody misses replicas of garbage.
  // What the picture of the nodes found short is taken off by the repair itself.
  if (soundReplicas(row) < row.wanted) noLongerForRepair(tx, id);
  // Nor waits anybody for them to be stable.
  if (row.replicas.some(({ stable }) => !stable)) tx.remove(UNFIRM, row.inode as InodeNumber, id);
}
