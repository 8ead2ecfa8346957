/**
 * A backup of a member's metadata while it serves: all rows as of one log position, as a stream. What was acknowledged as
 * stable before it was asked for is in it. Chunks are not: the nodes have them, and a restored coordinator finds them there.
 *
 * Memory: one part. A reader that stops holds up checkpoints of the view, so whoever carries the stream gives it a deadline.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Engine } from '../engine/engine.ts';
import type { StoreSnapshot } from '../store/store.ts';
import { BackupEncoder, type BackupFacts } from './backup-format.ts';

const PART_BYTES = 1024 * 1024;
/** Stable batches reach the view within some milliseconds; a view that is far behind is in trouble. */
const APPLIED_WITHIN_MS = 30_000;
const LOOK_AGAIN_MS = 20;

export interface BackupParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly facts: Pick<BackupFacts, 'member' | 'collective' | 'version'>;
}

export async function* createBackup(parts: BackupParts, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
  const { clock, engine, facts } = parts;
  const snapshot = await currentSnapshot(engine, clock, signal);
  try {
    const encoder = new BackupEncoder();
    const created = new Date(clock.now().seconds * 1000).toISOString();
    yield encoder.facts({ ...facts, created, epoch: engine.epoch, position: snapshot.applied });
    for (let after: string | undefined; ; ) {
      signal.throwIfAborted();
      const rows = await snapshot.read(after, PART_BYTES);
      if (rows.length === 0) break;
      yield encoder.rows(rows);
      after = rows.at(-1)?.key;
    }
    yield encoder.end();
  } finally {
    await snapshot.close();
  }
}

/** One that shows everything that is stable now. */
async function currentSnapshot(engine: Engine, clock: Clock, signal: AbortSignal): Promise<StoreSnapshot> {
  await engine.stableThrough(engine.lastPosition);
  const wanted = engine.stablePosition;
  for (const beganMs = clock.bootMs(); ; ) {
    const snapshot = await engine.snapshot();
    if (snapshot.applied >= wanted) return snapshot;
    await snapshot.close();
    if (clock.bootMs() - beganMs > APPLIED_WITHIN_MS)
      throw new CollectiveError('overloaded', `Make a backup: the view is behind the log for ${APPLIED_WITHIN_MS} ms`);
    await sleep(clock, LOOK_AGAIN_MS, signal);
  }
}
