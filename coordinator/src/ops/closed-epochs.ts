/**
 * Epochs whose chunk ids are refused in commits unless they have a row (D2). A chunk that was uploaded and not committed may be
 * forgotten only when no commit can name it any more. For ids of an epoch that ended long ago that is one row for all; for
 * later ones each such chunk has a row of its own that refuses it (`GarbageRow.gone`), until its epoch is closed too.
 */
import { type ChunkId, type Epoch, epochHex } from '@collective/base/ids';
import type { OperationRun } from '../engine/operation-run.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { CLOSED_EPOCH, EPOCHS } from '../tables/tables.ts';
import { isDue } from './grace.ts';

/** Starts that a member may have had. */
const EPOCHS_MAX = 100_000;

/** Closes the epochs that ended longer ago than the grace time. Answers the last that is closed. */
export function closeEpochs(tx: OperationRun, graceSeconds: number): Epoch | undefined {
  const closed = tx.get(CLOSED_EPOCH);
  const from = closed === undefined ? EPOCHS.prefix : EPOCHS.key(closed.generation, closed.start);
  const epochs = tx.scan(EPOCHS, from, prefixEnd(EPOCHS.prefix), EPOCHS_MAX);
  // An epoch ends where the next one starts.
  const ended = epochs.filter((_, i) => {
    const next = epochs[i + 1]?.value.started;
    return next !== undefined && isDue(next, tx.now, graceSeconds);
  });
  const last = ended.at(-1);
  if (last === undefined) return closed;
  const epoch = { generation: readBigEndian(last.key, 1, 4), start: readBigEndian(last.key, 5, 4) };
  if (closed === undefined || epochHex(epoch) > epochHex(closed)) tx.put(CLOSED_EPOCH, epoch);
  return epoch;
}

/** Nothing is known any more of chunks of its epoch that have no row. */
export function isClosed(tx: OperationRun, chunk: ChunkId): boolean {
  const closed = tx.get(CLOSED_EPOCH);
  return closed !== undefined && isOfEpochThrough(chunk, closed);
}

export function isOfEpochThrough(chunk: ChunkId, epoch: Epoch): boolean {
  return chunk.slice(0, 16) <= epochHex(epoch);
}
