/**
 * Somebody who takes a node of the member away and believes the coordinator's answers, as an administrator or the operator does (D8):
 * it drains, asks until nothing is left, and then stops the node and removes it. It comes back with its disk, or with an empty one, as
 * who trusts the answer may delete a volume. Others drain and change their mind in the middle.
 *
 * That nothing is left must be true when it is said and stay true: no commit may make a chunk lie there afterwards. That a drain
 * ends is judged by the same answer. It goes on over all starts of the coordinator: what is not known to be done is done again.
 */
import { CollectiveError } from '@collective/base/errors';
import type { NodeName } from '@collective/base/ids';
import { pickOne, type Random, randomBelow } from '@collective/base/random';
import type { Engine } from '@collective/coordinator/engine/engine';
import type { NodeDuties } from '@collective/coordinator/membership/node-duties';
import type { NodeTable } from '@collective/coordinator/membership/node-table';
import { closeDisks } from '@collective/coordinator/ops/closed-disks';
import { DUTIES, type Duty } from '@collective/coordinator/placement/node-picture';
import type { ChunkRow } from '@collective/coordinator/tables/gen/tables';
import { prefixEnd } from '@collective/coordinator/tables/table';
import { CHUNKS } from '@collective/coordinator/tables/tables';
import { ROWS_MAX } from './leaks.ts';

const ENDINGS = [
  'stays empty',
  'is needed after all',
  'is needed when it is empty',
  'comes back',
  'comes back with an empty disk',
] as const;

export interface LeavePlan {
  /** Actions that are left when the drain begins. */
  readonly at: number;
  readonly ending: (typeof ENDINGS)[number];
  /** The same for who needs it after all. */
  readonly neededAt: number;
}

export function drawLeavePlan(random: Random, at: number): LeavePlan {
  return { at, ending: pickOne(random, ENDINGS), neededAt: randomBelow(random, at + 1) };
}

/** The machine of the node, for who stands beside it. */
export interface LeavingMachine {
  takeAway(): void;
  bringBack(): void;
  /** It comes back on an empty one. */
  loseDisk(): void;
}

export interface LeavingNodeParts {
  readonly node: NodeName;
  readonly plan: LeavePlan;
  readonly machine: LeavingMachine;
  stepsLeft(): number;
  /** A defect on purpose: its disk is closed again and again once it takes chunks. */
  readonly keepsDiskClosed: boolean;
  onEvent(what: string): void;
  onBreach(error: Error): void;
}

/** What a start of the coordinator offers. */
export interface AskedCoordinator {
  readonly engine: Engine;
  readonly nodes: NodeTable;
  readonly duties: Pick<NodeDuties, 'set' | 'holding' | 'roughHolding' | 'remove'>;
}

/** One for a whole run, over all starts of the coordinator. */
export class LeavingNode {
  readonly #parts: LeavingNodeParts;
  #stage: 'not asked' | 'drains' | 'is stopped' | 'is active again' = 'not asked';
  /** Of which it was said that nothing lies there, and must be so still. */
  #emptyDisk: string | undefined;
  #lastAnswer = 'none';

  constructor(parts: LeavingNodeParts) {
    this.#parts = parts;
  }

  /** What is not done yet; undefined: all is. */
  get open(): string | undefined {
    const { node, plan } = this.#parts;
    const isDone = plan.ending === 'stays empty' ? this.#emptyDisk !== undefined : this.#stage === 'is active again';
    return isDone ? undefined : `node ${node} is to leave and ${this.#stage}; the last answer: ${this.#lastAnswer}`;
  }

  /** Looks at each commit of this start. */
  watch(engine: Engine): void {
    engine.watch(CHUNKS, (_key, row) => {
      if (this.#emptyDisk !== undefined && this.#isNamedThere(row, this.#emptyDisk))
        this.#breach('it was said that nothing lies there, and a commit puts a chunk there');
    });
  }

  /** Does what is next. Throws what the coordinator answers. */
  async goOn(asked: AskedCoordinator): Promise<void> {
    const { node, plan, machine, stepsLeft, onEvent } = this.#parts;
    const { engine, duties } = asked;
    if (this.#stage === 'not asked') {
      if (stepsLeft() > plan.at) return;
      this.#stage = 'drains';
    }
    if (this.#stage === 'is active again') {
      await this.#closeAgain(asked);
      return;
    }
    if (this.#stage === 'drains') {
      const isNeeded = plan.ending === 'is needed after all' && stepsLeft() <= plan.neededAt;
      const isEmpty = !isNeeded && (await this.#isEmpty(asked));
      if (isNeeded || (isEmpty && plan.ending === 'is needed when it is empty')) await this.#keep(asked);
      else if (isEmpty && plan.ending.startsWith('comes back')) {
        machine.takeAway();
        this.#stage = 'is stopped';
        onEvent(`node ${node} is stopped, for nothing is left there`);
      }
      return;
    }
    if (!(await this.#isRemoved(duties, engine))) return;
    onEvent(`node ${node} is removed and ${plan.ending}`);
    // From here on it is another node.
    this.#emptyDisk = undefined;
    if (plan.ending === 'comes back with an empty disk') machine.loseDisk();
    this.#stage = 'is active again';
    machine.bringBack();
  }

  /** While others ask what is left. */
  async #keep({ duties }: AskedCoordinator): Promise<void> {
    const { node, onEvent } = this.#parts;
    this.#emptyDisk = undefined;
    const asking = duties.holding(node);
    await Promise.all([duties.set(node, 'active', 'sim'), asking]);
    this.#stage = 'is active again';
    onEvent(`node ${node} is needed after all`);
  }

  async #isEmpty({ engine, nodes, duties }: AskedCoordinator): Promise<boolean> {
    const { node, onEvent } = this.#parts;
    const known = nodes.get(node);
    if (known === undefined) return false;
    const isDraining = known.row.duty === DUTIES.indexOf('draining');
    const holding = await (isDraining ? duties.roughHolding(node) : duties.set(node, 'draining', 'sim'));
    this.#lastAnswer = `${holding.duty}, ${holding.chunks} chunks`;
    const { disk } = known.row;
    // It may have come with another disk meanwhile: then it is asked again.
    if (holding.duty !== ('draining' satisfies Duty) || holding.chunks > 0 || nodes.get(node)?.row.disk !== disk) {
      if (holding.chunks > 0 && this.#emptyDisk === disk && (await this.#namedOn(engine, disk)) > 0)
        this.#breach('it was said that nothing lies there, and now something does');
      return false;
    }
    if (this.#emptyDisk !== disk) onEvent(`nothing is left on node ${node}`);
    this.#emptyDisk = disk;
    if ((await this.#namedOn(engine, disk)) > 0) this.#breach('it is said that nothing lies there, and something does');
    return true;
  }

  async #isRemoved(duties: AskedCoordinator['duties'], engine: Engine): Promise<boolean> {
    const { node } = this.#parts;
    try {
      await duties.remove(node, { force: false, loseLastCopies: false }, 'sim');
      return true;
    } catch (error) {
      if (!(error instanceof CollectiveError)) throw error;
      // The answer to an earlier attempt was lost with the coordinator.
      if (error.code === 'not_found') return true;
      if (error.code !== 'busy') throw error;
      this.#lastAnswer = error.message;
      // Garbage counts again while the node is away that has its other copy.
      const { chunks } = error.details;
      if (chunks !== undefined && (await this.#namedOn(engine, this.#emptyDisk ?? '')) > 0)
        this.#breach(`it was said that nothing lies there, and its removal is refused: ${error.message}`);
      return false;
    }
  }

  async #closeAgain({ engine, nodes }: AskedCoordinator): Promise<void> {
    const { node, keepsDiskClosed } = this.#parts;
    const disk = nodes.get(node)?.row.disk;
    if (keepsDiskClosed && disk !== undefined) await engine.run((tx) => closeDisks(tx, node, [disk], () => true));
  }

  #isNamedThere({ references, replicas }: ChunkRow, disk: string): boolean {
    return references > 0 && replicas.some((each) => each.node === this.#parts.node && each.disk === disk);
  }

  #namedOn(engine: Engine, disk: string): Promise<number> {
    return engine.run(
      (tx) =>
        tx
          .scan(CHUNKS, CHUNKS.prefix, prefixEnd(CHUNKS.prefix), ROWS_MAX)
          .filter(({ value }) => this.#isNamedThere(value, disk)).length,
      { durability: 'written' },
    );
  }

  #breach(what: string): void {
    this.#parts.onBreach(new Error(`Node ${this.#parts.node} leaves: ${what}`));
  }
}
