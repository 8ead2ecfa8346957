/**
 * The walk of a move between realms (`realm-moves.ts`): some visits in one step. A visit to a directory goes through its
 * entries by offset, then through what was removed from it; a visit to a file lets its chunks follow it, so that their
 * number of replicas is that of their realm.
 */
import { type ChunkId, chunkIdFromBytes, type InodeNumber } from '@collective/base/ids';
import { InodeType } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import type { Row } from '../engine/transaction.ts';
import type { KeyRange } from '../store/store.ts';
import type { BlockRow, InodeRow, JobVisitRow, RealmMove } from '../tables/gen/tables.ts';
import { byteString, bytesOf, prefixEnd, readBigEndian } from '../tables/table.ts';
import {
  BLOCKS,
  CHUNKS,
  COOKIES,
  type DataNumber,
  INODES,
  JOB_LINKS,
  JOB_VISITS,
  TRASH,
  TRASH_NAMES,
} from '../tables/tables.ts';
import type { OperationContext } from './context.ts';
import { entriesAfter } from './read-directory.ts';
import {
  countName,
  countsNames,
  FIRST_VISIT,
  isPartOf,
  moveInode,
  VISIT_CHUNKS,
  VISIT_ENTRIES,
  VISIT_TRASH,
} from './realm-border.ts';
import { trashedName } from './trash-search.ts';

/** Entries and chunks that one step looks at; a visit counts for some, since it costs a prefetch or two. */
const STEP_COST_MAX = 150;
const VISITS_MAX = 16;
const VISIT_COST = 5;
const PAGE_ROWS = 100;
const BLOCKS_ROWS = 16;

interface Visit {
  readonly inode: InodeNumber;
  readonly row: JobVisitRow;
}

/** Answers how many inodes have moved, or undefined when there was nothing to visit. */
export function visitSome(context: OperationContext, move: RealmMove): number | undefined {
  const { tx } = context;
  const prefix = JOB_VISITS.key(move.job, 0 as InodeNumber).slice(0, -6);
  const visits = tx
    .scan(JOB_VISITS, prefix, prefixEnd(prefix), VISITS_MAX)
    .map(({ key, value }): Visit => ({ inode: readBigEndian(key, prefix.length, 6) as InodeNumber, row: value }));
  if (visits.length === 0) return undefined;
  tx.need(visits.map(({ inode }) => INODES.key(inode)));
  needContent(tx, visits);
  const walk = new Walk(context, move);
  for (const visit of visits) {
    if (walk.cost >= STEP_COST_MAX) break;
    walk.visit(visit);
  }
  return walk.moved;
}

/** What the visits to files read, as many as one step goes to: fetched in two goes instead of two a file. */
function needContent(tx: OperationRun, visits: readonly Visit[]): void {
  const ranges = visits.flatMap(({ inode, row }) => {
    const data = row.phase === VISIT_CHUNKS ? tx.get(INODES, inode)?.data : undefined;
    return data === undefined ? [] : [blocksFrom(data, row.block)];
  });
  tx.needScans(ranges);
  const chunks = new Set<ChunkId>();
  for (const { from, to, limit } of ranges) {
    if (chunks.size >= STEP_COST_MAX) break;
    for (const chunk of chunksIn(tx.scan(BLOCKS, from, to, limit))) chunks.add(chunk);
  }
  tx.need([...chunks].map((chunk) => CHUNKS.key(chunk)));
}

function blocksFrom(data: DataNumber, block: number): KeyRange {
  return { from: BLOCKS.key(data, block), to: prefixEnd(BLOCKS.key(data, 0).slice(0, -4)), limit: BLOCKS_ROWS };
}

function chunksIn(blocks: readonly Row<BlockRow>[]): Set<ChunkId> {
  const chunks = new Set<ChunkId>();
  for (const { value } of blocks)
    for (const { chunk } of value.slices) if (chunk.length === 16) chunks.add(chunkIdFromBytes(chunk));
  return chunks;
}

class Walk {
  readonly #context: OperationContext;
  readonly #move: RealmMove;
  moved = 0;
  cost = 0;

  constructor(context: OperationContext, move: RealmMove) {
    this.#context = context;
    this.#move = move;
  }

  visit({ inode, row: visit }: Visit): void {
    const { tx } = this.#context;
    this.cost += VISIT_COST;
    const row = tx.get(INODES, inode);
    if (row === undefined || !isPartOf(this.#move, row.realm)) this.#done(inode);
    else if (visit.phase === VISIT_CHUNKS) this.#chunks(inode, row, visit);
    else if (visit.phase === VISIT_TRASH) this.#trash(inode, visit);
    else if (visit.phase === VISIT_ENTRIES) this.#entries(inode, visit);
    else if (row.walked === this.#move.pass) this.#done(inode);
    else {
      tx.put(INODES, { ...this.#moved(inode, row), walked: this.#move.pass }, inode);
      this.#entries(inode, visit);
    }
  }

  #entries(directory: InodeNumber, visit: JobVisitRow): void {
    const { tx } = this.#context;
    const rows = entriesAfter(this.#context, directory, visit.afterCookie, PAGE_ROWS);
    this.#need(rows.map(({ value }) => value.inode as InodeNumber));
    let afterCookie = visit.afterCookie;
    for (const { key, value } of rows) {
      afterCookie = readBigEndian(key, COOKIES.prefix.length + 6, 8);
      this.#entry(value.inode as InodeNumber, directory, byteString(value.name));
    }
    this.cost += rows.length;
    const more = rows.length === PAGE_ROWS;
    tx.put(JOB_VISITS, { ...visit, afterCookie, phase: more ? VISIT_ENTRIES : VISIT_TRASH }, this.#move.job, directory);
  }

  #entry(inode: InodeNumber, directory: InodeNumber, name: string): void {
    const { tx } = this.#context;
    const row = tx.get(INODES, inode);
    if (row === undefined || !isPartOf(this.#move, row.realm)) return;
    if (row.type === InodeType.DIRECTORY) {
      this.#enter(inode, row);
      return;
    }
    if (row.realm === this.#move.to) return;
    const isCounted =
      countsNames(this.#move) && (row.links > 1 || tx.get(JOB_LINKS, this.#move.job, inode) !== undefined);
    if (isCounted) countName(tx, this.#move, inode, directory, name, 1);
    else this.#moved(inode, row);
  }

  /** Removed files and directories; of these what was removed from them, in its turn. */
  #trash(directory: InodeNumber, visit: JobVisitRow): void {
    const { tx } = this.#context;
    const start = TRASH_NAMES.key(directory, '', 0).slice(0, -7);
    const from = visit.afterKey.length === 0 ? start : `${byteString(visit.afterKey)}\0`;
    const rows = tx.scan(TRASH_NAMES, from, prefixEnd(start), PAGE_ROWS);
    const names = rows.map(trashedName);
    this.#need(names.map(({ row }) => row.inode as InodeNumber));
    tx.need(names.map(({ realm, number }) => TRASH.key(realm, number)));
    for (const { row: entry } of names) {
      const inode = entry.inode as InodeNumber;
      const row = tx.get(INODES, inode);
      if (row === undefined || !isPartOf(this.#move, row.realm)) continue;
      const moved = this.#moved(inode, row);
      if (row.type === InodeType.DIRECTORY) this.#enter(inode, moved);
    }
    this.cost += rows.length;
    const last = rows.at(-1);
    if (rows.length < PAGE_ROWS || last === undefined) this.#done(directory);
    else tx.put(JOB_VISITS, { ...visit, afterKey: bytesOf(last.key) }, this.#move.job, directory);
  }

  #chunks(inode: InodeNumber, row: InodeRow, visit: JobVisitRow): void {
    const { tx } = this.#context;
    const { from, to, limit } = blocksFrom(row.data, visit.block);
    const rows = tx.scan(BLOCKS, from, to, limit);
    const chunks = chunksIn(rows);
    tx.need([...chunks].map((chunk) => CHUNKS.key(chunk)));
    for (const id of chunks) {
      const chunk = tx.get(CHUNKS, id);
      if (chunk !== undefined && chunk.realm !== row.realm) tx.put(CHUNKS, { ...chunk, realm: row.realm }, id);
    }
    this.cost += chunks.size;
    const last = rows.at(-1);
    if (rows.length < BLOCKS_ROWS || last === undefined) {
      this.#done(inode);
      return;
    }
    const block = readBigEndian(last.key, last.key.length - 4, 4) + 1;
    tx.put(JOB_VISITS, { ...visit, block }, this.#move.job, inode);
  }

  #enter(inode: InodeNumber, row: InodeRow): void {
    if (row.walked !== this.#move.pass) this.#context.tx.put(JOB_VISITS, FIRST_VISIT, this.#move.job, inode);
  }

  #moved(inode: InodeNumber, row: InodeRow): InodeRow {
    if (row.realm === this.#move.to) return row;
    this.moved += 1;
    return moveInode(this.#context, inode, row, this.#move.to, this.#move.job);
  }

  #done(inode: InodeNumber): void {
    this.#context.tx.remove(JOB_VISITS, this.#move.job, inode);
  }

  #need(inodes: readonly InodeNumber[]): void {
    const { tx } = this.#context;
    tx.need(inodes.map((inode) => INODES.key(inode)));
    if (countsNames(this.#move)) tx.need(inodes.map((inode) => JOB_LINKS.key(this.#move.job, inode)));
  }
}
