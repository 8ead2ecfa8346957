/**
 * Chunks on nodes that no row says to lie there: what became of uploads that were given up, of copies that a repair made before
 * it died, of nodes that came back after they were given up. They are noted, kept for a grace time, and only then go.
 *
 * Two things keep what somebody still needs from being forgotten. A chunk without a row is condemned first (D2), like garbage,
 * so that a commit that names it is refused and its client uploads again; the refusal stays until nobody is left who may
 * commit the id (`owned-chunk-ids.ts`). A copy too many of a chunk that has a row is marked as leaving in a commit that looks
 * again, and until its node has forgotten it, and some time longer, it cannot become a replica.
 */
import type { Timestamp } from '@collective/base/clock';
import { type ChunkId, chunkIdFromBytes, type NodeName } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import {
  compareInventory,
  type Inventory,
  type InventoryFindings,
  isNeeded,
  isTooMany,
  type NamedChunk,
} from '../placement/plan-inventory.ts';
import type { OrphanChunkRow, ReplicaPlace } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { CHUNKS, diskPrefix, GARBAGE, ORPHAN_CHUNKS, UNDER_REPLICATED } from '../tables/tables.ts';
import { closedKeys } from './closed-disks.ts';
import type { Place } from './garbage.ts';
import { isDue } from './grace.ts';
import { addReplica, dropReplica, markDamaged, soundReplicas } from './replica-places.ts';
import { settleCopied } from './replica-stability.ts';

/** Rows of chunks, and notes, that one look reads. */
export const INVENTORY_STEP = 1_000;
/** Notes in one page of a walk over all. */
export const ORPHAN_PAGE = 500;

/** Above all that are given. */
export const LAST_CHUNK = 'f'.repeat(32) as ChunkId;

export interface CompareStep extends InventoryFindings {
  /** Compared up to here, inclusive. */
  readonly through: ChunkId;
  /** Strays that their chunk needs as replicas. */
  readonly needed: readonly NamedChunk[];
}

/** Compares ids above `after` and up to `through`, or as far as one step reads. */
export function compareStep(
  tx: OperationRun,
  inventory: Inventory,
  after: ChunkId | undefined,
  through: ChunkId = LAST_CHUNK,
): CompareStep {
  const node = inventory.node as NodeName;
  const above = (key: string): string => (after === undefined ? key : `${key}${byteKey(after)}\0`);
  const upTo = (key: string): string => `${key}${byteKey(through)}\0`;
  const notes = ORPHAN_CHUNKS.prefix + diskPrefix(node, inventory.disk);
  const rowRange = { from: above(CHUNKS.prefix), to: upTo(CHUNKS.prefix), limit: INVENTORY_STEP };
  const noteRange = { from: above(notes), to: upTo(notes), limit: INVENTORY_STEP };
  tx.needScans([rowRange, noteRange]);
  const rows = tx.scan(CHUNKS, rowRange.from, rowRange.to, INVENTORY_STEP).map(({ key, value }) => ({
    chunk: chunkAt(key, CHUNKS.prefix.length),
    row: value,
  }));
  const noted = tx.scan(ORPHAN_CHUNKS, noteRange.from, noteRange.to, INVENTORY_STEP).map(({ key, value }) => ({
    chunk: chunkAt(key, notes.length),
    row: value,
  }));
  const reached = [rows, noted]
    .filter(({ length }) => length === INVENTORY_STEP)
    .map((full) => full.at(-1)?.chunk ?? through)
    .reduce((least, chunk) => (chunk < least ? chunk : least), through);
  const within = ({ chunk }: { readonly chunk: ChunkId }): boolean => chunk <= reached;
  const chunks = new Set(
    [...inventory.chunks].filter((chunk) => (after === undefined || chunk > after) && chunk <= reached),
  );
  const findings = compareInventory({ ...inventory, chunks }, rows.filter(within), noted.filter(within));
  tx.need(findings.strays.map(({ chunk }) => UNDER_REPLICATED.key(chunk)));
  const needed = findings.strays.filter(({ chunk, row }) => isNeeded(row, isNoted(tx, chunk)));
  return { ...findings, through: reached, needed };
}

export interface Noted {
  readonly dropped: number;
  /** Chunks whose only replica was missing: nobody has them any more, as far as rows tell. */
  readonly lost: readonly ChunkId[];
}

/** Writes down what a step found, after another look at each row. */
export function noteFindings(
  tx: OperationRun,
  place: Place,
  { missing, orphans, settled }: Pick<InventoryFindings, 'missing' | 'orphans' | 'settled'>,
): Noted {
  const node = place.node as NodeName;
  tx.need([...missing.map(({ chunk }) => chunk), ...orphans].flatMap(keysOf));
  tx.need([...orphans, ...settled].map((chunk) => ORPHAN_CHUNKS.key(node, place.disk, chunk)));
  for (const chunk of settled)
    if (tx.get(ORPHAN_CHUNKS, node, place.disk, chunk)?.leaving === false)
      tx.remove(ORPHAN_CHUNKS, node, place.disk, chunk);
  for (const chunk of orphans) {
    const named = tx.get(CHUNKS, chunk)?.replicas.some((each) => isAt(each, place));
    if (named || tx.get(ORPHAN_CHUNKS, node, place.disk, chunk) !== undefined) continue;
    tx.put(ORPHAN_CHUNKS, { since: tx.now, leaving: false, forgotten: undefined }, node, place.disk, chunk);
  }
  let dropped = 0;
  const lost: ChunkId[] = [];
  for (const { chunk, place: was } of missing) {
    const row = tx.get(CHUNKS, chunk);
    const is = row?.replicas.find((each) => isAt(each, place));
    if (row === undefined || is === undefined || !sameReplica(is, was)) continue;
    // The last place that is known stays, as a damaged one: if the node was wrong, it shows again what it has.
    if (row.replicas.length > 1) dropReplica(tx, chunk, place);
    else if (!is.damaged) markDamaged(tx, chunk, place);
    else continue;
    dropped += 1;
    if (row.references > 0 && soundReplicas(tx.get(CHUNKS, chunk) ?? row) === 0) lost.push(chunk);
  }
  return { dropped, lost };
}

export interface ReadCopy extends Omit<ReplicaPlace, 'damaged' | 'stable'> {
  readonly chunk: ChunkId;
  readonly digest: Uint8Array;
}

/** Copies that were read and are whole become replicas of chunks that need them. Answers how many did. */
export function adoptCopies(tx: OperationRun, copies: readonly ReadCopy[]): number {
  tx.need([
    ...copies.flatMap(({ chunk, node, disk }) => [...keysOf(chunk), ORPHAN_CHUNKS.key(node as NodeName, disk, chunk)]),
    ...closedKeys(copies.map(({ disk }) => disk)),
  ]);
  let adopted = 0;
  for (const { chunk, digest, ...place } of copies) {
    const row = tx.get(CHUNKS, chunk);
    if (row === undefined || row.references === 0 || Buffer.compare(row.digest, digest) !== 0) continue;
    const adoptedRow = addReplica(tx, chunk, place);
    if (adoptedRow === undefined) continue;
    settleCopied(tx, chunk, row, adoptedRow);
    adopted += 1;
  }
  return adopted;
}

function isAt(each: Place, place: Place): boolean {
  return each.node === place.node && each.disk === place.disk;
}

function sameReplica(a: ReplicaPlace, b: ReplicaPlace): boolean {
  return a.incarnation === b.incarnation && a.sequence === b.sequence && a.stable === b.stable;
}

// ---- on their way out ----

export interface OrphanChunk extends OrphanChunkRow, Place {
  readonly chunk: ChunkId;
  readonly key: string;
}

/** A page of all notes, by node, disk and chunk. */
export function orphanPage(tx: OperationRun, after: string | undefined, limit: number): OrphanChunk[] {
  const from = after === undefined ? ORPHAN_CHUNKS.prefix : `${after}\0`;
  return tx.scan(ORPHAN_CHUNKS, from, prefixEnd(ORPHAN_CHUNKS.prefix), limit).map(({ key, value }) => {
    const [node = '', disk = ''] = bytesOf(key.slice(ORPHAN_CHUNKS.prefix.length, -16)).toString('utf8').split('\0');
    return { ...value, node, disk, chunk: chunkAt(key, key.length - 16), key };
  });
}

export interface LeavingStep {
  /** Without a row: condemned, and may be forgotten when this is stable. */
  readonly condemned: ChunkId[];
  /** Copies too many; their other replicas must be read before. */
  readonly tooMany: NamedChunk[];
}

/** Judges orphans of one disk that are due; condemns those that nobody can commit any more but with a refusal. */
export function condemnOrphans(tx: OperationRun, place: Place, chunks: readonly ChunkId[]): LeavingStep {
  const node = place.node as NodeName;
  tx.need([
    ...chunks.flatMap((chunk) => [...keysOf(chunk), GARBAGE.key(chunk), ORPHAN_CHUNKS.key(node, place.disk, chunk)]),
  ]);
  const condemned: ChunkId[] = [];
  const tooMany: NamedChunk[] = [];
  for (const chunk of chunks) {
    const note = tx.get(ORPHAN_CHUNKS, node, place.disk, chunk);
    if (note === undefined) continue;
    const row = tx.get(CHUNKS, chunk);
    if (row === undefined) {
      if (tx.get(GARBAGE, chunk) === undefined)
        tx.put(GARBAGE, { since: tx.now, condemned: true, storedBytes: 0, gone: true }, chunk);
      tx.put(ORPHAN_CHUNKS, { ...note, leaving: true }, node, place.disk, chunk);
      condemned.push(chunk);
    } else if (row.replicas.some((each) => isAt(each, place))) {
      if (!note.leaving) tx.remove(ORPHAN_CHUNKS, node, place.disk, chunk);
    } else if (note.leaving) condemned.push(chunk);
    else if (isTooMany(row, isNoted(tx, chunk), place)) tooMany.push({ chunk, row });
  }
  return { condemned, tooMany };
}

/** The other replicas were read and are whole: these copies leave, unless their rows have changed since. Answers those that do. */
export function markLeaving(tx: OperationRun, place: Place, chunks: readonly NamedChunk[]): ChunkId[] {
  const node = place.node as NodeName;
  tx.need(chunks.flatMap(({ chunk }) => [...keysOf(chunk), ORPHAN_CHUNKS.key(node, place.disk, chunk)]));
  return chunks.flatMap(({ chunk, row: judged }) => {
    const note = tx.get(ORPHAN_CHUNKS, node, place.disk, chunk);
    const row = tx.get(CHUNKS, chunk);
    const unchanged =
      row !== undefined && isTooMany(row, isNoted(tx, chunk), place) && samePlaces(row.replicas, judged.replicas);
    if (note === undefined || !unchanged) return [];
    tx.put(ORPHAN_CHUNKS, { ...note, leaving: true }, node, place.disk, chunk);
    return [chunk];
  });
}

function samePlaces(a: readonly ReplicaPlace[], b: readonly ReplicaPlace[]): boolean {
  return (
    a.length === b.length &&
    a.every((each) =>
      b.some((other) => isAt(each, other) && sameReplica(each, other) && each.damaged === other.damaged),
    )
  );
}

export function noteForgotten(tx: OperationRun, place: Place, chunks: readonly ChunkId[]): void {
  const node = place.node as NodeName;
  tx.need(chunks.map((chunk) => ORPHAN_CHUNKS.key(node, place.disk, chunk)));
  for (const chunk of chunks) {
    const note = tx.get(ORPHAN_CHUNKS, node, place.disk, chunk);
    if (note?.leaving) tx.put(ORPHAN_CHUNKS, { ...note, forgotten: tx.now }, node, place.disk, chunk);
  }
}

export function dropNotes(tx: OperationRun, notes: readonly OrphanChunk[]): void {
  for (const { node, disk, chunk } of notes) tx.remove(ORPHAN_CHUNKS, node as NodeName, disk, chunk);
}

/** Of the row of a chunk, and of its note for repair. */
function keysOf(chunk: ChunkId): string[] {
  return [CHUNKS.key(chunk), UNDER_REPLICATED.key(chunk)];
}

function isNoted(tx: OperationRun, chunk: ChunkId): boolean {
  return tx.get(UNDER_REPLICATED, chunk) !== undefined;
}

function byteKey(chunk: ChunkId): string {
  return Buffer.from(chunk, 'hex').toString('latin1');
}

function chunkAt(key: string, at: number): ChunkId {
  return chunkIdFromBytes(bytesOf(key.slice(at, at + 16)));
}

export function isOrphanDue(note: OrphanChunk, now: Timestamp, graceSeconds: number): boolean {
  return note.leaving ? note.forgotten === undefined : isDue(note.since, now, graceSeconds);
}
