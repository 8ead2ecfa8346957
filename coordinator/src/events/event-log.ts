/**
 * What happened that a person should know: a lost disk, a file whose block reverted, a node that went away. Kept in the
 * store, newest 10,000; the latest are in memory for status.
 */
import type { Clock, Timestamp } from '@collective/base/clock';
import type { Engine } from '../engine/engine.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { EVENTS } from '../tables/tables.ts';

export interface MemberEvent {
  readonly time: Timestamp;
  /** Stable word for programs, as 'disk-lost'. */
  readonly kind: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string>>;
}

export const EVENTS_KEPT = 10_000;
const LATEST = 20;

export class EventLog {
  readonly #clock: Clock;
  readonly #engine: Engine;
  readonly #onFailure: (error: unknown) => void;
  #latest: MemberEvent[];
  #sinceSweep = 0;

  static async load(parts: { clock: Clock; engine: Engine; onFailure: (error: unknown) => void }): Promise<EventLog> {
    const rows = await parts.engine.run((tx) =>
      tx.scan(EVENTS, EVENTS.prefix, prefixEnd(EVENTS.prefix), EVENTS_KEPT * 2),
    );
    const latest = rows.slice(-LATEST).map(({ value }) => ({
      time: value.time ?? { seconds: 0, nanos: 0 },
      kind: value.kind,
      message: value.message,
      details: value.details,
    }));
    return new EventLog(parts, latest.reverse());
  }

  private constructor(
    parts: { clock: Clock; engine: Engine; onFailure: (error: unknown) => void },
    latest: MemberEvent[],
  ) {
    this.#clock = parts.clock;
    this.#engine = parts.engine;
    this.#onFailure = parts.onFailure;
    this.#latest = latest;
  }

  /** Newest first. */
  get latest(): readonly MemberEvent[] {
    return this.#latest;
  }

  /** Does not wait for the event to be stored: whoever reports one has other work. */
  record(kind: string, message: string, details: Readonly<Record<string, string>> = {}): void {
    const event = { time: this.#clock.now(), kind, message, details };
    this.#latest = [event, ...this.#latest].slice(0, LATEST);
    const number = this.#engine.drawNumber('event');
    this.#engine
      .run((tx) => tx.put(EVENTS, { ...event, details: { ...details } }, number), { durability: 'written' })
      .catch(this.#onFailure);
    if (++this.#sinceSweep >= EVENTS_KEPT / 10) this.#sweep(number);
  }

  #sweep(newest: number): void {
    this.#sinceSweep = 0;
    const below = EVENTS.key(Math.max(0, newest - EVENTS_KEPT));
    this.#engine
      .run(
        (tx) => {
          for (const { key } of tx.scan(EVENTS, EVENTS.prefix, below, EVENTS_KEPT))
            tx.remove(EVENTS, readBigEndian(key, 1, 8));
        },
        { durability: 'written' },
      )
      .catch(this.#onFailure);
  }
}
