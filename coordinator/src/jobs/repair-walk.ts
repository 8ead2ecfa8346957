/**
 * Which notes of the order of repair are to be looked at next: all of them when the world has changed, else only those that
 * were written since. The most endangered go first, so what is new goes before the rest of a long walk.
 */
import { prefixEnd } from '../tables/table.ts';
import { REPAIR_ORDER } from '../tables/tables.ts';

/** Notes above `after` and up to `to`: whole keys. */
export interface Stretch {
  readonly after: string;
  readonly to: string;
  /** It ends with the last of all notes. */
  readonly isWhole: boolean;
}

/** More are put together: some notes are then looked at twice. */
const STRETCHES_MAX = 8;

export class RepairWalk {
  #fresh: { from: string; to: string } | undefined;
  #stretches: Stretch[] = [];

  /** A note was written. */
  noted(key: string): void {
    const { from = key, to = key } = this.#fresh ?? {};
    this.#fresh = { from: key < from ? key : from, to: key > to ? key : to };
  }

  /** From the first to the last. */
  all(): void {
    this.#fresh = undefined;
    this.#stretches = [{ after: REPAIR_ORDER.prefix, to: prefixEnd(REPAIR_ORDER.prefix), isWhole: true }];
  }

  /** Undefined: nothing is to be looked at. */
  next(): Stretch | undefined {
    if (this.#fresh !== undefined) {
      // Just below the first.
      this.#add({ after: this.#fresh.from.slice(0, -1), to: this.#fresh.to, isWhole: false });
      this.#fresh = undefined;
    }
    return this.#stretches.reduce<Stretch | undefined>(
      (first, each) => (first === undefined || each.after < first.after ? each : first),
      undefined,
    );
  }

  /** `last`: the stretch was looked at up to here; undefined: to its end. */
  looked(stretch: Stretch, last: string | undefined): void {
    this.#stretches = this.#stretches.flatMap((each) => {
      if (each !== stretch) return [each];
      return last === undefined ? [] : [{ ...each, after: last }];
    });
  }

  #add(stretch: Stretch): void {
    const parts = [...this.#stretches.filter(({ isWhole }) => !isWhole), stretch];
    const whole = this.#stretches.filter(({ isWhole }) => isWhole);
    if (parts.length < STRETCHES_MAX) this.#stretches = [...whole, ...parts];
    else {
      const after = parts.map((each) => each.after).reduce((a, b) => (a < b ? a : b));
      const to = parts.map((each) => each.to).reduce((a, b) => (a > b ? a : b));
      this.#stretches = [...whole, { after, to, isWhole: false }];
    }
  }
}
