/**
 * Follows up replicas that were written but not yet stable when they were committed (D3): marks them when their node says
 * that it has synced, and asks a node that was started anew which of them it still has. One node at a time, in bounded steps.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import {
  doubtfulReplicas,
  markStable,
  type RevertedFile,
  STABILITY_STEP,
  type StoreState,
  settleDoubt,
} from '../ops/replica-stability.ts';

export interface SettleParts {
  readonly engine: Engine;
  /** Which of these chunks the node has. Rejects when the node cannot be asked now; it is asked again when it reports. */
  askChunks(node: NodeName, chunks: readonly ChunkId[]): Promise<ReadonlySet<ChunkId>>;
  /** A block got back its earlier content: its file is to be named in an event. */
  onReverted(file: RevertedFile): void;
  onFailure(node: NodeName, error: unknown): void;
}

export class ReplicaSettler {
  readonly #parts: SettleParts;
  /** The newest report of each node that is not yet worked on. */
  readonly #reports = new Map<NodeName, StoreState>();
  readonly #working = new Set<NodeName>();

  constructor(parts: SettleParts) {
    this.#parts = parts;
  }

  /** A node registered or sent a heartbeat. */
  reported(node: NodeName, state: StoreState): void {
    this.#reports.set(node, state);
    if (!this.#working.has(node)) void this.#work(node);
  }

  async #work(node: NodeName): Promise<void> {
    this.#working.add(node);
    try {
      for (let state = this.#reports.get(node); state !== undefined; state = this.#reports.get(node)) {
        this.#reports.delete(node);
        await this.#settle(node, state);
      }
    } catch (error) {
      this.#parts.onFailure(node, error);
    } finally {
      this.#working.delete(node);
    }
  }

  async #settle(node: NodeName, { disk, incarnation, stableSequence }: StoreState): Promise<void> {
    const { engine } = this.#parts;
    const store = { node, disk, incarnation };
    // Asked at every report: a commit may still name a replica of the store's earlier start.
    for (let step = STABILITY_STEP; step === STABILITY_STEP; ) {
      const doubtful = await engine.run((tx) => doubtfulReplicas(tx, store));
      step = doubtful.length;
      if (step === 0) break;
      const chunks = doubtful.map(({ chunk }) => chunk);
      const held = await this.#parts.askChunks(node, chunks);
      for (const file of await engine.run((tx) => settleDoubt(tx, store, doubtful, held))) this.#parts.onReverted(file);
    }
    const mark = (): Promise<number> =>
      engine.run((tx) => markStable(tx, store, stableSequence), { durability: 'written' });
    while ((await mark()) === STABILITY_STEP);
  }
}
