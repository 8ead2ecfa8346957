/**
 * For commands that take many paths: one that fails is reported at once and does not stop the others; in the end the
 * command ends with the exit code of the first failure.
 */
import { ExitWith } from '../exit-with.ts';
import type { Shell } from '../shell.ts';
import type { GlobalOptions } from '../verb.ts';
import { isPipeClosed, reportError } from './errors.ts';

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

  add(thrown: unknown): void {
    const exit = reportError(this.#shell, thrown, {
      json: this.#globals.output === 'json',
      verbose: this.#globals.verbose,
    });
    this.#firstExit ??= exit;
  }

  end(): void {
    if (this.#firstExit !== undefined) throw new ExitWith(this.#firstExit);
  }
}
