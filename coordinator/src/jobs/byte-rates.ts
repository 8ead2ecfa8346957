/**
 * The bytes a second that background work may cost nodes (D8): one bucket for what is copied between them, one for what they
 * read again to look whether it is whole, both at the rate that the member is set to. All jobs of a member draw from the
 * same two, so that the setting holds for their sum, whichever of them are at work. Takers wait in line: none starves.
 */
import type { Clock } from '@collective/base/clock';
import { TokenBucket } from '@collective/base/token-bucket';

/** Of one order to a node: while it is at it, others wait for the disk. */
const BYTES_PER_ORDER_MAX = 32 * 1024 * 1024;
/** A second's worth is given in so many orders: a node syncs what an order brought in one go, and who writes there waits for that. */
const ORDERS_PER_SECOND = 16;

export class ByteRates {
  readonly copying: TokenBucket;
  readonly reading: TokenBucket;
  readonly #bytesPerSecond: () => number;

  constructor({ clock, bytesPerSecond }: { clock: Clock; bytesPerSecond: () => number }) {
    this.copying = new TokenBucket({ clock, bytesPerSecond });
    this.reading = new TokenBucket({ clock, bytesPerSecond });
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** What goes at once is a small part of what goes in a second, so that foreground work is held up shortly at most. */
  get bytesPerOrderMax(): number {
    return Math.min(BYTES_PER_ORDER_MAX, this.#bytesPerSecond() / ORDERS_PER_SECOND);
  }
}

/** Cuts what is to be ordered into orders; one task at least is in each, however large. */
export function* inOrders<Task>(
  tasks: readonly Task[],
  { tasksMax, bytesMax, bytesOf }: { tasksMax: number; bytesMax: number; bytesOf: (task: Task) => number },
): Generator<Task[]> {
  let order: Task[] = [];
  let bytes = 0;
  for (const task of tasks) {
    if (order.length === tasksMax || (order.length > 0 && bytes + bytesOf(task) > bytesMax)) {
      yield order;
      order = [];
      bytes = 0;
    }
    order.push(task);
    bytes += bytesOf(task);
  }
  if (order.length > 0) yield order;
}
