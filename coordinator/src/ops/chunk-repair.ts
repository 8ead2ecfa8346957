/**
 * Chunk rows judged against a picture of the nodes, and the commits of what repair has done (D8). Each commit reads the row
 * again and looks whether its premise still holds: between a plan and its end the row may have changed, the chunk may have
 * become garbage, a node may have gone or come.
 *
 * The order of a removal is: the row stops naming the place, in a stable commit that also notes that the node is to forget
 * (`orphan-chunks.ts`); then the node forgets. So a crash in between leaves nothing behind, and no late word takes a new copy.
 */
import { type ChunkId, chunkIdFromBytes, type NodeName, type RealmId } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import type { OperationRun } from '../engine/operation-run.ts';
import { type NodePicture, type PicturedNode, relieving } from '../placement/node-picture.ts';
import {
  type DropAction,
  mayDrop,
  type Place,
  planClearance,
  planRepair,
  type RepairPlan,
} from '../placement/plan-repair.ts';
import type { ChunkRow, ReplicaPlace } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { CHUNKS, GARBAGE, ORPHAN_CHUNKS, REALMS, REPAIR_ORDER, TO_MOVE, UNDER_REPLICATED } from '../tables/tables.ts';
import { replicaRule } from './chunks.ts';
import { closedKeys } from './closed-disks.ts';
import {
  addReplica,
  dropReplica,
  markDamaged,
  noLongerForRepair,
  noLongerToMove,
  noteForRepair,
  noteToMove,
} from './replica-places.ts';
import { settleCopied } from './replica-stability.ts';

/** What planning needs beside the rows. */
export interface Outlook {
  readonly picture: NodePicture;
  readonly random: Random;
}

export interface JudgedChunk {
  readonly chunk: ChunkId;
  readonly row: ChunkRow;
  /** By the present rule of its realm. */
  readonly wanted: number;
  readonly plan: RepairPlan;
}

/** Rows that one look reads. */
export const SURVEY_PAGE = 1_000;
export const REPAIR_PAGE = 128;
const WEIGHED_PAGE = 2_000;
/** Chunks whose places one commit changes. */
export const PLACES_STEP = 200;

export interface SurveyStep {
  readonly rows: readonly { readonly chunk: ChunkId; readonly row: ChunkRow }[];
  /** Of these, what is not as it should be; noted. */
  readonly judged: readonly JudgedChunk[];
  /** Named chunks of which no sound copy is left, and that was not known. */
  readonly newlyLost: readonly JudgedChunk[];
  /** Undefined: there are no more. */
  readonly next: ChunkId | undefined;
}

/** Judges a page of all chunks, and notes which are for repair. */
export function surveyStep(tx: OperationRun, after: ChunkId | undefined, outlook: Outlook): SurveyStep {
  const from = after === undefined ? CHUNKS.prefix : `${CHUNKS.key(after)}\0`;
  const rows = tx
    .scan(CHUNKS, from, prefixEnd(CHUNKS.prefix), SURVEY_PAGE)
    .map(({ key, value }) => ({ chunk: chunkIdFromBytes(bytesOf(key.slice(CHUNKS.prefix.length))), row: value }));
  const all = judgeRows(tx, rows, outlook);
  const judged = all.filter(({ plan }) => !isFine(plan));
  const newlyLost = noteJudged(tx, judged);
  // A realm may want another number since the row was written: what goes by the row alone must go by the same.
  for (const { chunk, row, wanted } of all)
    if (row.references > 0 && row.wanted !== wanted) tx.put(CHUNKS, { ...row, wanted }, chunk);
  return { rows, judged, newlyLost, next: rows.length < SURVEY_PAGE ? undefined : rows.at(-1)?.chunk };
}

export interface RepairStep {
  readonly judged: readonly JudgedChunk[];
  /** Of notes that were taken away: what was noted. */
  readonly settled: { readonly chunks: number; readonly bytes: number };
  /** Key of the last entry that was looked at; undefined: there are no more. */
  readonly last: string | undefined;
}

/** Judges a page of what is noted for repair, in its order; what is well takes its note along. Bounds are whole keys, `to` inclusive. */
export function repairStep(tx: OperationRun, after: string, to: string, outlook: Outlook): RepairStep {
  const entries = tx.scan(REPAIR_ORDER, `${after}\0`, `${to}\0`, REPAIR_PAGE);
  const chunks = [...new Set(entries.map(({ key }) => chunkOfEntry(key)))];
  const judged = judgeChunks(tx, chunks, outlook).filter(({ plan }) => !isFine(plan));
  const left = new Set(judged.map(({ chunk }) => chunk));
  const settled = entries.filter(({ key }) => !left.has(chunkOfEntry(key)));
  return {
    judged,
    settled: { chunks: settled.length, bytes: settled.reduce((sum, { value }) => sum + value.bytes, 0) },
    last: entries.length < REPAIR_PAGE ? undefined : entries.at(-1)?.key,
  };
}

/** Sums up a page of what is noted. */
export function weighNotes(
  tx: OperationRun,
  after: string | undefined,
): { readonly chunks: number; readonly bytes: number; readonly next: string | undefined } {
  const from = after === undefined ? REPAIR_ORDER.prefix : `${after}\0`;
  const notes = tx.scan(REPAIR_ORDER, from, prefixEnd(REPAIR_ORDER.prefix), WEIGHED_PAGE);
  return {
    chunks: notes.length,
    bytes: notes.reduce((sum, { value }) => sum + value.bytes, 0),
    next: notes.length < WEIGHED_PAGE ? undefined : notes.at(-1)?.key,
  };
}

/** Judges these again and notes what comes of it; those that are gone are missing in the answer. */
export function judgeChunks(tx: OperationRun, chunks: readonly ChunkId[], outlook: Outlook): JudgedChunk[] {
  tx.need(chunks.map((chunk) => CHUNKS.key(chunk)));
  const rows = chunks.flatMap((chunk) => {
    const row = tx.get(CHUNKS, chunk);
    return row === undefined ? [] : [{ chunk, row }];
  });
  const judged = passOverLeaving(tx, judgeRows(tx, rows, outlook), outlook);
  const gone = chunks.filter((chunk) => tx.get(CHUNKS, chunk) === undefined);
  tx.need(gone.flatMap(notesOf));
  for (const chunk of gone) forgetNotes(tx, chunk);
  noteJudged(tx, judged);
  return judged;
}

/**
 * A node that has just given a copy up takes none for a while (`orphan-chunks.ts`): one that was drained and is active again is
 * such a one for many chunks. It is no target, since a copy there would be made for nothing.
 */
function passOverLeaving(tx: OperationRun, judged: readonly JudgedChunk[], outlook: Outlook): JudgedChunk[] {
  const copies = judged.filter(
    ({ row, plan }) => row.references > 0 && plan.actions.some(({ kind }) => kind === 'copy'),
  );
  const outlooks = outlooksFor(
    tx,
    copies.map(({ chunk }) => chunk),
    outlook,
  );
  return judged.map((each) => {
    const seen = outlooks.get(each.chunk);
    return seen === undefined ? each : { ...each, plan: planRepair(each.row, each.wanted, seen.picture, seen.random) };
  });
}

/** Of those chunks that some node has just given up: the nodes as they are for this chunk. */
export function outlooksFor(
  tx: OperationRun,
  chunks: readonly ChunkId[],
  { picture, random }: Outlook,
): ReadonlyMap<ChunkId, Outlook> {
  const nodes = [...picture.values()].filter(({ duty }) => duty === 'active');
  const key = (chunk: ChunkId, { name, disk }: PicturedNode): string =>
    ORPHAN_CHUNKS.key(name as NodeName, disk, chunk);
  tx.need(chunks.flatMap((chunk) => nodes.map((node) => key(chunk, node))));
  const outlooks = new Map<ChunkId, Outlook>();
  for (const chunk of chunks) {
    const leaving = nodes.filter(({ name, disk }) => tx.get(ORPHAN_CHUNKS, name as NodeName, disk, chunk)?.leaving);
    if (leaving.length === 0) continue;
    const seen = new Map(picture);
    for (const node of leaving) if (node.heard === 'ready') seen.set(node.name, { ...node, heard: 'full' });
    outlooks.set(chunk, { picture: seen, random });
  }
  return outlooks;
}

/** Nothing is to be done, now or later. */
export function isFine({ actions, missing, blocked }: RepairPlan): boolean {
  return actions.length === 0 && missing === 0 && blocked === undefined;
}

function judgeRows(
  tx: OperationRun,
  rows: readonly { readonly chunk: ChunkId; readonly row: ChunkRow }[],
  { picture, random }: Outlook,
): JudgedChunk[] {
  tx.need([...new Set(rows.map(({ row }) => REALMS.key(row.realm as RealmId)))]);
  const leaves = ({ row }: { row: ChunkRow }): boolean =>
    row.references === 0 && row.replicas.some(({ node }) => picture.get(node)?.duty === 'draining');
  tx.need(rows.filter(leaves).map(({ chunk }) => GARBAGE.key(chunk)));
  return rows.map(({ chunk, row }) => {
    if (row.references > 0) {
      const { wanted } = replicaRule(tx.get(REALMS, row.realm as RealmId));
      return { chunk, row, wanted, plan: planRepair(row, wanted, picture, random) };
    }
    const condemned = leaves({ row }) && tx.get(GARBAGE, chunk)?.condemned === true;
    return { chunk, row, wanted: 0, plan: planClearance(row, condemned, picture, random) };
  });
}

/** Answers those of which it was not known that no sound copy is left. */
function noteJudged(tx: OperationRun, judged: readonly JudgedChunk[]): JudgedChunk[] {
  tx.need(judged.flatMap(({ chunk }) => notesOf(chunk)));
  return judged.filter(({ chunk, row, wanted, plan }) => {
    const { sound, missing } = plan;
    const bytes = missing * row.storedLength;
    if (isFine(plan)) forgetNotes(tx, chunk);
    else if (sound >= wanted) {
      noLongerForRepair(tx, chunk);
      noteToMove(tx, chunk, bytes);
    } else {
      const isNews = sound === 0 && tx.get(UNDER_REPLICATED, chunk)?.sound !== 0;
      noLongerToMove(tx, chunk);
      noteForRepair(tx, chunk, sound, bytes);
      return isNews;
    }
    return false;
  });
}

function forgetNotes(tx: OperationRun, chunk: ChunkId): void {
  noLongerForRepair(tx, chunk);
  noLongerToMove(tx, chunk);
}

function notesOf(chunk: ChunkId): string[] {
  return [UNDER_REPLICATED.key(chunk), REPAIR_ORDER.key(TO_MOVE, chunk)];
}

function chunkOfEntry(key: string): ChunkId {
  return chunkIdFromBytes(bytesOf(key.slice(REPAIR_ORDER.prefix.length + 1)));
}

// ---- what was done ----

export interface MadeCopy {
  readonly chunk: ChunkId;
  readonly place: Omit<ReplicaPlace, 'damaged' | 'stable'>;
}

/** Answers for each copy whether it is a replica now. Else it is an orphan, which goes by itself. */
export function keepCopies(tx: OperationRun, copies: readonly MadeCopy[]): boolean[] {
  tx.need([
    ...copies.flatMap(({ chunk, place: { node, disk } }) => [
      CHUNKS.key(chunk),
      UNDER_REPLICATED.key(chunk),
      ORPHAN_CHUNKS.key(node as NodeName, disk, chunk),
    ]),
    ...closedKeys(copies.map(({ place }) => place.disk)),
  ]);
  return copies.map(({ chunk, place }) => {
    const before = tx.get(CHUNKS, chunk);
    const row = addReplica(tx, chunk, place);
    if (row !== undefined) settleCopied(tx, chunk, before, row);
    return row !== undefined;
  });
}

export interface WantedDrop {
  readonly chunk: ChunkId;
  readonly drop: DropAction;
}

/** Gives up the places of those drops that are still planned and rest on what was read again. Answers which. */
export function giveUpPlaces(tx: OperationRun, drops: readonly WantedDrop[], outlook: Outlook): boolean[] {
  tx.need(
    drops.flatMap(({ chunk, drop: { place } }) => [
      CHUNKS.key(chunk),
      UNDER_REPLICATED.key(chunk),
      ORPHAN_CHUNKS.key(place.node as NodeName, place.disk, chunk),
    ]),
  );
  // One after the other: two drops of one chunk must not both rest on what the other takes.
  return drops.map(({ chunk, drop }) => {
    const row = tx.get(CHUNKS, chunk);
    const picture = drop.relieves ? relieving(outlook.picture, drop.place.node) : outlook.picture;
    const [judged] = row === undefined ? [] : judgeRows(tx, [{ chunk, row }], { ...outlook, picture });
    if (judged === undefined || !mayDrop(judged.plan, drop)) return false;
    const { place, forgets } = drop;
    if (judged.wanted > 0 && judged.wanted !== judged.row.wanted)
      tx.put(CHUNKS, { ...judged.row, wanted: judged.wanted }, chunk);
    dropReplica(tx, chunk, place);
    if (forgets)
      tx.put(
        ORPHAN_CHUNKS,
        { since: tx.now, leaving: true, forgotten: undefined },
        place.node as NodeName,
        place.disk,
        chunk,
      );
    return true;
  });
}

export interface NotedDamage {
  /** Rows that name the place, and did not say so yet. */
  readonly marked: readonly { readonly chunk: ChunkId; readonly row: ChunkRow }[];
  /** No row names the place: a commit under way may do so yet. */
  readonly unnamed: readonly ChunkId[];
}

/** Places whose bytes were found wrong or missing there. */
export function noteDamage(
  tx: OperationRun,
  found: readonly { readonly chunk: ChunkId; readonly place: Place }[],
): NotedDamage {
  tx.need(found.flatMap(({ chunk }) => [CHUNKS.key(chunk), UNDER_REPLICATED.key(chunk)]));
  const marked: { readonly chunk: ChunkId; readonly row: ChunkRow }[] = [];
  const unnamed: ChunkId[] = [];
  for (const { chunk, place } of found) {
    const named = tx.get(CHUNKS, chunk)?.replicas.find((each) => each.node === place.node && each.disk === place.disk);
    const row = named === undefined || named.damaged ? undefined : markDamaged(tx, chunk, place);
    if (row !== undefined) marked.push({ chunk, row });
    if (named === undefined) unnamed.push(chunk);
  }
  return { marked, unnamed };
}
