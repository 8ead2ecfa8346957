/**
 * What of the records of some segments must be copied before the segments are removed, one after the other in the given order. A
 * chunk's record must if it counts. A tombstone must as long as a dead record of its chunk lies elsewhere, or in one of the
 * segments that is removed after it: a crash in between would bring that back.
 */
import { ChunkTable } from './chunk-table.ts';
import { EntryList } from './entry-list.ts';
import type { RecordLedger } from './record-ledger.ts';

export interface SegmentRecords {
  readonly segment: number;
  readonly entries: EntryList;
}

/** Looked at between two steps. */
const STEP_RECORDS = 4_096;

/** Steps through the records, so that whoever asks can let others have a turn. Answers a list for each of the segments. */
export function* selectNeeded(
  ledger: RecordLedger,
  sources: readonly SegmentRecords[],
): Generator<void, EntryList[], undefined> {
  // Of each chunk with a tombstone here: its dead records in the segments so far, plus 1.
  const dead = new ChunkTable(1);
  dead.settle();
  let looked = 0;
  for (const { segment, entries } of sources)
    for (const entry of entries) {
      if (++looked % STEP_RECORDS === 0) yield;
      if (entry.kind === 'tombstone' && ledger.isLive(segment, entry) && dead.find(entry.chunk) === undefined)
        dead.set(dead.insert(entry.chunk), 0, 1);
    }
  const needed: EntryList[] = [];
  for (const { segment, entries } of sources) {
    for (const entry of entries) {
      if (++looked % STEP_RECORDS === 0) yield;
      const at = entry.kind === 'chunk' ? dead.find(entry.chunk) : undefined;
      if (at !== undefined && !ledger.isLive(segment, entry)) dead.set(at, 0, dead.get(at, 0) + 1);
    }
    const list = new EntryList();
    for (const entry of entries) {
      if (++looked % STEP_RECORDS === 0) yield;
      if (!ledger.isLive(segment, entry)) continue;
      const at = entry.kind === 'tombstone' ? dead.find(entry.chunk) : undefined;
      const gone = at === undefined ? 0 : dead.get(at, 0) - 1;
      if (entry.kind === 'chunk' || gone < ledger.deadRecords(entry.chunk)) list.push(entry);
    }
    needed.push(list);
  }
  return needed;
}
