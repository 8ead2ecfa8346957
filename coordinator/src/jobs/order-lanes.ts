/**
 * Gathers single tasks for nodes into orders of bounded size: each node has a lane in which tasks wait in their order, few
 * orders of a lane are under way at once, and not too many over all. Lanes take turns, so a slow node holds up only itself.
 */
import type { NodeName } from '@collective/base/ids';

export interface LaneTask {
  readonly bytes: number;
}

export interface LaneOptions<Task extends LaneTask, Result> {
  readonly perNodeMax: number;
  readonly inAllMax: number;
  readonly tasksPerOrderMax: number;
  /** At least one task goes, however large. */
  bytesPerOrderMax(): number;
  /** One result a task, in order. What it throws, all of its tasks throw. */
  order(node: NodeName, tasks: readonly Task[]): Promise<readonly Result[]>;
}

interface Waiting<Task, Result> {
  readonly task: Task;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

interface Lane<Task, Result> {
  readonly node: NodeName;
  readonly waiting: Waiting<Task, Result>[];
  running: number;
}

export class OrderLanes<Task extends LaneTask, Result> {
  readonly #options: LaneOptions<Task, Result>;
  /** In the order in which they are to be looked at next. */
  readonly #lanes = new Map<NodeName, Lane<Task, Result>>();
  #running = 0;

  constructor(options: LaneOptions<Task, Result>) {
    this.#options = options;
  }

  /** The caller bounds how many tasks wait. */
  add(node: NodeName, task: Task): Promise<Result> {
    const lane = this.#lanes.get(node) ?? { node, waiting: [], running: 0 };
    this.#lanes.set(node, lane);
    const done = new Promise<Result>((resolve, reject) => lane.waiting.push({ task, resolve, reject }));
    // After this turn, in which more may come for the same node.
    queueMicrotask(() => this.#start());
    return done;
  }

  #start(): void {
    const { perNodeMax, inAllMax } = this.#options;
    for (const lane of [...this.#lanes.values()]) {
      if (this.#running >= inAllMax) return;
      if (lane.waiting.length === 0 || lane.running >= perNodeMax) continue;
      // Behind the others.
      this.#lanes.delete(lane.node);
      this.#lanes.set(lane.node, lane);
      void this.#run(lane, this.#nextOrder(lane));
    }
  }

  #nextOrder({ waiting }: Lane<Task, Result>): Waiting<Task, Result>[] {
    const { tasksPerOrderMax, bytesPerOrderMax } = this.#options;
    const bytesMax = bytesPerOrderMax();
    let bytes = 0;
    let count = 0;
    for (const { task } of waiting) {
      bytes += task.bytes;
      if (count === tasksPerOrderMax || (count > 0 && bytes > bytesMax)) break;
      count += 1;
    }
    return waiting.splice(0, count);
  }

  async #run(lane: Lane<Task, Result>, taken: readonly Waiting<Task, Result>[]): Promise<void> {
    lane.running += 1;
    this.#running += 1;
    try {
      const tasks = taken.map(({ task }) => task);
      const results = await this.#options.order(lane.node, tasks);
      for (const [i, { resolve, reject }] of taken.entries()) {
        const result = results[i];
        if (result === undefined)
          reject(new RangeError(`Node ${lane.node} answered ${results.length} of ${taken.length}`));
        else resolve(result);
      }
    } catch (error) {
      for (const { reject } of taken) reject(error);
    } finally {
      lane.running -= 1;
      this.#running -= 1;
      if (lane.running === 0 && lane.waiting.length === 0) this.#lanes.delete(lane.node);
      this.#start();
    }
  }
}
