/**
 * A million chunks on a node that no row says to lie there. Those without a row are noted by the inventory, kept for the grace, and
 * forgotten, with a refusal for whoever might still commit one, which garbage collection drops in the end. Copies too many of chunks
 * that have their replicas elsewhere go after those were read again.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '@collective/coordinator/engine/engine';
import { GarbageCollector } from '@collective/coordinator/jobs/garbage';
import { InventoryJob } from '@collective/coordinator/jobs/inventory';
import type { NodeOrders } from '@collective/coordinator/jobs/node-orders';
import { OrphanJob } from '@collective/coordinator/jobs/orphans';
import { GARBAGE, ORPHAN_CHUNKS } from '@collective/coordinator/tables/tables';
import type { Figures } from '../figures.ts';
import { JobMeter } from './job-meter.ts';
import {
  DAY_SECONDS,
  DIGEST,
  diskOf,
  JobScene,
  LateClock,
  listing,
  numberOf,
  putChunk,
  replicaOn,
  round,
  STORED_LENGTH,
} from './job-scene.ts';

/** Replicas lie on n1 and n2. */
const NODE = 'n3' as NodeName;
const SETTINGS = { garbageGraceSeconds: DAY_SECONDS, garbageWaits: false };

export async function orphanJobs(figures: Figures, count: number): Promise<void> {
  await using scene = await JobScene.open();
  const meter = JobMeter.ofEngine(figures, count, scene.engine);
  await withoutRows(scene, meter, count);
  await tooMany(scene, meter, count);
}

async function withoutRows(scene: JobScene, meter: JobMeter, count: number): Promise<void> {
  const { engine } = scene;
  const clock = new LateClock();
  const orphans = orphanJob(scene, clock);
  const inventory = inventoryOf(scene, count);
  await meter.measure('note chunks without a row that a node lists', () => inventory.work(round));
  await meter.measure('walk over orphans that are young', () => orphans.job.work(round));
  if (orphans.job.figures.chunks !== count || orphans.told() > 0)
    throw new Error(`Keep ${count} young orphans: ${orphans.job.figures.chunks} are, ${orphans.told()} were forgotten`);
  clock.aheadSeconds = 2 * DAY_SECONDS;
  await meter.measure('let orphans go', () => orphans.job.work(round));
  if (orphans.told() !== count) throw new Error(`Let ${count} orphans go: ${orphans.told()} were forgotten`);
  await meter.measure('drop the refusals that they have left', () => garbageJob(scene).work(round));
  await requireEmpty(engine, GARBAGE);
  await dropNotes(scene, meter, clock);
}

async function tooMany(scene: JobScene, meter: JobMeter, count: number): Promise<void> {
  await scene.fill(count, (tx, number) => putChunk(tx, number));
  const clock = new LateClock();
  const orphans = orphanJob(scene, clock);
  const inventory = inventoryOf(scene, count);
  await meter.measure('note copies too many that a node lists', () => inventory.work(round));
  clock.aheadSeconds = 2 * DAY_SECONDS;
  await meter.measure('let copies too many go', () => orphans.job.work(round));
  if (orphans.told() !== count) throw new Error(`Let ${count} copies go: ${orphans.told()} were forgotten`);
  await dropNotes(scene, meter, clock);
}

/** Kept for a while lest a late fetch brings the chunk back. */
async function dropNotes(scene: JobScene, meter: JobMeter, clock: LateClock): Promise<void> {
  const { job } = orphanJob(scene, clock);
  await meter.measure('drop the notes of what has gone', () => job.work(round));
  await requireEmpty(scene.engine, ORPHAN_CHUNKS);
}

async function requireEmpty(engine: Engine, table: typeof GARBAGE | typeof ORPHAN_CHUNKS): Promise<void> {
  const { name, prefix } = table;
  const rows = await engine.run((tx) => tx.scan(table as typeof GARBAGE, prefix, `${prefix}\xff`, 1));
  if (rows.length > 0) throw new Error(`Look for rows of ${name}: some are left`);
}

function inventoryOf({ engine, rates }: JobScene, count: number): InventoryJob {
  return new InventoryJob({
    clock: new LateClock(),
    engine,
    rates,
    orders: { listChunks: listing(count), verifyChunks: () => Promise.resolve([]) },
    stores: () => [{ node: NODE, disk: diskOf(NODE), incarnation: 1, stableSequence: count }],
    onMissing: () => undefined,
  });
}

/** Nodes forget at once, and find whole what they are to read. */
function orphanJob({ engine, rates }: JobScene, clock: LateClock): { job: OrphanJob; told(): number } {
  let told = 0;
  const job = new OrphanJob({
    clock,
    engine,
    rates,
    orders: {
      forgetChunks: async (_node, chunks) => {
        told += chunks.length;
      },
      verifyChunks: async (node, chunks) => chunks.map((chunk) => wholeOn(node, chunk)),
    },
    diskOf,
    settings: () => SETTINGS,
    replaysOver: () => Promise.resolve(),
    onMayTakeAgain: () => undefined,
  });
  return { job, told: () => told };
}

function wholeOn(node: NodeName, chunk: ChunkId): Awaited<ReturnType<NodeOrders['verifyChunks']>>[number] {
  const { disk, incarnation, sequence } = replicaOn(node, numberOf(chunk));
  return { chunk, replica: { node, disk, incarnation, sequence }, digest: DIGEST, storedLength: STORED_LENGTH };
}

function garbageJob({ engine }: JobScene): GarbageCollector {
  return new GarbageCollector({
    clock: new LateClock(),
    engine,
    orders: { forgetChunks: () => Promise.resolve() },
    settings: () => SETTINGS,
    diskOf,
    releaseBlocks: () => Promise.resolve(),
    replaysOver: () => Promise.resolve(),
    ownsChunk: () => false,
    onCollected: () => undefined,
  });
}
