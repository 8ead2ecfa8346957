/**
 * How the member looks after itself: a row of the store that an administrator changes while the member runs. What is not set
 * has its default.
 */
import { CollectiveError } from '@collective/base/errors';
import type { Engine } from '../engine/engine.ts';
import type { MaintenanceRow } from '../tables/gen/tables.ts';
import { MAINTENANCE } from '../tables/tables.ts';

export interface MaintenanceSettings {
  /** A node that is away for so long is given up: its replicas are made anew elsewhere (D8). */
  readonly repairAfterSeconds: number;
  /** Bytes that repair, drain, rebalance and folds copy together in a second; as many may be read again (`byte-rates.ts`). */
  readonly repairBytesPerSecond: number;
  /** Every chunk is read and verified once within it; 0: never. */
  readonly scrubPeriodSeconds: number;
  /** What nothing names any more is kept for so long. */
  readonly garbageGraceSeconds: number;
  /** Nothing is collected until a person confirms: a restored coordinator may know less than the nodes hold (D9). */
  readonly garbageWaits: boolean;
  /** Nodes are evened out when their use differs from the average by more than so many percent of capacity; 0: never by itself. */
  readonly rebalancePercent: number;
  /** Hours of the day, of UTC, as '01-05'; empty: at any time. */
  readonly rebalanceHours: string;
}

const DAY = 86_400;

export const MAINTENANCE_DEFAULTS: MaintenanceSettings = {
  repairAfterSeconds: 600,
  repairBytesPerSecond: 48 * 1024 * 1024,
  scrubPeriodSeconds: 30 * DAY,
  garbageGraceSeconds: DAY,
  garbageWaits: false,
  rebalancePercent: 10,
  rebalanceHours: '',
};

const BOUNDS = {
  repairAfterSeconds: [1, 30 * DAY],
  repairBytesPerSecond: [64 * 1024, 2 ** 40],
  scrubPeriodSeconds: [3_600, 3_650 * DAY],
  garbageGraceSeconds: [0, 365 * DAY],
  rebalancePercent: [1, 100],
} as const;

export class Maintenance {
  readonly #engine: Engine;
  #settings: MaintenanceSettings;
  #told: () => void = () => undefined;

  static async load(engine: Engine): Promise<Maintenance> {
    const row = await engine.run((tx) => tx.get(MAINTENANCE));
    return new Maintenance(engine, row === undefined ? MAINTENANCE_DEFAULTS : settingsOf(row));
  }

  private constructor(engine: Engine, settings: MaintenanceSettings) {
    this.#engine = engine;
    this.#settings = settings;
  }

  get current(): MaintenanceSettings {
    return this.#settings;
  }

  /** Who works by these settings need not find out by itself. */
  whenChanged(told: () => void): void {
    this.#told = told;
  }

  /** Resolves when it is stable. Throws `invalid_argument`. */
  async change(change: Partial<MaintenanceSettings>): Promise<MaintenanceSettings> {
    const settings = { ...this.#settings, ...change };
    checkSettings(settings);
    await this.#engine.run((tx) => tx.put(MAINTENANCE, rowOf(settings)));
    this.#settings = settings;
    this.#told();
    return settings;
  }
}

/** May be off: 0 for a person, -1 in the row, where 0 means "as the program sees fit". */
const MAY_BE_OFF: ReadonlySet<string> = new Set(['scrubPeriodSeconds', 'rebalancePercent', 'garbageGraceSeconds']);

function checkSettings(settings: MaintenanceSettings): void {
  for (const [name, [least, most]] of Object.entries(BOUNDS)) {
    const value = settings[name as keyof typeof BOUNDS];
    if (value === 0 && MAY_BE_OFF.has(name)) continue;
    if (!Number.isInteger(value) || value < least || value > most)
      throw new CollectiveError(
        'invalid_argument',
        `Set ${name} to ${value}: it is a whole number from ${least} to ${most}${MAY_BE_OFF.has(name) ? ', or 0 for none' : ''}`,
      );
  }
  const hours = settings.rebalanceHours;
  if (hours !== '' && !/^([01]\d|2[0-3])-([01]\d|2[0-3])$/.test(hours))
    throw new CollectiveError(
      'invalid_argument',
      `Set rebalanceHours to '${hours}': it is hours of UTC such as '01-05'`,
    );
}

function settingsOf(row: MaintenanceRow): MaintenanceSettings {
  const { scrubPeriodSeconds, garbageGraceSeconds, rebalancePercent } = row;
  const given = <T>(value: T, none: T, otherwise: T): T => (value === none ? otherwise : value);
  return {
    repairAfterSeconds: given(row.repairAfterSeconds, 0, MAINTENANCE_DEFAULTS.repairAfterSeconds),
    repairBytesPerSecond: given(row.repairBytesPerSecond, 0, MAINTENANCE_DEFAULTS.repairBytesPerSecond),
    scrubPeriodSeconds: offOr(scrubPeriodSeconds, MAINTENANCE_DEFAULTS.scrubPeriodSeconds),
    garbageGraceSeconds: offOr(garbageGraceSeconds, MAINTENANCE_DEFAULTS.garbageGraceSeconds),
    garbageWaits: row.garbageWaits,
    rebalancePercent: offOr(rebalancePercent, MAINTENANCE_DEFAULTS.rebalancePercent),
    rebalanceHours: row.rebalanceHours,
  };
}

function offOr(value: number, otherwise: number): number {
  return value < 0 ? 0 : value === 0 ? otherwise : value;
}

function rowOf(settings: MaintenanceSettings): MaintenanceRow {
  const orOff = (value: number): number => (value === 0 ? -1 : value);
  return {
    ...settings,
    scrubPeriodSeconds: orOff(settings.scrubPeriodSeconds),
    garbageGraceSeconds: orOff(settings.garbageGraceSeconds),
    rebalancePercent: orOff(settings.rebalancePercent),
  };
}
