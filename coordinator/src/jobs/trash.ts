/**
 * The end of what lies in the trash (M8): what is older than its realm keeps it goes, in bounded steps. Where a realm says
 * that its trash yields, the oldest goes early while the storage nodes run out of room; a quota that runs out takes its
 * room by itself, in the operation that needs it.
 *
 * Room comes back late: blocks become garbage, garbage waits for its grace, segments are rewritten. So what was let go is
 * counted as free for a while, lest all of the trash goes while the first of it is still on its way.
 */
import type { Clock } from '@collective/base/clock';
import type { RealmId } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { replicaRule } from '../ops/chunks.ts';
import type { Caller, OperationContext } from '../ops/context.ts';
import { allRealms } from '../ops/realms.ts';
import { oldestTrash, trashNumber, trashSeconds } from '../ops/trash.ts';
import { destroyAll, type EmptyOptions, type EmptyStep, emptyStep } from '../ops/trash-empty.ts';
import type { Trashed } from '../ops/trash-listing.ts';
import { THE_MEMBER } from '../session/realm-rights.ts';
import type { RealmRow } from '../tables/gen/tables.ts';
import { ORPHANS, TRASH } from '../tables/tables.ts';
import type { Round } from './keeper.ts';

/** Free room, as a share of the nodes' capacity, below which trash yields, and up to which it does. */
const YIELD_BELOW = 0.05;
const YIELD_UP_TO = 0.08;
const YIELD_STEP = 20;
/** What yielded is counted as free for the grace of garbage and so much more. */
const FREED_WITHIN_MS = 3_600_000;

export interface TrashParts {
  readonly clock: Clock;
  readonly engine: Engine;
  change<T>(caller: Caller, operation: (context: OperationContext) => T): Promise<T>;
  /** Over all nodes. */
  room(): { readonly capacityBytes: number; readonly freeBytes: number };
  garbageGraceSeconds(): number;
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
  /** Bytes on all nodes that are on their way to be free. */
  #freed: { untilMs: number; bytes: number }[] = [];

  constructor(parts: TrashParts) {
    this.#parts = parts;
  }

  async work(round: Round): Promise<void> {
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
    let missing = this.#missingBytes(YIELD_BELOW) > 0 ? this.#missingBytes(YIELD_UP_TO) : 0;
    while (missing > 0 && !signal.aborted) {
      const oldest = await this.#oldest(realms);
      if (oldest.length === 0) break;
      const [first] = oldest;
      const row = realms.find(({ realm }) => realm === first?.realm)?.row;
      const step = await this.#parts.change(THE_MEMBER, (context) => destroyAll(context, stillThere(context, oldest)));
      const bytes = step.bytes * replicaRule(row).wanted;
      this.#noteFreed(bytes);
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

  #missingBytes(share: number): number {
    const { capacityBytes, freeBytes } = this.#parts.room();
    const nowMs = this.#parts.clock.bootMs();
    this.#freed = this.#freed.filter(({ untilMs }) => untilMs > nowMs);
    return capacityBytes * share - freeBytes - this.#freed.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #noteFreed(bytes: number): void {
    const untilMs = this.#parts.clock.bootMs() + this.#parts.garbageGraceSeconds() * 1_000 + FREED_WITHIN_MS;
    const last = this.#freed.at(-1);
    // One entry a minute: the list stays short.
    if (last !== undefined && untilMs - last.untilMs < 60_000) last.bytes += bytes;
    else this.#freed.push({ untilMs, bytes });
  }
}

/** Between the look and the change a person may have restored some. */
function stillThere({ tx }: OperationContext, found: readonly Trashed[]): Trashed[] {
  tx.need(found.map(({ realm, number }) => TRASH.key(realm, number)));
  return found.filter(({ realm, number }) => tx.get(TRASH, realm, number) !== undefined);
}
