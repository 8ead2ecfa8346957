/** What administrators see and start of the rebalance: shapes of the job to shapes of the wire. */
import { CollectiveError } from '@collective/base/errors';
import type { RebalanceStatus } from '@collective/protocol/gen/admin';
import type { Engine } from '../engine/engine.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Background } from '../jobs/background.ts';
import type { MaintenanceSettings } from '../jobs/maintenance.ts';

export interface RebalanceAdminParts {
  readonly engine: Pick<Engine, 'epoch'>;
  readonly background: Pick<Background, 'replicas' | 'rebalanceNow' | 'planRebalance'>;
  readonly events: Pick<EventLog, 'record'>;
  settings(): Pick<MaintenanceSettings, 'garbageWaits'>;
}

export class RebalanceAdmin {
  readonly #parts: RebalanceAdminParts;

  constructor(parts: RebalanceAdminParts) {
    this.#parts = parts;
  }

  status(): RebalanceStatus {
    const { asked, finished, movedChunks, movedBytes, spread } = this.#parts.background.replicas.rebalance;
    return {
      epoch: this.#parts.engine.epoch,
      asked,
      finished,
      movedChunks,
      movedBytes,
      spreadPercent: spread === undefined ? undefined : spread * 100,
      plannedChunks: 0,
      plannedBytes: 0,
      plannedSpreadPercent: undefined,
    };
  }

  /** Throws `not_permitted` after a restore that nobody has confirmed (D9). */
  begin(by: string): RebalanceStatus {
    const { background, events, settings } = this.#parts;
    if (settings().garbageWaits)
      throw new CollectiveError(
        'not_permitted',
        'Rebalance the nodes: nothing is given up anywhere until a person confirms the restore: collective maintenance set garbage-waits=false',
      );
    background.rebalanceNow();
    events.record('rebalance-asked', `The nodes are evened out, as ${by} asked`, { by });
    return this.status();
  }

  async plan(): Promise<RebalanceStatus> {
    const { chunks, bytes, spread, spreadAfter } = await this.#parts.background.planRebalance();
    return {
      ...this.status(),
      spreadPercent: spread * 100,
      plannedChunks: chunks,
      plannedBytes: bytes,
      plannedSpreadPercent: spreadAfter * 100,
    };
  }
}
