/**
 * What happened that a person should know: a lost disk, a file whose block reverted, a node that went away. Kept in the
 * store, newest 10,000; the latest are in memory for status.
 *
 * What is too much goes at each start and after each thousand of a life: most lives see fewer. Reads go through all rows in
 * pages and keep the last, so that however many older ones there are, none hides the newest.
 */
import type { Clock, Timestamp } from '@collective/base/clock';
import type { Engine } from '../engine/engine.ts';
import type { Row, Transaction } from '../engine/transaction.ts';
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
const SWEEP_AFTER = EVENTS_KEPT / 10;
/** Rows of one read, and of one removal. */
const PAGE_ROWS = 4_096;
export const EVENTS_PAGE_MAX = 1_000;
const LATEST = 20;

export class EventLog {
  readonly #clock: Clock;
  readonly #engine: Engine;
  readonly #onFailure: (error: unknown) => void;
  #latest: MemberEvent[] = [];
  #sinceSweep = 0;

  static async load(parts: { clock: Clock; engine: Engine; onFailure: (error: unknown) => void }): Promise<EventLog> {
    const log = new EventLog(parts);
    log.#latest = (await log.#newestRows(LATEST)).map(({ value }) => eventOf(value)).reverse();
    await log.#sweep();
    return log;
  }

  private constructor(parts: { clock: Clock; engine: Engine; onFailure: (error: unknown) => void }) {
    this.#clock = parts.clock;
    this.#engine = parts.engine;
    this.#onFailure = parts.onFailure;
  }

  /** Newest first. */
  get latest(): readonly MemberEvent[] {
    return this.#latest;
  }

  /** Newest first, numbered below `before`; `kind`: only these. */
  async page({ before, limit, kind }: EventQuery): Promise<EventPage> {
    // One more than is answered tells whether there are older ones.
    const rows = await this.#newestRows(limit + 1, before, (row) => kind === '' || row.kind === kind);
    return {
      events: rows
        .slice(-limit)
        .reverse()
        .map(({ key, value }) => ({ number: numberOf(key), ...eventOf(value) })),
      end: rows.length <= limit,
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
    if (++this.#sinceSweep >= SWEEP_AFTER) void this.#sweep();
  }

  /** Oldest first: the last `count` of those below `before` that are wanted. */
  async #newestRows(
    count: number,
    before?: number,
    isWanted: (row: EventRow) => boolean = () => true,
  ): Promise<Row<EventRow>[]> {
    let newest: Row<EventRow>[] = [];
    for await (const page of this.#pages(before))
      newest = [...newest, ...page.filter(({ value }) => isWanted(value))].slice(-count);
    return newest;
  }

  /** By count: numbers have gaps, one at every start. Never more at once than a page, however many have gathered. */
  async #sweep(): Promise<void> {
    this.#sinceSweep = 0;
    const kept: number[] = [];
    try {
      for await (const page of this.#pages()) {
        kept.push(...page.map(({ key }) => numberOf(key)));
        const old = kept.splice(0, Math.max(0, kept.length - EVENTS_KEPT));
        const remove = (tx: Transaction): void => {
          for (const number of old) tx.remove(EVENTS, number);
        };
        if (old.length > 0) await this.#engine.run(remove, { durability: 'written' });
      }
    } catch (error) {
      this.#onFailure(error);
    }
  }

  /** All rows in the order of their numbers, up to `before`. */
  async *#pages(before?: number): AsyncGenerator<Row<EventRow>[], void, undefined> {
    const to = before === undefined ? prefixEnd(EVENTS.prefix) : EVENTS.key(before);
    for (let from = EVENTS.prefix; ; ) {
      const start = from;
      const page = await this.#engine.run((tx) => tx.scan(EVENTS, start, to, PAGE_ROWS));
      yield page;
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE_ROWS) return;
      from = `${last.key}\0`;
    }
  }
}

function numberOf(key: string): number {
  return readBigEndian(key, EVENTS.prefix.length, 8);
}

function eventOf({ time, kind, message, details }: EventRow): MemberEvent {
  return { time: time ?? { seconds: 0, nanos: 0 }, kind, message, details };
}
