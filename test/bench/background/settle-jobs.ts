/**
 * A million chunks whose replicas were committed before they were stable (D3). One node says that all of its own are stable; the
 * other has started anew, is asked which of them it has, and lacks each fourth.
 */
import { sleep } from '@collective/base/clock';
import { type ChunkId, chunkIdToBytes, type InodeNumber, type NodeName } from '@collective/base/ids';
import { SystemClock } from '@collective/base/system-clock';
import type { Engine } from '@collective/coordinator/engine/engine';
import { ReplicaSettler } from '@collective/coordinator/jobs/settle-replicas';
import { prefixEnd } from '@collective/coordinator/tables/table';
import { CHUNKS, diskPrefix, UNFIRM, UNSTABLE } from '@collective/coordinator/tables/tables';
import type { Figures } from '../figures.ts';
import { JobMeter } from './job-meter.ts';
import { chunkRow, diskOf, idOf, JobScene, NODES, numberOf, replicaOn } from './job-scene.ts';

const ASK_EVERY_MS = 250;
const clock = new SystemClock();

export async function settleJobs(figures: Figures, count: number): Promise<void> {
  await using scene = await JobScene.open();
  const { engine } = scene;
  const meter = JobMeter.ofEngine(figures, count, engine);
  await scene.fill(count, (tx, number) => {
    const chunk = idOf(number);
    const replicas = NODES.map((node) => ({ ...replicaOn(node, number), stable: false }));
    tx.put(CHUNKS, chunkRow(number, replicas), chunk);
    tx.put(UNFIRM, { version: 1 }, number as InodeNumber, chunk);
    for (const { node, disk, incarnation, sequence } of replicas)
      tx.put(UNSTABLE, { value: chunkIdToBytes(chunk) }, node as NodeName, disk, incarnation, sequence, chunk);
  });
  let failure: unknown;
  const settler = new ReplicaSettler({
    engine,
    askChunks: async (_node, chunks) => new Set(chunks.filter(hasSurvived)),
    onReverted: ({ chunk }) => {
      failure ??= new Error(`Settle replicas: chunk ${chunk} was taken for lost`);
    },
    onFailure: (_node, error) => {
      failure ??= error;
    },
  });
  const settled = async (node: NodeName, incarnation: number): Promise<void> => {
    settler.reported(node, { disk: diskOf(node), incarnation, stableSequence: count });
    while (await isUnsettled(engine, node)) {
      if (failure !== undefined) throw failure;
      await sleep(clock, ASK_EVERY_MS);
    }
  };
  const [told, asked] = NODES as [NodeName, NodeName];
  await meter.measure('mark replicas that a node says are stable', () => settled(told, 1));
  await meter.measure('ask a node that has started anew', () => settled(asked, 2));
}

function hasSurvived(chunk: ChunkId): boolean {
  return numberOf(chunk) % 4 !== 0;
}

async function isUnsettled(engine: Engine, node: NodeName): Promise<boolean> {
  const prefix = UNSTABLE.prefix + diskPrefix(node, diskOf(node));
  return (await engine.run((tx) => tx.scan(UNSTABLE, prefix, prefixEnd(prefix), 1))).length > 0;
}
