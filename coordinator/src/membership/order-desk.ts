/** The orders of one node link that are not answered yet: numbered, bounded in time, and failed together when the link ends. */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import type { Answer, CoordinatorMessage, Order } from '@collective/protocol/gen/node';

export const ORDERS_PER_NODE_MAX = 64;

export type OrderBody = NonNullable<Order['order']>;
export type AnswerBody = Exclude<NonNullable<Answer['answer']>, { $case: 'failure' }>;

interface OpenOrder {
  readonly what: string;
  readonly settle: (answer: AnswerBody | CollectiveError) => void;
}

export class OrderDesk {
  readonly #clock: Clock;
  readonly #send: (message: CoordinatorMessage) => void;
  readonly #open = new Map<number, OpenOrder>();
  #next = 1;

  constructor(clock: Clock, send: (message: CoordinatorMessage) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  /** `what`: for errors, as "Fetch chunks on node n1". Throws what the node answered, `unavailable`, `overloaded`, the signal's reason. */
  give(what: string, order: OrderBody, options: { withinMs: number; signal: AbortSignal }): Promise<AnswerBody> {
    const { withinMs, signal } = options;
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#open.size >= ORDERS_PER_NODE_MAX)
      return Promise.reject(new CollectiveError('overloaded', `${what}: it has ${ORDERS_PER_NODE_MAX} orders already`));
    const number = this.#next++;
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined;
      const end = (): void => {
        timer?.cancel();
        signal.removeEventListener('abort', onAbort);
        this.#open.delete(number);
      };
      const giveUp = (reason: unknown): void => {
        end();
        this.#send({ message: { $case: 'order', value: { number, order: { $case: 'cancel', value: { number } } } } });
        reject(reason);
      };
      const onAbort = (): void => giveUp(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      timer = this.#clock.setTimer(withinMs, () =>
        giveUp(new CollectiveError('unavailable', `${what}: no answer within ${withinMs} ms`)),
      );
      this.#open.set(number, {
        what,
        settle: (answer) => {
          end();
          if (answer instanceof CollectiveError) reject(answer);
          else resolve(answer);
        },
      });
      this.#send({ message: { $case: 'order', value: { number, order } } });
    });
  }

  /** An answer that nobody waits for any more is dropped. */
  answered({ number, answer }: Answer): void {
    const open = this.#open.get(number);
    if (open === undefined) return;
    if (answer === undefined)
      open.settle(new CollectiveError('unavailable', `${open.what}: it does not know this order`));
    else open.settle(answer.$case === 'failure' ? fromFailure(answer.value) : answer);
  }

  linkEnded(): void {
    for (const { what, settle } of [...this.#open.values()])
      settle(new CollectiveError('unavailable', `${what}: its link ended`));
  }
}
