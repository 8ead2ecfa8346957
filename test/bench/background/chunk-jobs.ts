/**
 * A million chunks, each of a file of its own and on two nodes: they are compared with what a node lists, looked through for folds,
 * planned and moved when a node joins, let go of when their files go, and collected as garbage. Nodes answer at once.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import { SystemRandom } from '@collective/base/random';
import { FoldJob } from '@collective/coordinator/jobs/fold';
import { GarbageCollector } from '@collective/coordinator/jobs/garbage';
import { InventoryJob } from '@collective/coordinator/jobs/inventory';
import { MAINTENANCE_DEFAULTS } from '@collective/coordinator/jobs/maintenance';
import { RebalanceJob } from '@collective/coordinator/jobs/rebalance';
import { BlockRelease } from '@collective/coordinator/jobs/release-blocks';
import { DOOMED } from '@collective/coordinator/tables/tables';
import type { Figures } from '../figures.ts';
import { JobMeter } from './job-meter.ts';
import {
  diskOf,
  idOf,
  JobScene,
  LateClock,
  LENGTH,
  listing,
  NODES,
  pictured,
  putBlock,
  putChunk,
  round,
  STORED_LENGTH,
} from './job-scene.ts';

export async function chunkJobs(figures: Figures, count: number): Promise<void> {
  await using scene = await JobScene.open();
  const meter = JobMeter.ofEngine(figures, count, scene.engine);
  await scene.fill(count, (tx, number) => {
    putChunk(tx, number);
    putBlock(tx, number, number);
  });
  await compare(scene, meter, count);
  await surveyForFolds(scene, meter);
  await rebalance(scene, meter, count);
  await collect(scene, meter, count);
}

async function compare({ engine, rates }: JobScene, meter: JobMeter, count: number): Promise<void> {
  const inventory = new InventoryJob({
    clock: new LateClock(),
    engine,
    rates,
    orders: { listChunks: listing(count), verifyChunks: () => Promise.resolve([]) },
    stores: () => [{ node: 'n1' as NodeName, disk: diskOf('n1'), incarnation: 1, stableSequence: count }],
    onMissing: () => undefined,
  });
  await meter.measure('compare the list of a node', () => inventory.work(round));
  const { chunks, missing, orphans } = inventory.figures.get('n1' as NodeName) ?? {};
  if (chunks !== count || missing !== 0 || orphans !== 0)
    throw new Error(`Compare ${count} chunks: ${chunks} were, ${missing} are missing, ${orphans} are orphans`);
}

async function surveyForFolds({ engine, rates }: JobScene, meter: JobMeter): Promise<void> {
  const fold = new FoldJob({
    clock: new LateClock(),
    engine,
    rates,
    orders: {
      foldBlock: () => Promise.reject(new Error('Fold a block: nothing here is to be folded')),
      fetchChunks: () => Promise.resolve([]),
    },
    candidates: () => [],
    drawChunkId: () => idOf(0),
    recallData: () => Promise.resolve(),
  });
  await meter.measure('survey all blocks for folds', () => fold.work(round));
}

/** n3 has joined: it has nothing. */
async function rebalance({ engine }: JobScene, meter: JobMeter, count: number): Promise<void> {
  const capacityBytes = count * STORED_LENGTH;
  const full = { capacityBytes, usedBytes: capacityBytes, freeBytes: capacityBytes };
  const picture = new Map(
    [...NODES, 'n3'].map((name) => [name, pictured(name, { ...full, usedBytes: name === 'n3' ? 0 : capacityBytes })]),
  );
  const random = new SystemRandom();
  const done = { state: 'done' } as const;
  let moved = 0;
  const job = new RebalanceJob({
    clock: new LateClock(),
    engine,
    outlook: () => ({ picture, random }),
    settings: () => MAINTENANCE_DEFAULTS,
    mover: {
      begin: () => true,
      end: () => undefined,
      copy: async () => {
        moved += 1;
        return done;
      },
      drop: async () => done,
    },
    onNodeFailed: () => undefined,
    onMoved: () => undefined,
  });
  await meter.measure('plan what a node that has joined gets', async () => {
    const { chunks } = await job.plan(round.signal);
    if (chunks < count / 2) throw new Error(`Plan a rebalance over three nodes: it moves ${chunks} chunks`);
  });
  job.ask();
  await meter.measure('give it that', () => job.work(round));
  if (moved < count / 2) throw new Error(`Even out three nodes: ${moved} chunks were moved`);
}

async function collect(scene: JobScene, meter: JobMeter, count: number): Promise<void> {
  const { engine } = scene;
  await scene.fill(count, (tx, inode) => tx.put(DOOMED, { since: tx.now, inode, size: LENGTH, realm: 1 }, inode));
  const release = new BlockRelease(engine);
  await meter.measure('let go of the blocks of removed files', () => release.work(round));
  const settings = { garbageGraceSeconds: 86_400, garbageWaits: false };
  const told = new Map<NodeName, number>();
  const collector = new GarbageCollector({
    clock: new LateClock(),
    engine,
    orders: {
      forgetChunks: async (node: NodeName, chunks: readonly ChunkId[]) =>
        void told.set(node, (told.get(node) ?? 0) + chunks.length),
    },
    settings: () => settings,
    diskOf,
    releaseBlocks: () => Promise.resolve(),
    replaysOver: () => Promise.resolve(),
    ownsChunk: () => false,
    onCollected: () => undefined,
  });
  await meter.measure('walk over garbage that is young', () => collector.work(round));
  settings.garbageGraceSeconds = 0;
  await meter.measure('collect garbage', () => collector.work(round));
  const { collectedChunks } = collector.figures;
  if (collectedChunks !== count || NODES.some((node) => told.get(node) !== count))
    throw new Error(`Collect ${count} chunks: ${collectedChunks} were, nodes were told of ${[...told.values()]}`);
}
