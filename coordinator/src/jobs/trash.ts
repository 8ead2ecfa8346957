/**
 * The end of what lies in the trash (M8): what is older than its realm keeps it goes, in bounded steps. Where a realm says
 * that its trash yields, the oldest goes early while the storage nodes run out of room; a quota that runs out takes its
 * room by itself, in the operation that needs it.
 *
 * Room comes back late: blocks become garbage, garbage waits for its grace, segments are rewritten. So what is on that way is
 * counted as free, lest all of the trash goes while the first of it has not come back. It is counted from what is stored, so
 * that a coordinator that was started anew knows of it too, and before it knows nothing goes.
 */
import type { Clock } from '@collective/base/clock';
import type { RealmId } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import type { OperationRun } from '../engine/operation-run.ts';
import { replicaRule } from '../ops/chunks.ts';
import type { Caller, OperationContext } from '../ops/context.ts';
import { allRealms } from '../ops/realms.ts';
import { oldestTrash, trashNumber, trashSeconds } from '../ops/trash.ts';
import { destroyAll, type EmptyOptions, type EmptyStep, emptyStep } from '../ops/trash-empty.ts';
import type { Trashed } from '../ops/trash-listing.ts';
import { THE_MEMBER } from '../session/realm-rights.ts';
import type { RealmRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { DOOMED, ORPHANS, REALMS, TRASH } from '../tables/tables.ts';
import type { GarbageFigures } from './garbage.ts';
import type { Round } from './keeper.ts';

/** Free room, as a share of the nodes' capacity, below which trash yields, and up to which it does. */
const YIELD_BELOW = 0.05;
const YIELD_UP_TO = 0.08;
const YIELD_STEP = 20;
/** Nodes have given back the room of what they were told to forget after so long, as far as they do before they are full. */
const GIVEN_BACK_WITHIN_MS = 3_600_000;
/** One sample a minute is kept of what was collected. */
const SAMPLE_MS = 60_000;
/** More removed files are not weighed one by one: their blocks are let go of first. */
const DOOMED_MAX = 1_000;

export interface TrashParts {
  readonly clock: Clock;
  readonly engine: Engine;
  change<T>(caller: Caller, operation: (context: OperationContext) => T): Promise<T>;
  /** Over all nodes that are there and take new chunks. `deadBytes`: of what is forgotten, until they are given back. */
  room(): { readonly capacityBytes: number; readonly freeBytes: number; readonly deadBytes: number };
  garbage(): Pick<GarbageFigures, 'walkedAt' | 'storedBytes' | 'collectedBytes'>;
  /** Trash went early: worth an event. */
  onYielded(what: { readonly files: number; readonly bytes: number }): void;
}

interface RealmWithTrash {
  readonly realm: RealmId;
  readonly row: RealmRow;
}

export class TrashCollector {
  readonly #parts: TrashParts;
  /** Until when a realm has nothing to let go: what comes later is removed later. */
  readonly #quiet = new Map<RealmId, { trashSeconds: number; untilSeconds: number }>();
  readonly #startedMs: number;
  /** What was collected since the start, as of the last hour; the oldest first. */
  #collected: { readonly atMs: number; readonly bytes: number }[] = [];

  constructor(parts: TrashParts) {
    this.#parts = parts;
    this.#startedMs = parts.clock.bootMs();
  }

  async work(round: Round): Promise<void> {
    this.#noteCollected();
    const realms = await this.#realms();
    let done = 0;
    const count = (more: number): void => {
      done += more;
      round.progress(done, undefined, 'files');
    };
    for (const realm of this.#quiet.keys()) if (!realms.some((each) => each.realm === realm)) this.#quiet.delete(realm);
    for (const each of realms) await this.#expire(each, round, count);
    await this.#yield(
      realms.filter(({ row }) => row.trashYields),
      round,
      count,
    );
  }

  #realms(): Promise<RealmWithTrash[]> {
    return this.#parts.engine.run((tx) => allRealms(tx).filter(({ realm }) => tx.usageOf(realm).trashInodes > 0));
  }

  async #expire({ realm, row }: RealmWithTrash, { signal }: Round, count: (more: number) => void): Promise<void> {
    const now = this.#parts.clock.now();
    const kept = trashSeconds(row);
    const quiet = this.#quiet.get(realm);
    if (quiet?.trashSeconds === kept && now.seconds < quiet.untilSeconds) return;
    const before = { seconds: now.seconds - kept, nanos: now.nanos };
    for (let from: number | undefined = 0; from !== undefined; ) {
      if (signal.aborted) return;
      const options: EmptyOptions = { realm, from, before, accept: () => true };
      const step: EmptyStep = await this.#parts.change(THE_MEMBER, (context) => emptyStep(context, options));
      count(step.files + step.directories);
      from = step.next;
      if (from === undefined && step.youngerSince !== undefined)
        this.#quiet.set(realm, { trashSeconds: kept, untilSeconds: step.youngerSince.seconds + kept });
    }
  }

  async #yield(realms: readonly RealmWithTrash[], { signal }: Round, count: (more: number) => void): Promise<void> {
    const total = { files: 0, bytes: 0 };
    const { capacityBytes } = this.#parts.room();
    const room = realms.length === 0 ? Number.POSITIVE_INFINITY : await this.#roomBytes();
    let missing = room < capacityBytes * YIELD_BELOW ? capacityBytes * YIELD_UP_TO - room : 0;
    while (missing > 0 && !signal.aborted) {
      const oldest = await this.#oldest(realms);
      if (oldest.length === 0) break;
      const [first] = oldest;
      const row = realms.find(({ realm }) => realm === first?.realm)?.row;
      const step = await this.#parts.change(THE_MEMBER, (context) => destroyAll(context, stillThere(context, oldest)));
      const bytes = step.bytes * replicaRule(row).wanted;
      missing -= bytes;
      total.files += step.files + step.directories;
      total.bytes += step.bytes;
      count(step.files + step.directories);
    }
    if (total.files > 0) this.#parts.onYielded(total);
  }

  /** The oldest of that realm whose oldest is the oldest of all; what somebody has open would free nothing. */
  async #oldest(realms: readonly RealmWithTrash[]): Promise<Trashed[]> {
    let oldest: Trashed[] = [];
    for (const { realm } of realms) {
      const some = await this.#parts.engine.run((tx) => {
        const rows = oldestTrash(tx, realm, 0, YIELD_STEP * 2);
        tx.need(rows.map(({ value }) => ORPHANS.key(value.inode as never)));
        return rows
          .filter(({ value }) => tx.get(ORPHANS, value.inode as never) === undefined)
          .slice(0, YIELD_STEP)
          .map(({ key, value }) => ({ realm, number: trashNumber(key), entry: value }));
      });
      if (some[0] !== undefined && some[0].number < (oldest[0]?.number ?? Number.POSITIVE_INFINITY)) oldest = some;
    }
    return oldest;
  }

  /** One sample from before the last hour stays: what was collected since is counted from it. */
  #noteCollected(): void {
    const nowMs = this.#parts.clock.bootMs();
    while ((this.#collected[1]?.atMs ?? nowMs) <= nowMs - GIVEN_BACK_WITHIN_MS) this.#collected.shift();
    if (nowMs - (this.#collected.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) < SAMPLE_MS) return;
    this.#collected.push({ atMs: nowMs, bytes: this.#parts.garbage().collectedBytes });
  }

  /** Free, or on its way to be free. */
  async #roomBytes(): Promise<number> {
    const { room, garbage, clock } = this.#parts;
    const { walkedAt, storedBytes, collectedBytes } = garbage();
    if (walkedAt === undefined) return Number.POSITIVE_INFINITY;
    const sinceMs = clock.bootMs() - GIVEN_BACK_WITHIN_MS;
    const [first] = this.#collected;
    const before = first !== undefined && first.atMs <= sinceMs ? first.bytes : 0;
    const doomed = await this.#parts.engine.run(doomedBytes);
    const { freeBytes, deadBytes } = room();
    // What an earlier life of this coordinator has collected is not known otherwise.
    const ofBefore = this.#startedMs > sinceMs ? deadBytes : 0;
    return freeBytes + doomed + storedBytes + (collectedBytes - before) + ofBefore;
  }
}

/** Of files that are gone, whose blocks are not garbage yet: at most so much lies on all nodes. */
function doomedBytes(tx: OperationRun): number {
  const rows = tx.scan(DOOMED, DOOMED.prefix, prefixEnd(DOOMED.prefix), DOOMED_MAX);
  if (rows.length === DOOMED_MAX) return Number.POSITIVE_INFINITY;
  const realms = [...new Set(rows.map(({ value }) => value.realm as RealmId))];
  tx.need(realms.map((realm) => REALMS.key(realm)));
  const wanted = new Map(realms.map((realm) => [realm, replicaRule(tx.get(REALMS, realm)).wanted]));
  return rows.reduce((sum, { value }) => sum + value.size * (wanted.get(value.realm as RealmId) ?? 0), 0);
}

/** Between the look and the change a person may have restored some. */
function stillThere({ tx }: OperationContext, found: readonly Trashed[]): Trashed[] {
  tx.need(found.map(({ realm, number }) => TRASH.key(realm, number)));
  return found.filter(({ realm, number }) => tx.get(TRASH, realm, number) !== undefined);
}
