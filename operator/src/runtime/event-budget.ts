/** How many events of one object are told: many at once, then few, so that one that flaps does not fill etcd. */
import type { Clock } from '@collective/base/clock';

const AT_ONCE = 25;
const ONE_MORE_AFTER_MS = 60_000;
const OBJECTS_MAX = 10_000;

export class EventBudget {
  readonly #clock: Clock;
  /** Least recently used first. */
  readonly #objects = new Map<string, { left: number; atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** False: this one is too much. */
  take(object: string): boolean {
    const nowMs = this.#clock.bootMs();
    const known = this.#objects.get(object) ?? { left: AT_ONCE, atMs: nowMs };
    const left = Math.min(AT_ONCE, known.left + (nowMs - known.atMs) / ONE_MORE_AFTER_MS);
    const isGranted = left >= 1;
    this.#objects.delete(object);
    this.#objects.set(object, { left: isGranted ? left - 1 : left, atMs: nowMs });
    if (this.#objects.size > OBJECTS_MAX) {
      const [oldest = object] = this.#objects.keys();
      this.#objects.delete(oldest);
    }
    return isGranted;
  }
}
