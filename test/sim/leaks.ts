/**
 * What must hold when nothing goes wrong any more and the jobs in the background have had their time (D2, D8): rows and disks
 * agree to the last chunk, everything that is named has its replicas, and nothing else is left anywhere.
 */
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, type InodeNumber, type NodeName, ROOT_REALM } from '@collective/base/ids';
import type { Engine } from '@collective/coordinator/engine/engine';
import type { OperationRun } from '@collective/coordinator/engine/operation-run';
import { replicaRule } from '@collective/coordinator/ops/chunks';
import { storedRealms } from '@collective/coordinator/ops/realms';
import type { Duty } from '@collective/coordinator/placement/node-picture';
import type { BlockRow, ChunkRow, GarbageRow } from '@collective/coordinator/tables/gen/tables';
import { bytesOf, prefixEnd, readBigEndian, type Table } from '@collective/coordinator/tables/table';
import {
  BLOCKS,
  CHUNKS,
  CLOSED_DISKS,
  DENTRIES,
  DOOMED,
  GARBAGE,
  INODES,
  JOB_LINKS,
  JOB_VISITS,
  ORPHAN_CHUNKS,
  ORPHANS,
  REALMS,
  REPAIR_ORDER,
  TRASH,
  UNDER_REPLICATED,
  UNFIRM,
  UNSTABLE,
} from '@collective/coordinator/tables/tables';
import { type RealmRows, wrongRealms } from './realm-rows.ts';

const CHUNK_ID_BYTES = 16;
/** More than any run makes. */
export const ROWS_MAX = 10_000;

export interface KeptRows {
  readonly wanted: number;
  readonly blocks: readonly BlockRow[];
  readonly chunks: ReadonlyMap<ChunkId, ChunkRow>;
  readonly garbage: ReadonlyMap<ChunkId, GarbageRow>;
  readonly realms: RealmRows;
  /** Disks on which nothing may come to lie. */
  readonly closed: ReadonlySet<string>;
  /** Rows of work that is still to be done, by table. */
  readonly todo: ReadonlyMap<string, readonly Row<object>[]>;
}

interface Row<V> {
  readonly key: string;
  readonly value: V;
}

/** The disk of a node, as it is. */
export interface KeptStore {
  readonly node: string;
  readonly disk: string;
  readonly duty: Duty;
  readonly chunks: readonly ChunkId[];
  readonly damaged: readonly ChunkId[];
}

export function readRows(engine: Engine): Promise<KeptRows> {
  return engine.run((tx) => {
    const all = <V>(table: Table<readonly never[], V>): Row<V>[] =>
      tx.scan(table, table.prefix, prefixEnd(table.prefix), ROWS_MAX);
    const byChunk = <V>(table: Table<readonly never[], V>): Map<ChunkId, V> =>
      new Map(all(table).map(({ key, value }) => [chunkIdFromBytes(bytesOf(key.slice(table.prefix.length))), value]));
    const inodeAt = (key: string, at: number): InodeNumber => readBigEndian(key, at, 6) as InodeNumber;
    return {
      // All realms of a run have the same rule.
      wanted: replicaRule(tx.get(REALMS, ROOT_REALM)).wanted,
      realms: {
        realms: new Map(storedRealms(tx).map(({ realm, row }) => [realm, { row, usage: tx.usageOf(realm) }])),
        inodes: new Map(all(INODES).map(({ key, value }) => [inodeAt(key, INODES.prefix.length), value])),
        names: all(DENTRIES).map(({ key, value }) => ({
          parent: inodeAt(key, DENTRIES.prefix.length),
          inode: value.inode as InodeNumber,
        })),
      },
      closed: new Set(all(CLOSED_DISKS).map(({ key }) => bytesOf(key.slice(CLOSED_DISKS.prefix.length)).toString())),
      blocks: all(BLOCKS).map(({ value }) => value),
      chunks: byChunk(CHUNKS),
      garbage: byChunk(GARBAGE),
      todo: new Map(WORK_TABLES.map((table) => [table.name, openRows(tx, table)])),
    };
  });
}

const WORK_TABLES = [
  JOB_VISITS,
  JOB_LINKS,
  DOOMED,
  ORPHANS,
  TRASH,
  UNSTABLE,
  UNFIRM,
  UNDER_REPLICATED,
  REPAIR_ORDER,
  ORPHAN_CHUNKS,
] as const;

function openRows(tx: OperationRun, table: (typeof WORK_TABLES)[number]): Row<object>[] {
  const rows = tx.scan(table as Table<readonly never[], object>, table.prefix, prefixEnd(table.prefix), ROWS_MAX);
  // A copy that was forgotten is remembered for a while.
  return rows.filter(({ value }) => !('forgotten' in value && value.forgotten !== undefined));
}

/**
 * Chunks that were never stable on as many nodes as they need, and whose last copy went with its disk: nobody counts on them (D3).
 * They stay as they are, since a disk may come back, and so does what is noted of them.
 */
function lostUnstable({ chunks, todo }: KeptRows, stores: readonly KeptStore[]): Set<ChunkId> {
  const unfirm = new Set((todo.get(UNFIRM.name) ?? []).map(({ key }) => chunkAtEnd(key)));
  const isThere = ({ node, disk }: { node: string; disk: string }): boolean =>
    stores.some((store) => store.node === node && store.disk === disk);
  return new Set(
    [...chunks].flatMap(([chunk, { replicas }]) =>
      unfirm.has(chunk) && !replicas.some((place) => isThere(place)) ? [chunk] : [],
    ),
  );
}

function chunkAtEnd(key: string): ChunkId | undefined {
  return key.length < CHUNK_ID_BYTES ? undefined : chunkIdFromBytes(bytesOf(key.slice(-CHUNK_ID_BYTES)));
}

/** Each thing that is not as it must be; none: all is well. */
export function whatIsLeft(rows: KeptRows, stores: readonly KeptStore[]): string[] {
  return [
    ...openWork(rows, lostUnstable(rows, stores)),
    ...wrongCounts(rows),
    ...wrongRealms(rows.realms),
    ...wrongReplicas(rows, stores),
    ...leaks(rows, stores),
    ...closedDisks(rows, stores),
  ];
}

/** D8: a node that takes chunks can keep them. */
function closedDisks({ closed }: KeptRows, stores: readonly KeptStore[]): string[] {
  return stores.flatMap(({ node, disk, duty }) =>
    duty !== 'draining' && closed.has(disk) ? [`node ${node} is ${duty}, and its disk is closed`] : [],
  );
}

function openWork({ todo, garbage }: KeptRows, excused: ReadonlySet<ChunkId>): string[] {
  const open = [...todo].flatMap(([table, rows]) => {
    const count = rows.filter(({ key }) => !excused.has(chunkAtEnd(key) as ChunkId)).length;
    return count > 0 ? [`${count} rows of ${table}`] : [];
  });
  for (const [chunk, { gone }] of garbage) if (!gone) open.push(`chunk ${chunk} is garbage still`);
  return open;
}

/** What is counted beside the rows themselves. */
function wrongCounts({ blocks, chunks }: KeptRows): string[] {
  const wrong: string[] = [];
  const named = new Map<ChunkId, number>();
  for (const { slices } of blocks)
    for (const { chunk } of slices)
      if (chunk.length === 16) {
        const id = chunkIdFromBytes(chunk);
        named.set(id, (named.get(id) ?? 0) + 1);
      }
  for (const [chunk, times] of named) {
    const references = chunks.get(chunk)?.references ?? 0;
    if (references !== times) wrong.push(`chunk ${chunk} is named ${times} times, its row says ${references}`);
  }
  for (const [chunk, { references }] of chunks)
    if (references > 0 && !named.has(chunk))
      wrong.push(`chunk ${chunk} is not named, its row says ${references} times`);
  return wrong;
}

/** D8: every chunk that is named lies, stable and whole, on as many nodes as it should, and on none that was emptied. */
export function wrongReplicas(rows: KeptRows, stores: readonly KeptStore[]): string[] {
  const { chunks, wanted } = rows;
  const excused = lostUnstable(rows, stores);
  const wrong: string[] = [];
  const possible = Math.min(wanted, stores.filter(({ duty }) => duty !== 'draining').length);
  for (const [chunk, { references, replicas }] of chunks) {
    if (references === 0 || excused.has(chunk)) continue;
    if (replicas.length !== possible)
      wrong.push(`chunk ${chunk} has ${replicas.length} replicas instead of ${possible}`);
    for (const { node, disk, stable, damaged } of replicas) {
      const store = stores.find((each) => each.node === node);
      const is = (what: string): void => void wrong.push(`the replica of chunk ${chunk} on node ${node} ${what}`);
      if (store?.disk !== disk) is('lies on a disk that is lost');
      else if (!store.chunks.includes(chunk)) is('is missing');
      if (!stable) is('is not stable');
      if (damaged || store?.damaged.includes(chunk)) is('is damaged');
      if (store?.duty === 'draining') is('was not moved away');
    }
  }
  return wrong;
}

function leaks({ chunks }: KeptRows, stores: readonly KeptStore[]): string[] {
  return stores.flatMap(({ node, disk, chunks: held }) =>
    held.flatMap((chunk) => {
      const row = chunks.get(chunk);
      const isNamed = row?.replicas.some((each) => each.node === node && each.disk === disk);
      return isNamed ? [] : [`chunk ${chunk} lies on node ${node} and no row says so`];
    }),
  );
}

/** Chunks that no disk shows whole, read for once past everything that knows of damage already. */
export async function unreadable(
  chunks: Iterable<ChunkId>,
  verify: (chunk: ChunkId) => Promise<unknown>,
): Promise<ChunkId[]> {
  const bad: ChunkId[] = [];
  for (const chunk of chunks)
    await verify(chunk).catch((error: unknown) => {
      if (!(error instanceof CollectiveError)) throw error;
      bad.push(chunk);
    });
  return bad;
}

export function keptStore(
  node: NodeName,
  duty: Duty,
  store: { disk: string; damaged: readonly ChunkId[]; list(after: undefined, limit: number): ChunkId[] },
): KeptStore {
  return { node, duty, disk: store.disk, damaged: store.damaged, chunks: store.list(undefined, ROWS_MAX) };
}
