/**
 * What must be stable before anything rests on it (D3): content that takes the place of a file, and content that an fsync
 * says is kept. Otherwise a loss of power could take the new content when the old one is gone already: the block would get back
 * its earlier content, and a new file has none. Looked up here; made stable by `session/stable-content.ts`.
 */
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, type InodeNumber, type NodeName, type RealmId } from '@collective/base/ids';
import { type ChunkCommit, InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { ChunkRow, InodeRow } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { BLOCKS, CHUNKS, INODES, REALMS, UNFIRM } from '../tables/tables.ts';
import { isFirm, realmRow, replicaRule, replicasOf } from './chunks.ts';
import {
  type FileAtVersion,
  type OperationContext,
  StableFirst,
  type StableKnowledge,
  type UnstableChunk,
} from './context.ts';
import { settleReplica } from './replica-stability.ts';

/** Chunks of a file that one step looks at. */
export const STABLE_STEP_CHUNKS = 256;

/** All that the file holds is stable on as many nodes as its realm needs; else stops the operation. */
export function requireStableFile(context: OperationContext, inode: InodeNumber, row: InodeRow): void {
  if (row.type !== InodeType.FILE || row.storedBytes === 0 || !context.stable.mayWait(inode)) return;
  const prefix = unfirmPrefix(inode);
  if (context.tx.scan(UNFIRM, prefix, prefixEnd(prefix), 1).length > 0)
    throw new StableFirst({ inode, version: row.version });
}

/** The same for chunks that a first commit brings. What such a commit may not say at all is refused when it is made. */
export function requireStableChunks(context: OperationContext, realm: number, commits: readonly ChunkCommit[]): void {
  if (!context.stable.mayWait('chunks')) return;
  const rule = replicaRule(realmRow(context, realm));
  const unstable = commits.flatMap((commit): UnstableChunk[] => {
    const chunk = chunkIdFromBytes(commit.chunk);
    const replicas = replicasOf(context, chunk, commit);
    const enough = replicas.length >= rule.needed;
    return enough && !isFirm({ replicas }, rule) ? [{ chunk, needed: rule.needed, replicas }] : [];
  });
  if (unstable.length > 0) throw new StableFirst(unstable);
}

export interface StableStep {
  /** Of the page, what nodes must still make stable; empty: go on with the next page. */
  readonly unstable: readonly UnstableChunk[];
  /** Where the next page begins; undefined: this was the last. */
  readonly next: string | undefined;
}

/**
 * One bounded step over what the file held in that version: notes what is known to be stable by now. `waited`: what the step
 * before left unstable. Throws `chunk_missing` when one of these is lost, because its nodes came back without it.
 */
export function stableStep(
  tx: OperationRun,
  { inode, version }: FileAtVersion,
  from: string | undefined,
  known: StableKnowledge,
  waited: readonly UnstableChunk[],
): StableStep {
  const prefix = unfirmPrefix(inode);
  const found = tx.scan(UNFIRM, from ?? prefix, prefixEnd(prefix), STABLE_STEP_CHUNKS);
  const chunks = found
    .filter(({ value }) => value.version <= version)
    .map(({ key }) => chunkIdFromBytes(bytesOf(key.slice(prefix.length))));
  tx.need([INODES.key(inode), ...[...chunks, ...waited.map(({ chunk }) => chunk)].map((chunk) => CHUNKS.key(chunk))]);
  for (const { chunk } of waited)
    if (tx.get(CHUNKS, chunk)?.replicas.length === 0)
      throw new CollectiveError(
        'chunk_missing',
        `Make inode ${inode} stable: chunk ${chunk} was lost with the power of its nodes before it was`,
      );
  const data = tx.get(INODES, inode)?.data;
  const rows = chunks.map((chunk) => ({ chunk, row: tx.get(CHUNKS, chunk) }));
  if (data !== undefined) tx.need(rows.flatMap(({ row }) => (row === undefined ? [] : blocksOf(data, row))));
  const unstable = rows.flatMap(({ chunk, row }): UnstableChunk[] => {
    if (row === undefined || data === undefined || !names(tx, data, row, chunk)) {
      // Cut away since: it belongs to no file any more.
      tx.remove(UNFIRM, inode, chunk);
      return [];
    }
    for (const { node, disk, incarnation, sequence, stable } of row.replicas)
      if (!stable && known.covers(chunk, { node, disk, incarnation, sequence }))
        settleReplica(tx, { node: node as NodeName, disk }, { incarnation, sequence, chunk });
    const { replicas } = tx.get(CHUNKS, chunk) ?? row;
    const rule = replicaRule(tx.get(REALMS, row.realm as RealmId));
    if (!isFirm({ replicas }, rule))
      return [{ chunk, needed: rule.needed, replicas: replicas.filter(({ damaged }) => !damaged) }];
    tx.remove(UNFIRM, inode, chunk);
    return [];
  });
  const last = found.at(-1);
  return { unstable, next: last === undefined || found.length < STABLE_STEP_CHUNKS ? undefined : `${last.key}\0` };
}

function unfirmPrefix(inode: InodeNumber): string {
  return UNFIRM.key(inode, '' as ChunkId);
}

/** Appended data may lie over two blocks: the row names the first. */
function blocksOf(data: number, { block }: ChunkRow): string[] {
  return [BLOCKS.key(data, block), BLOCKS.key(data, block + 1)];
}

function names(tx: OperationRun, data: number, { block }: ChunkRow, chunk: ChunkId): boolean {
  const id = Buffer.from(chunk, 'hex');
  return [block, block + 1].some((index) =>
    tx.get(BLOCKS, data, index)?.slices.some((piece) => Buffer.compare(piece.chunk, id) === 0),
  );
}
