/**
 * What happened that a person should know: a lost disk, a file whose block reverted, a node that went away. Kept in the
 * store, newest 10,000; the latest are in memory for status.
 */
import type { Clock, Timestamp } from '@collective/base/clock';
import type { Engine } from '../engine/engine.ts';
import type { EventRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { EVENTS } from '../tables/tables.ts';

export interface MemberEvent {
  readonly time: Timestamp;
  /** Stable word for programs, as 'disk-lost'. */
  readonly kind: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string>>;
}

export interface EventQuery {
  readonly before: number | undefined;
  readonly limit: number;
  /** Empty: all. */
  readonly kind: string;
}

export interface EventPage {
  readonly events: readonly (MemberEvent & { readonly number: number })[];
  readonly end: boolean;
}

export const EVENTS_KEPT = 10_000;
/** Swept after each tenth of them, so that there are never so many. */
const SCANNED_MAX = EVENTS_KEPT * 1.5;
export const EVENTS_PAGE_MAX = 1_000;
const LATEST = 20;

export class EventLog {
  readonly #clock: Clock;
  readonly #engine: Engine;
  readonly #onFailure: (error: unknown) => void;
  #latest: MemberEvent[];
  #sinceSweep = 0;

  static async load(parts: { clock: Clock; engine: Engine; onFailure: (error: unknown) => void }): Promise<EventLog> {
    const rows = await parts.engine.run((tx) => tx.scan(EVENTS, EVENTS.prefix, prefixEnd(EVENTS.prefix), SCANNED_MAX));
    const latest = rows.slice(-LATEST).map(({ value }) => eventOf(value));
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

  /** Newest first, numbered below `before`; `kind`: only these. */
  async page({ before, limit, kind }: EventQuery): Promise<EventPage> {
    const to = before === undefined ? prefixEnd(EVENTS.prefix) : EVENTS.key(before);
    // Numbers have gaps, so that a page cannot be found by counting; all together are some MiB at most.
    const rows = await this.#engine.run((tx) => tx.scan(EVENTS, EVENTS.prefix, to, SCANNED_MAX));
    const asked = rows.filter(({ value }) => kind === '' || value.kind === kind);
    const events = asked.slice(-limit).reverse();
    return {
      events: events.map(({ key, value }) => ({ number: readBigEndian(key, 1, 8), ...eventOf(value) })),
      end: events.length === asked.length,
    };
  }

  /** Does not wait for the event to be stored: whoever reports one has other work. */
  record(kind: string, message: string, details: Readonly<Record<string, string>> = {}): void {
    const event = { time: this.#clock.now(), kind, message, details };
    this.#latest = [event, ...this.#latest].slice(0, LATEST);
    const number = this.#engine.drawNumber('event');
    this.#engine
      .run((tx) => tx.put(EVENTS, { ...event, details: { ...details } }, number), { durability: 'written' })
      .catch(this.#onFailure);
    if (++this.#sinceSweep >= EVENTS_KEPT / 10) this.#sweep();
  }

  /** By count: numbers have gaps, one at every start. */
  #sweep(): void {
    this.#sinceSweep = 0;
    this.#engine
      .run(
        (tx) => {
          const rows = tx.scan(EVENTS, EVENTS.prefix, prefixEnd(EVENTS.prefix), SCANNED_MAX);
          for (const { key } of rows.slice(0, Math.max(0, rows.length - EVENTS_KEPT)))
            tx.remove(EVENTS, readBigEndian(key, 1, 8));
        },
        { durability: 'written' },
      )
      .catch(this.#onFailure);
  }
}

function eventOf({ time, kind, message, details }: EventRow): MemberEvent {
  return { time: time ?? { seconds: 0, nanos: 0 }, kind, message, details };
}
