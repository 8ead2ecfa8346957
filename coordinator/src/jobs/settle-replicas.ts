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

export interface StoreState {
  /** Of the chunk store: counts its starts. */
  readonly incarnation: number;
  readonly stableSequence: number;
}

export class ReplicaSettler {
  readonly #parts: SettleParts;
  /** The newest report of each node that is not yet worked on. */
  readonly #reports = new Map<NodeName, StoreState>();
  readonly #working = new Set<NodeName>();
  /** Starts of a node's store whose earlier replicas have been settled: nothing doubtful is left below. */
  readonly #settled = new Map<NodeName, number>();

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

  async #settle(node: NodeName, { incarnation, stableSequence }: StoreState): Promise<void> {
    const { engine } = this.#parts;
    while (this.#settled.get(node) !== incarnation) {
      const doubtful = await engine.run((tx) => doubtfulReplicas(tx, node, incarnation));
      if (doubtful.length > 0) {
        const held = await this.#parts.askChunks(
          node,
          doubtful.map(({ chunk }) => chunk),
        );
        for (const file of await engine.run((tx) => settleDoubt(tx, node, doubtful, held)))
          this.#parts.onReverted(file);
      }
      if (doubtful.length < STABILITY_STEP) this.#settled.set(node, incarnation);
    }
    while (
      (await engine.run((tx) => markStable(tx, node, incarnation, stableSequence), { durability: 'written' })) ===
      STABILITY_STEP
    );
  }
}
