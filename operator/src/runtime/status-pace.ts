/**
 * When a status may be written that tells of nothing but progress: an object that comes up would otherwise cost dozens of writes
 * within seconds, of which every watcher hears. What waits is not kept here: who is told to wait looks again then, and so the last
 * state is always told.
 */
import type { Clock } from '@collective/base/clock';
import type { ObjectKey } from '../kube/kube-object.ts';
import { nameOf } from './object-store.ts';

const PROGRESS_EVERY_MS = 2_000;

export class StatusPace {
  readonly #clock: Pick<Clock, 'bootMs'>;
  readonly #writtenAtMs = new Map<string, number>();

  constructor(clock: Pick<Clock, 'bootMs'>) {
    this.#clock = clock;
  }

  /** 0: now. */
  waitMs(key: ObjectKey): number {
    const writtenAtMs = this.#writtenAtMs.get(nameOf(key)) ?? Number.NEGATIVE_INFINITY;
    return Math.max(0, writtenAtMs + PROGRESS_EVERY_MS - this.#clock.bootMs());
  }

  wrote(key: ObjectKey): void {
    this.#writtenAtMs.set(nameOf(key), this.#clock.bootMs());
  }

  forget(key: ObjectKey): void {
    this.#writtenAtMs.delete(nameOf(key));
  }
}
