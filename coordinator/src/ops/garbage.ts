/**
 * Chunks that no slice names any more, on their way out (D2, D8). In order: condemned in a commit that looks again whether
 * anything names them; told to their nodes; then their rows go. From the first step on no commit can bring them back, so
 * what is named is never deleted, wherever a crash falls. All steps may be made twice.
 */
import { type ChunkId, chunkIdFromBytes, type NodeName } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import type { ChunkRow, GarbageRow } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { CHUNKS, GARBAGE, UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';
import { isDue } from './grace.ts';
import { noLongerForRepair } from './replica-places.ts';

/** Rows of one page of a walk over all garbage. */
export const GARBAGE_PAGE = 1_000;
/** Chunks that one commit condemns, or takes away: each costs up to a dozen keys. */
export const CONDEMN_MAX = 500;

/** One disk of a node. */
export interface Place {
  readonly node: string;
  readonly disk: string;
}

export function placeKey({ node, disk }: Place): string {
  return `${node}\0${disk}`;
}

export interface GarbageChunk extends GarbageRow {
  readonly chunk: ChunkId;
}

/** A page of garbage in the order of ids; fewer rows than `limit`: there are no more. */
export function garbagePage(tx: OperationRun, after: ChunkId | undefined, limit: number): GarbageChunk[] {
  const from = after === undefined ? GARBAGE.prefix : `${GARBAGE.key(after)}\0`;
  return tx
    .scan(GARBAGE, from, prefixEnd(GARBAGE.prefix), limit)
    .map(({ key, value }) => ({ ...value, chunk: chunkIdFromBytes(bytesOf(key.slice(GARBAGE.prefix.length))) }));
}

export interface CondemnedChunk {
  readonly chunk: ChunkId;
  readonly places: readonly Place[];
}

/** Condemns those that are garbage still and for long enough; answers these and those condemned before, with where they lie. */
export function condemn(tx: OperationRun, chunks: readonly ChunkId[], graceSeconds: number): CondemnedChunk[] {
  tx.need(chunks.flatMap((chunk) => [GARBAGE.key(chunk), CHUNKS.key(chunk)]));
  return chunks.flatMap((chunk) => {
    const garbage = tx.get(GARBAGE, chunk);
    const row = tx.get(CHUNKS, chunk);
    if (garbage === undefined || garbage.gone || (row !== undefined && row.references > 0)) return [];
    if (!garbage.condemned) {
      if (!isDue(garbage.since, tx.now, graceSeconds)) return [];
      tx.put(GARBAGE, { ...garbage, condemned: true }, chunk);
    }
    return [{ chunk, places: row?.replicas ?? [] }];
  });
}

/** Refusals that nobody can meet any more go. */
export function dropRefusals(tx: OperationRun, chunks: readonly ChunkId[]): void {
  tx.need(chunks.map((chunk) => GARBAGE.key(chunk)));
  for (const chunk of chunks) if (tx.get(GARBAGE, chunk)?.gone) tx.remove(GARBAGE, chunk);
}

export interface TakenAway {
  readonly chunks: number;
  readonly storedBytes: number;
}

/** Places where these condemned chunks are no more. A chunk goes when it lies nowhere; others are left with what remains. */
export function takeAway(
  tx: OperationRun,
  chunks: readonly { readonly chunk: ChunkId; readonly goneFrom: ReadonlySet<string> }[],
): TakenAway {
  tx.need(chunks.flatMap(({ chunk }) => [GARBAGE.key(chunk), CHUNKS.key(chunk), UNDER_REPLICATED.key(chunk)]));
  let taken = 0;
  let storedBytes = 0;
  for (const { chunk, goneFrom } of chunks) {
    const garbage = tx.get(GARBAGE, chunk);
    if (!garbage?.condemned) continue;
    const row = tx.get(CHUNKS, chunk);
    const places = row?.replicas ?? [];
    const left = places.filter((place) => !goneFrom.has(placeKey(place)));
    for (const place of places) if (!left.includes(place)) forgetUnstable(tx, chunk, place);
    if (row !== undefined && left.length > 0) {
      if (left.length < places.length) tx.put(CHUNKS, { ...row, replicas: left }, chunk);
      continue;
    }
    tx.remove(CHUNKS, chunk);
    noLongerForRepair(tx, chunk);
    // A chunk that no node had was lost before it was stable (D3): whoever wrote it may still be about to commit it again.
    if (places.length === 0) tx.put(GARBAGE, { ...garbage, gone: true, storedBytes: 0 }, chunk);
    else tx.remove(GARBAGE, chunk);
    taken += 1;
    storedBytes += garbage.storedBytes;
  }
  return { chunks: taken, storedBytes };
}

function forgetUnstable(tx: OperationRun, chunk: ChunkId, place: ChunkRow['replicas'][number]): void {
  if (place.stable) return;
  tx.remove(UNSTABLE, place.node as NodeName, place.disk, place.incarnation, place.sequence, chunk);
}
