/** What administrators see and start of garbage and orphans: shapes of the jobs to shapes of the wire. */
import { type Clock, wallMs } from '@collective/base/clock';
import { chunkIdFromBytes, chunkIdToBytes } from '@collective/base/ids';
import type {
  CollectGarbageRequest,
  GarbageCollection,
  GarbagePage,
  GarbageStatus,
  ListGarbageRequest,
  ListOrphansRequest,
  OrphanPage,
} from '@collective/protocol/gen/admin';
import type { Engine } from '../engine/engine.ts';
import type { Background } from '../jobs/background.ts';
import { dueGarbage } from '../jobs/garbage.ts';
import type { MaintenanceSettings } from '../jobs/maintenance.ts';
import { orphanPage } from '../ops/orphan-chunks.ts';
import { byteString, bytesOf, prefixEnd } from '../tables/table.ts';
import { CHUNKS, DOOMED } from '../tables/tables.ts';

export interface GarbageAdminParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly background: Pick<
    Background,
    'garbage' | 'compactions' | 'orphans' | 'inventories' | 'folds' | 'collectGarbage' | 'compareInventories'
  >;
  settings(): MaintenanceSettings;
}

/** Counted up to here; beyond, "at least" is enough for a person. */
const REMOVED_COUNTED_MAX = 10_000;
const ORPHANS_PAGE = 1_000;

export class GarbageAdmin {
  readonly #parts: GarbageAdminParts;

  constructor(parts: GarbageAdminParts) {
    this.#parts = parts;
  }

  async status(): Promise<GarbageStatus> {
    const { engine, background, settings, clock } = this.#parts;
    const { garbageGraceSeconds, garbageWaits } = settings();
    const { garbage, compactions, orphans, inventories, folds } = background;
    const removedFiles = await engine.run(
      (tx) => tx.scan(DOOMED, DOOMED.prefix, prefixEnd(DOOMED.prefix), REMOVED_COUNTED_MAX).length,
    );
    const wall = (bootMs: number): { seconds: number; nanos: number } => ({
      seconds: Math.floor((wallMs(clock) - (clock.bootMs() - bootMs)) / 1_000),
      nanos: 0,
    });
    return {
      graceSeconds: garbageGraceSeconds,
      waits: garbageWaits,
      walkedAt: garbage.walkedAt,
      chunks: garbage.chunks,
      storedBytes: garbage.storedBytes,
      condemned: garbage.condemned,
      waitsFor: [...garbage.waitsFor].map(([node, reason]) => ({ node, reason })),
      removedFiles,
      collectedChunks: garbage.collectedChunks,
      collectedBytes: garbage.collectedBytes,
      asked: garbage.asked,
      finished: compactions.finished,
      epoch: engine.epoch,
      orphans: orphans.chunks,
      orphansForgotten: orphans.forgotten,
      inventories: [...inventories].map(([node, { endedMs, ...counts }]) => ({
        node,
        ended: wall(endedMs),
        ...counts,
      })),
      foldedBlocks: folds.folded,
      blocksToFold: folds.candidates,
      compactions: [...compactions.nodes],
    };
  }

  async list({ graceSeconds, after }: ListGarbageRequest): Promise<GarbagePage> {
    const { engine, settings } = this.#parts;
    const grace = graceSeconds ?? settings().garbageGraceSeconds;
    const { due, next } = await dueGarbage(engine, grace, after.length === 0 ? undefined : chunkIdFromBytes(after));
    const rows = await engine.run((tx) => {
      tx.need(due.map(({ chunk }) => CHUNKS.key(chunk)));
      return due.map(({ chunk }) => tx.get(CHUNKS, chunk));
    });
    return {
      garbage: due.map(({ chunk, since, condemned, storedBytes }, i) => ({
        chunk: chunkIdToBytes(chunk),
        since,
        condemned,
        storedBytes,
        nodes: rows[i]?.replicas.map(({ node }) => node) ?? [],
        inode: rows[i]?.inode ?? 0,
      })),
      next: next === undefined ? Buffer.alloc(0) : chunkIdToBytes(next),
    };
  }

  /** Nodes are compared as well: their orphans are garbage of another kind. */
  collect({ graceSeconds }: CollectGarbageRequest): GarbageCollection {
    const { engine, background, settings } = this.#parts;
    const number = background.collectGarbage(graceSeconds ?? settings().garbageGraceSeconds);
    background.compareInventories();
    return { number, epoch: engine.epoch };
  }

  async orphans({ after }: ListOrphansRequest): Promise<OrphanPage> {
    const from = after.length === 0 ? undefined : byteString(after);
    const page = await this.#parts.engine.run((tx) => orphanPage(tx, from, ORPHANS_PAGE));
    return {
      orphans: page.map(({ node, disk, chunk, since, leaving, forgotten }) => ({
        node,
        disk,
        chunk: chunkIdToBytes(chunk),
        since,
        leaving,
        forgotten,
      })),
      next: page.length < ORPHANS_PAGE ? Buffer.alloc(0) : bytesOf(page.at(-1)?.key ?? ''),
    };
  }
}
