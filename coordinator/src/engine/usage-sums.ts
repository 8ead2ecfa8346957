/**
 * Bytes and inodes that each realm uses (M9): sums in memory, kept beside the view. Changes commute, so that sessions which
 * work in one realm do not wait for each other's batches as readers of a common row would (M4).
 */
import type { UsageRow } from '../tables/gen/tables.ts';

export type UsageChange = UsageRow;

export const NO_USAGE: Readonly<UsageRow> = { bytes: 0, inodes: 0, directories: 0, trashBytes: 0, trashInodes: 0 };

export class UsageSums {
  readonly #sums: Map<number, UsageRow>;

  constructor(sums: ReadonlyMap<number, UsageRow>) {
    this.#sums = new Map(sums);
  }

  of(realm: number): UsageRow {
    return this.#sums.get(realm) ?? NO_USAGE;
  }

  /** Over all realms. */
  get total(): UsageRow {
    return [...this.#sums.values()].reduce(sum, NO_USAGE);
  }

  add(realm: number, change: UsageChange): void {
    this.#sums.set(realm, sum(this.of(realm), change));
  }
}

export function sum(a: UsageChange, b: UsageChange): UsageChange {
  return {
    bytes: a.bytes + b.bytes,
    inodes: a.inodes + b.inodes,
    directories: a.directories + b.directories,
    trashBytes: a.trashBytes + b.trashBytes,
    trashInodes: a.trashInodes + b.trashInodes,
  };
}
