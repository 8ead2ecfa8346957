/**
 * Compares what one disk of a node holds with what the rows say of it (D2: inventories only correct them). Pure: two lists and
 * the notes of earlier looks go in, what differs comes out. Whoever acts on it reads the rows again before.
 */
import type { ChunkId } from '@collective/base/ids';
import { soundReplicas } from '../ops/replica-places.ts';
import type { ChunkRow, OrphanChunkRow, ReplicaPlace } from '../tables/gen/tables.ts';

export interface Inventory {
  readonly node: string;
  readonly disk: string;
  readonly incarnation: number;
  /** Everything that was put before the list was made is at or below it, within this incarnation. */
  readonly sequence: number;
  /** All that it holds in the range of ids that is compared. */
  readonly chunks: ReadonlySet<ChunkId>;
}

export interface NamedChunk {
  readonly chunk: ChunkId;
  readonly row: ChunkRow;
}

export interface NotedOrphan {
  readonly chunk: ChunkId;
  readonly row: OrphanChunkRow;
}

export interface InventoryFindings {
  /** Rows name this disk, and it lacks them. */
  readonly missing: readonly { readonly chunk: ChunkId; readonly place: ReplicaPlace }[];
  /** It holds them, no row says so, and that was not noted yet. */
  readonly orphans: readonly ChunkId[];
  /** Noted as such before, and not so any more. */
  readonly settled: readonly ChunkId[];
  /** Chunks that have a row which does not count on this disk: a copy too many, or the one that is needed. */
  readonly strays: readonly NamedChunk[];
  /** All that it holds and no row says so. */
  readonly unnamed: number;
}

/** `rows` and `noted`: all in the same range of ids as the inventory. */
export function compareInventory(
  inventory: Inventory,
  rows: readonly NamedChunk[],
  noted: readonly NotedOrphan[],
): InventoryFindings {
  const missing: { chunk: ChunkId; place: ReplicaPlace }[] = [];
  const strays: NamedChunk[] = [];
  const named = new Set<ChunkId>();
  for (const { chunk, row } of rows) {
    const place = row.replicas.find(({ node, disk }) => node === inventory.node && disk === inventory.disk);
    if (place === undefined) {
      if (inventory.chunks.has(chunk)) strays.push({ chunk, row });
      continue;
    }
    named.add(chunk);
    if (!inventory.chunks.has(chunk)) {
      if (isWithin(place, inventory)) missing.push({ chunk, place });
    } else if (place.damaged && soundReplicas(row) === 0) strays.push({ chunk, row });
  }
  const known = new Set(noted.map(({ chunk }) => chunk));
  const unnamed = [...inventory.chunks].filter((chunk) => !named.has(chunk));
  return {
    missing,
    unnamed: unnamed.length,
    orphans: unnamed.filter((chunk) => !known.has(chunk)),
    // What is on its way out is looked after until its node has said so (`jobs/orphans.ts`).
    settled: noted.flatMap(({ chunk, row }) =>
      !row.leaving && (named.has(chunk) || !inventory.chunks.has(chunk)) ? [chunk] : [],
    ),
    strays,
  };
}

/** The list says something of this replica: it was put before, and is not one of those that a restart may have taken (D3). */
function isWithin(place: ReplicaPlace, { incarnation, sequence }: Inventory): boolean {
  if (!place.stable) return false;
  if (place.incarnation !== incarnation) return place.incarnation < incarnation;
  return place.sequence <= sequence;
}

/** A stray that is needed: its row tells of fewer sound replicas than it should have, or it was noted for repair. */
export function isNeeded(row: ChunkRow, noted: boolean): boolean {
  return row.references > 0 && (noted || soundReplicas(row) < row.wanted);
}

/** A stray that may go once the others were read again (D8). Garbage is not its business. */
export function isTooMany(row: ChunkRow, noted: boolean, at: { readonly node: string }): boolean {
  const elsewhere = row.replicas.filter(({ node, damaged }) => node !== at.node && !damaged);
  return row.references > 0 && !noted && elsewhere.length >= row.wanted;
}
