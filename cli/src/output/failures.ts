/**
 * For commands that take many paths: one that fails is reported at once and does not stop the others; in the end the
 * command ends with the exit code of the first failure.
 */
import { ExitWith } from '../exit-with.ts';
import type { Shell } from '../shell.ts';
import { errorOutputOf, type GlobalOptions } from '../verb.ts';
import { reportError } from './errors.ts';
import { isPipeClosed } from './pipe-closed.ts';

export class Failures {
  readonly #shell: Shell;
  readonly #globals: GlobalOptions;
  readonly #signal: AbortSignal;
  #firstExit: number | undefined;

  constructor(shell: Shell, globals: GlobalOptions, signal: AbortSignal) {
    this.#shell = shell;
    this.#globals = globals;
    this.#signal = signal;
  }

  /** Runs one item. Interruption and a closed pipe end the whole command. */
  async collect(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (thrown) {
      if (this.#signal.aborted || isPipeClosed(thrown)) throw thrown;
      this.add(thrown);
    }
  }

  /**
   * Passes on what comes until it fails; what failed is reported as one item. With `alone` a failure before the first is
   * thrown: there is nothing else to show, not even an empty list.
   */
  async *skim<Item>(
    items: AsyncIterable<Item>,
    { alone = false }: { alone?: boolean } = {},
  ): AsyncGenerator<Item, void, undefined> {
    let count = 0;
    try {
      for await (const item of items) {
        count++;
        yield item;
      }
    } catch (thrown) {
      if (this.#signal.aborted || isPipeClosed(thrown) || (alone && count === 0)) throw thrown;
      this.add(thrown);
    }
  }

  /** What each of these gives, one after the other. One alone that fails is the command's failure. */
  async *outcomes<Outcome>(asks: readonly (() => Promise<Outcome>)[]): AsyncGenerator<Outcome, void, undefined> {
    for (const ask of asks) {
      const one = async function* (): AsyncGenerator<Outcome> {
        yield await ask();
      };
      yield* this.skim(one(), { alone: asks.length === 1 });
    }
  }

  add(thrown: unknown): void {
    const exit = reportError(this.#shell, thrown, errorOutputOf(this.#globals));
    this.#firstExit ??= exit;
  }

  end(): void {
    if (this.#firstExit !== undefined) throw new ExitWith(this.#firstExit);
  }
}
