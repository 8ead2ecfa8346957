/**
 * How the member of a run looks after itself: what takes hours and days in the product takes seconds here, and somebody asks
 * for all of it every few seconds, so that each run sees the jobs in the background work among its faults (D8).
 */
import type { ProcessClock } from '@collective/base/fake-clock';
import { pickOne, type Random, randomBelow } from '@collective/base/random';
import type { KnownNodes } from '@collective/coordinator/jobs/background';
import { MAINTENANCE_DEFAULTS, type MaintenanceSettings } from '@collective/coordinator/jobs/maintenance';
import type { NodeTable } from '@collective/coordinator/membership/node-table';
import type { RunningCoordinator } from './coordinator-program.ts';
import { drawLeavePlan, type LeavePlan, type LeavingNode } from './leaving-node.ts';

export interface Upkeep {
  readonly settings: MaintenanceSettings;
  readonly orphanGraceSeconds: number;
  /** Removed files are kept in the trash for so long; 0: there is none. */
  readonly trashSeconds: number;
  readonly askEveryMs: number;
  /** In some runs a node leaves. */
  readonly leaves: LeavePlan | undefined;
  /** In some somebody asks for a rebalance too, among nodes so small that little makes them uneven. */
  readonly rebalances: boolean;
  /** In some the trash yields, and the nodes say now and then that they have no room. */
  readonly trashYields: boolean;
}

const DRAINING_RUNS = 4;
const REBALANCED_RUNS = 4;
const YIELDING_RUNS = 4;
/** Of what a run stores, some files are a part that counts. */
const SMALL_CAPACITY_BYTES = 20_000;

export interface UpkeepOptions {
  readonly leaving: Random;
  readonly steps: number;
  /** A node leaves, whatever is drawn. */
  readonly mustLeave: boolean;
}

export function drawUpkeep(random: Random, { leaving, steps, mustLeave }: UpkeepOptions): Upkeep {
  const drawn = {
    settings: {
      ...MAINTENANCE_DEFAULTS,
      garbageGraceSeconds: pickOne(random, [0, 2, 20]),
      repairAfterSeconds: pickOne(random, [8, 30]),
      scrubPeriodSeconds: pickOne(random, [15, 60]),
    },
    orphanGraceSeconds: pickOne(random, [0, 2, 20]),
    trashSeconds: pickOne(random, [0, 1, 15]),
    askEveryMs: pickOne(random, [1_000, 4_000]),
  };
  const isLeft = randomBelow(random, DRAINING_RUNS) === 0 || mustLeave;
  const leaves = isLeft ? randomBelow(random, steps) : undefined;
  return {
    ...drawn,
    leaves: leaves === undefined ? undefined : drawLeavePlan(leaving, leaves),
    rebalances: randomBelow(random, REBALANCED_RUNS) === 0,
    trashYields: randomBelow(random, YIELDING_RUNS) === 0,
  };
}

export function withoutGraces(upkeep: Upkeep): Upkeep {
  return { ...upkeep, settings: { ...upkeep.settings, garbageGraceSeconds: 0 }, orphanGraceSeconds: 0 };
}

/** The nodes as the jobs of a run see them: smaller than they are, or now and then without room, where jobs are to act on that. */
export function seenByJobs(nodes: NodeTable, { rebalances, trashYields }: Upkeep, random: Random): KnownNodes {
  return {
    picture: (repairAfterSeconds) => {
      const picture = nodes.picture(repairAfterSeconds);
      if (!rebalances) return picture;
      return new Map([...picture].map(([name, node]) => [name, { ...node, capacityBytes: SMALL_CAPACITY_BYTES }]));
    },
    wasDeaf: () => nodes.wasDeaf(),
    get: (node) => nodes.get(node),
    stores: () => nodes.stores(),
    candidates: () => nodes.candidates(),
    roomForNew: () => {
      const room = nodes.roomForNew();
      return trashYields && randomBelow(random, 2) === 0 ? { ...room, freeBytes: 0, deadBytes: 0 } : room;
    },
  };
}

/** The person who looks after one start of the coordinator: asks for the same again and again, whatever came of it before. */
export function operate(
  running: RunningCoordinator,
  clock: ProcessClock,
  upkeep: Upkeep,
  leaving: LeavingNode | undefined,
): void {
  const { background } = running;
  const { settings, askEveryMs, rebalances } = upkeep;
  let isGoingOn = false;
  const ask = (): void => {
    background.collectGarbage(settings.garbageGraceSeconds);
    background.compareInventories();
    if (rebalances) background.rebalanceNow();
    if (leaving !== undefined && !isGoingOn) {
      isGoingOn = true;
      leaving
        .goOn(running)
        .catch(() => undefined)
        .finally(() => {
          isGoingOn = false;
        });
    }
    clock.setTimer(askEveryMs, ask, { background: true });
  };
  clock.setTimer(askEveryMs, ask, { background: true });
}
