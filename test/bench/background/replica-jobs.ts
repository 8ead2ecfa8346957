/**
 * A million chunks on two nodes of three: all are judged, a node is lost and its copies are made anew, a node is drained, every copy
 * of a node is damaged, and writers put chunks on a node that is to be emptied. Nodes answer at once.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import { SystemRandom } from '@collective/base/random';
import type { Engine } from '@collective/coordinator/engine/engine';
import { ChunkMover } from '@collective/coordinator/jobs/chunk-mover';
import { DamageReports } from '@collective/coordinator/jobs/damage-reports';
import { MISPLACED_MAX, MisplacedChunks } from '@collective/coordinator/jobs/misplaced-chunks';
import { MovingLoads } from '@collective/coordinator/jobs/moving-loads';
import type { ChunkResult } from '@collective/coordinator/jobs/node-orders';
import { RepairJob } from '@collective/coordinator/jobs/repair';
import { Survey } from '@collective/coordinator/jobs/survey';
import { type Outlook, weighNotes } from '@collective/coordinator/ops/chunk-repair';
import type { PicturedNode } from '@collective/coordinator/placement/node-picture';
import { CHUNKS, REPAIR_ORDER } from '@collective/coordinator/tables/tables';
import type { Figures } from '../figures.ts';
import { JobMeter } from './job-meter.ts';
import {
  chunkRow,
  DIGEST,
  diskOf,
  idOf,
  JobScene,
  LateClock,
  NODES,
  numberOf,
  pictured,
  putChunk,
  replicaOn,
  round,
  STORED_LENGTH,
} from './job-scene.ts';

/** What a node reports in one heartbeat at most. */
const REPORTED_MAX = 1_000;

export async function replicaJobs(figures: Figures, count: number): Promise<void> {
  await using scene = await JobScene.open();
  const meter = JobMeter.ofEngine(figures, count, scene.engine);
  await scene.fill(count, (tx, number) => putChunk(tx, number));
  const keeping = new Keeping(scene);
  await meter.measure('judge chunks that are well', () => keeping.judgeAll());
  await keeping.require({ noted: 0, copied: 0, givenUp: 0 });

  const lost = pictured('n2', { heard: 'away', lost: true });
  keeping.see(pictured('n1'), lost, pictured('n3'));
  await meter.measure('judge them when a node is lost', () => keeping.judgeAll());
  keeping.fails = true;
  await meter.measure('repair them where every copy fails', () => keeping.repairAll());
  await keeping.require({ noted: count, copied: 0, givenUp: 0 });
  keeping.fails = false;
  await meter.measure('repair them', () => keeping.repairAll());
  await keeping.require({ noted: 0, copied: count, givenUp: 0 });

  keeping.see(pictured('n1', { duty: 'draining' }), lost, pictured('n3'), pictured('n4'));
  await meter.measure('judge them when a node is to be drained', () => keeping.judgeAll());
  await keeping.require({ noted: count, copied: count, givenUp: 0 });
  await meter.measure('drain it', () => keeping.repairAll());
  await keeping.require({ noted: 0, copied: 2 * count, givenUp: count });

  await meter.measure('hear that all copies of a node are damaged', () => keeping.hearOfDamage(count));
  await keeping.require({ noted: count, copied: 2 * count, givenUp: count });
  keeping.see(pictured('n1'), lost, pictured('n3'), pictured('n4', { duty: 'draining' }));
  await meter.measure('hear of chunks on a node that is to be empty', () => keeping.hearOfMisplaced(count));
}

/** What keeps chunks at their replicas, over nodes of which it is said how they are seen. */
class Keeping {
  fails = false;
  readonly #engine: Engine;
  readonly #survey: Survey;
  readonly #mover: ChunkMover;
  readonly #repair: RepairJob;
  readonly #random = new SystemRandom();
  #picture = new Map<string, PicturedNode>();

  constructor({ engine, rates }: JobScene) {
    this.#engine = engine;
    this.see(...[...NODES, 'n3'].map((name) => pictured(name)));
    const outlook = (): Outlook => this.#outlook;
    this.#mover = new ChunkMover({
      engine,
      rates,
      outlook,
      signal: round.signal,
      orders: {
        fetchChunks: async (node, wanted) =>
          wanted.map(({ chunk }) => (this.fails ? failed(chunk) : wholeOn(node, chunk))),
        verifyChunks: async (node, chunks) => chunks.map((chunk) => wholeOn(node, chunk)),
        forgetChunks: () => Promise.resolve(),
      },
      onDamaged: () => undefined,
      onCopied: () => undefined,
      onGivenUp: () => undefined,
    });
    this.#survey = new Survey({ engine, outlook, loads: new MovingLoads(), onLost: () => undefined });
    this.#repair = new RepairJob({
      clock: new LateClock(),
      engine,
      outlook,
      mover: this.#mover,
      onNodeFailed: () => undefined,
      mayRemove: () => true,
    });
    engine.watch(REPAIR_ORDER, (key, row) => this.#repair.noted(key, row));
  }

  get #outlook(): Outlook {
    return { picture: this.#picture, random: this.#random };
  }

  see(...nodes: readonly PicturedNode[]): void {
    this.#picture = new Map(nodes.map((node) => [node.name, node]));
  }

  judgeAll(): Promise<void> {
    return this.#survey.work(round);
  }

  repairAll(): Promise<void> {
    this.#repair.lookAtAll({ forgives: true });
    return this.#repair.work(round);
  }

  /** n3 tells of each once, as many at a time as a heartbeat holds. */
  async hearOfDamage(count: number): Promise<void> {
    const node = 'n3' as NodeName;
    let told = Promise.withResolvers<void>();
    const reports = new DamageReports({
      engine: this.#engine,
      onDamaged: () => told.resolve(),
      onFailure: (error) => told.reject(error),
    });
    for (let from = 1; from <= count; from += REPORTED_MAX) {
      const length = Math.min(REPORTED_MAX, count - from + 1);
      told = Promise.withResolvers();
      reports.reported(
        node,
        diskOf(node),
        Array.from({ length }, (_, i) => idOf(from + i)),
      );
      await told.promise;
      // The report before is done with in a later turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Each commit tells of its chunk. */
  async hearOfMisplaced(count: number): Promise<void> {
    let isTooMany = false;
    const misplaced = new MisplacedChunks({
      engine: this.#engine,
      picture: () => this.#picture,
      outlook: () => this.#outlook,
      isUnderWay: () => false,
      onFound: () => undefined,
      onTooMany: () => {
        isTooMany = true;
      },
    });
    for (let number = 1; number <= count; number++) {
      const row = chunkRow(number, [replicaOn('n3', number), replicaOn('n4', number)]);
      misplaced.noted(CHUNKS.key(idOf(number)), row);
    }
    await misplaced.work(round.signal);
    if (count > MISPLACED_MAX && !isTooMany)
      throw new Error(`Hear of ${count} chunks at once: it was not said that there are too many`);
  }

  async require(wanted: { noted: number; copied: number; givenUp: number }): Promise<void> {
    let noted = 0;
    for (let after: string | undefined, isEnd = false; !isEnd; ) {
      const from = after;
      const page = await this.#engine.run((tx) => weighNotes(tx, from));
      noted += page.chunks;
      after = page.next;
      isEnd = after === undefined;
    }
    const { copiedChunks: copied, givenUp } = this.#mover.figures;
    const found = { noted, copied, givenUp };
    if (JSON.stringify(found) !== JSON.stringify(wanted))
      throw new Error(`Look at what repair has done: ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
  }
}

function wholeOn(node: NodeName, chunk: ChunkId): ChunkResult {
  const { disk, incarnation, sequence } = replicaOn(node, numberOf(chunk));
  return { chunk, replica: { node, disk, incarnation, sequence }, digest: DIGEST, storedLength: STORED_LENGTH };
}

function failed(chunk: ChunkId): ChunkResult {
  return { chunk, failure: { code: 'unavailable', message: 'none of its sources answers' } };
}
