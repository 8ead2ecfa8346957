/**
 * How the member of a run looks after itself: what takes hours and days in the product takes seconds here, and somebody asks
 * for all of it every few seconds, so that each run sees the jobs in the background work among its faults (D8).
 */
import type { ProcessClock } from '@collective/base/fake-clock';
import type { NodeName } from '@collective/base/ids';
import { pickOne, type Random, randomBelow } from '@collective/base/random';
import { MAINTENANCE_DEFAULTS, type MaintenanceSettings } from '@collective/coordinator/jobs/maintenance';
import { DUTIES } from '@collective/coordinator/placement/node-picture';
import type { RunningCoordinator } from './coordinator-program.ts';

export interface Upkeep {
  readonly settings: MaintenanceSettings;
  readonly orphanGraceSeconds: number;
  /** Removed files are kept in the trash for so long; 0: there is none. */
  readonly trashSeconds: number;
  readonly askEveryMs: number;
  /** In some runs a node is drained, when so many actions are left. */
  readonly drainAt: number | undefined;
}

const DRAINING_RUNS = 4;

export function drawUpkeep(random: Random, steps: number): Upkeep {
  return {
    settings: {
      ...MAINTENANCE_DEFAULTS,
      garbageGraceSeconds: pickOne(random, [0, 2, 20]),
      repairAfterSeconds: pickOne(random, [8, 30]),
      scrubPeriodSeconds: pickOne(random, [15, 60]),
    },
    orphanGraceSeconds: pickOne(random, [0, 2, 20]),
    trashSeconds: pickOne(random, [0, 1, 15]),
    askEveryMs: pickOne(random, [1_000, 4_000]),
    drainAt: randomBelow(random, DRAINING_RUNS) === 0 ? randomBelow(random, steps) : undefined,
  };
}

export function withoutGraces(upkeep: Upkeep): Upkeep {
  return { ...upkeep, settings: { ...upkeep.settings, garbageGraceSeconds: 0 }, orphanGraceSeconds: 0 };
}

/** The person who looks after one start of the coordinator: asks for the same again and again, whatever came of it before. */
export function operate(
  running: RunningCoordinator,
  clock: ProcessClock,
  upkeep: Upkeep,
  drains: () => NodeName | undefined,
): void {
  const { nodes, background } = running;
  const { settings, askEveryMs } = upkeep;
  clock.setTimer(
    askEveryMs,
    () => {
      background.collectGarbage(settings.garbageGraceSeconds);
      background.compareInventories();
      const leaving = drains();
      if (leaving !== undefined && nodes.get(leaving)?.row.duty === DUTIES.indexOf('active'))
        nodes.setDuty(leaving, 'draining').catch(() => undefined);
      operate(running, clock, upkeep, drains);
    },
    { background: true },
  );
}
