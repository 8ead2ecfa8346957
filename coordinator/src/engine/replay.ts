/**
 * What a start does before the first operation: it brings the view up to the log, and reads from it what the engine keeps in
 * memory. The log is the truth; a view that is ahead of it, or older than its first record, cannot be made right from it.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { compareEpochs, type Epoch } from '@collective/base/ids';
import type { Log } from '../log/log.ts';
import type { Store } from '../store/store.ts';
import type { EpochRow, UsageRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { EPOCHS, RANGES, USAGE } from '../tables/tables.ts';

/** Throws `store_damaged`. */
export async function replay(log: Log, store: Store): Promise<void> {
  let applied: number = store.applied;
  if (applied > log.last)
    throw damaged(`the database has applied position ${applied}, the log ends at ${log.last}: its end was lost`);
  for await (const { position, payload } of log.read(store.applied)) {
    if (position !== applied + 1)
      throw damaged(
        `the database has applied position ${applied}, the log goes on at ${position}: what lies between is lost`,
      );
    await store.apply(payload, position);
    applied = position;
  }
  if (applied !== log.last)
    throw damaged(`the database has applied position ${applied}, the log holds nothing up to ${log.last}`);
}

/** Rows of the tables that an engine reads at its start: an epoch a start, a handful of ranges, a row a realm. */
const ROWS_MAX = 10_000_000;

export interface EarlierStarts {
  readonly last: EpochRow | undefined;
  readonly reservedTo: ReadonlyMap<string, number>;
  readonly usage: ReadonlyMap<number, UsageRow>;
}

export async function readEarlierStarts(store: Store): Promise<EarlierStarts> {
  const whole = ({ prefix }: { prefix: string }) => ({ from: prefix, to: prefixEnd(prefix), limit: ROWS_MAX });
  const [epochs = [], ranges = [], usages = []] = await store.scan([whole(EPOCHS), whole(RANGES), whole(USAGE)]);
  const last = epochs.at(-1);
  return {
    last: last === undefined ? undefined : EPOCHS.decode(last.value),
    reservedTo: new Map(ranges.map(({ key, value }) => [key.slice(1), RANGES.decode(value).reservedTo])),
    usage: new Map(usages.map(({ key, value }) => [readBigEndian(key, 1, 6), USAGE.decode(value)])),
  };
}

/** A clock that is set back a little must not keep a member down. */
const CLOCK_TOLERANCE_MS = 120_000;

/** M2a: above every earlier epoch. Throws `clock_wrong`, `fenced`. */
export function nextEpoch(last: EpochRow | undefined, clock: Clock, wantedGeneration: number | undefined): Epoch {
  const nowMs = wallMs(clock);
  const lastStartMs = (last?.started?.seconds ?? 0) * 1000;
  if (lastStartMs > nowMs + CLOCK_TOLERANCE_MS)
    throw new CollectiveError(
      'clock_wrong',
      `Start the metadata engine: the clock says ${new Date(nowMs).toISOString()}, but it was started before at ${new Date(lastStartMs).toISOString()}`,
    );
  const generation = wantedGeneration ?? last?.generation ?? Math.floor(nowMs / 1000);
  const epoch = { generation, start: (last?.start ?? 0) + 1 };
  if (last !== undefined && compareEpochs(epoch, last) <= 0)
    throw new CollectiveError(
      'fenced',
      `Start the metadata engine in generation ${generation}: it has been in generation ${last.generation}`,
    );
  return epoch;
}

function damaged(what: string): CollectiveError {
  return new CollectiveError('store_damaged', `Start the metadata engine: ${what}. Restore both from a backup`);
}
