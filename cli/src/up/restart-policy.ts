/**
 * When a part that ended by itself is started again: soon at first, then slower; never when its end says that a new
 * start would end the same way; and not for ever, so that a broken disk does not become a busy loop. A full one is waited
 * for. Pure.
 */
import { SERVER_EXIT } from '@collective/base/lifecycle';

export interface PartEnd {
  /** Exit code; undefined: ended by a signal. */
  readonly exit: number | undefined;
  /** How long it had run. */
  readonly ranMs: number;
  /** Whether it was ever ready since the supervisor began. */
  readonly wasReady: boolean;
}

export type RestartDecision =
  | { readonly action: 'restart'; readonly afterMs: number }
  | { readonly action: 'give-up'; readonly why: string };

const FIRST_WAIT_MS = 250;
const WAIT_MS_MAX = 15_000;
/** After so long the next end counts as the first again. */
const CALM_AFTER_MS = 60_000;
const ENDS_IN_A_ROW_MAX = 8;

/** Somebody may make room at any time. */
const NO_ROOM_EXIT = SERVER_EXIT.noSpace;
/** Exit codes of the catalogue that another start cannot cure: usage, not found, denied, damaged data. */
const HOPELESS_EXITS = [2, 3, 4, 7];

export class RestartPolicy {
  #inARow = 0;

  decide({ exit, ranMs, wasReady }: PartEnd): RestartDecision {
    if (ranMs >= CALM_AFTER_MS) this.#inARow = 0;
    this.#inARow++;
    if (exit !== undefined && HOPELESS_EXITS.includes(exit)) {
      return { action: 'give-up', why: `it ended with exit code ${exit}, which a new start would not cure` };
    }
    // Before it ever worked, a plain failure is a matter of setup: the person is there to read it.
    if (!wasReady && exit !== undefined && exit > 0 && exit < 8) {
      return { action: 'give-up', why: `it did not start (exit code ${exit})` };
    }
    if (this.#inARow > ENDS_IN_A_ROW_MAX && exit !== NO_ROOM_EXIT) {
      return { action: 'give-up', why: `it ended ${this.#inARow} times in a row` };
    }
    return { action: 'restart', afterMs: Math.min(WAIT_MS_MAX, FIRST_WAIT_MS * 2 ** (this.#inARow - 1)) };
  }
}
