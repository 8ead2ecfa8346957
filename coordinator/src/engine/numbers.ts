/**
 * Numbers that are never given twice (M2a): a kind's numbers come from a range that a stable batch reserved, and each
 * start begins above all that was ever reserved, so a lost tail of the log cannot bring a number back.
 */
import { CollectiveError } from '@collective/base/errors';
import type { LogPosition } from '@collective/base/ids';

export type NumberKind = 'inode' | 'session' | 'fence' | 'promise' | 'event';

const RESERVE: Readonly<Record<NumberKind, number>> = {
  inode: 1 << 16,
  session: 1 << 12,
  fence: 1 << 14,
  promise: 1 << 20,
  event: 1 << 12,
};
/** The root inode is 1; small numbers stay free for the kernel's and our own reserved inodes. */
const FIRST: Readonly<Record<NumberKind, number>> = { inode: 1024, session: 1, fence: 1, promise: 1, event: 1 };

interface Range {
  /** Lowest number of this start. */
  readonly first: number;
  next: number;
  /** Numbers below are reserved by a stable batch. */
  usableTo: number;
  /** Numbers below are reserved by a batch that may not be stable yet. */
  reservedTo: number;
}

export class NumberRanges {
  readonly #ranges = new Map<NumberKind, Range>();
  #pending: { kind: NumberKind; to: number; position: LogPosition }[] = [];

  /** `reservedTo` as the log has it: numbers below may have been given in an earlier start. */
  constructor(reservedTo: ReadonlyMap<string, number>) {
    for (const kind of Object.keys(RESERVE) as NumberKind[]) {
      const next = Math.max(FIRST[kind], reservedTo.get(kind) ?? 0);
      this.#ranges.set(kind, { first: next, next, usableTo: next, reservedTo: next });
    }
  }

  draw(kind: NumberKind): number {
    const range = this.#range(kind);
    if (range.next >= range.usableTo)
      throw new CollectiveError(
        'overloaded',
        `Draw a new ${kind} number: the reserved range is used up faster than the log can extend it`,
      );
    return range.next++;
  }

  /** Whether the next batch should extend the range, also when nothing else is to be written. */
  isLow(kind: NumberKind): boolean {
    const range = this.#range(kind);
    return range.reservedTo - range.next < RESERVE[kind] / 2;
  }

  /** Whether an earlier start may have given the number. */
  gavePreviously(kind: NumberKind, number: number): boolean {
    return number >= FIRST[kind] && number < this.#range(kind).first;
  }

  /** Reservations that should be part of the batch at `position`: those that are half used up. */
  extend(position: LogPosition): { kind: NumberKind; reservedTo: number }[] {
    const extended: { kind: NumberKind; reservedTo: number }[] = [];
    for (const [kind, range] of this.#ranges) {
      if (!this.isLow(kind)) continue;
      range.reservedTo += RESERVE[kind];
      this.#pending.push({ kind, to: range.reservedTo, position });
      extended.push({ kind, reservedTo: range.reservedTo });
    }
    return extended;
  }

  stable(position: LogPosition): void {
    while (this.#pending[0] !== undefined && this.#pending[0].position <= position) {
      const done = this.#pending.shift();
      if (done !== undefined) this.#range(done.kind).usableTo = done.to;
    }
  }

  #range(kind: NumberKind): Range {
    const range = this.#ranges.get(kind);
    if (range === undefined) throw new CollectiveError('internal', `Draw a number of the unknown kind ${kind}`);
    return range;
  }
}
