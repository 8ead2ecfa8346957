/**
 * Changes that were answered but may still be lost with the coordinator's power (M4). They are kept, and not
 * acknowledged, until the coordinator says that their batch is stable. When it comes back with less than it had, they
 * are sent again before anything else, in the order of their batches and with what they drew; because they were not
 * acknowledged, one that was not lost finds its kept answer and takes no effect twice.
 */
import { compareEpochs, type Epoch } from '@collective/base/ids';
import type { Operation, Reply } from '@collective/protocol/gen/session';

export interface AnsweredChange {
  readonly operation: Operation;
  readonly reply: Reply;
  /** Under which the answer was given: positions of two epochs cannot be compared. */
  readonly epoch: Epoch;
}

export class ReplayLog {
  readonly #changes = new Map<number, AnsweredChange>();

  get size(): number {
    return this.#changes.size;
  }

  add(change: AnsweredChange): void {
    this.#changes.set(change.operation.number, change);
  }

  get(number: number): AnsweredChange | undefined {
    return this.#changes.get(number);
  }

  /** Drops what is stable by the word of that epoch, or was recovered from it; answers the numbers to acknowledge. */
  settle(epoch: Epoch, stablePosition: number): number[] {
    return this.#dropIf(
      (change) => compareEpochs(change.epoch, epoch) === 0 && change.reply.position <= stablePosition,
    );
  }

  /** What must be sent again to a coordinator of this epoch, in order. */
  toReplay(epoch: Epoch): AnsweredChange[] {
    return [...this.#changes.values()]
      .filter((change) => compareEpochs(change.epoch, epoch) !== 0)
      .sort(
        (a, b) =>
          compareEpochs(a.epoch, b.epoch) ||
          a.reply.position - b.reply.position ||
          a.operation.number - b.operation.number,
      );
  }

  /** The session is gone: nothing can be sent again. Answers how many changes are in doubt. */
  clear(): number {
    const inDoubt = this.#changes.size;
    this.#changes.clear();
    return inDoubt;
  }

  drop(number: number): void {
    this.#changes.delete(number);
  }

  #dropIf(isSafe: (change: AnsweredChange) => boolean): number[] {
    const dropped: number[] = [];
    for (const [number, change] of this.#changes) {
      if (!isSafe(change)) continue;
      this.#changes.delete(number);
      dropped.push(number);
    }
    return dropped;
  }
}

/** Whether a change that was made again ended as before, in all that its caller may have built upon. */
export function sameOutcome(before: Reply, again: Reply): boolean {
  const a = before.result;
  const b = again.result;
  if (a === undefined || b === undefined || a.$case !== b.$case) return false;
  switch (a.$case) {
    case 'failure':
      return b.$case === 'failure' && a.value.code === b.value.code;
    case 'attributes':
      return b.$case === 'attributes' && a.value.inode === b.value.inode && a.value.type === b.value.type;
    case 'committed':
      return b.$case === 'committed' && a.value.offset === b.value.offset;
    case 'unlinked':
      return b.$case === 'unlinked' && a.value.inode === b.value.inode;
    default:
      return true;
  }
}
