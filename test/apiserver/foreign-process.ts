/**
 * A program that is not ours as a child process, its output in a file. It ends with whoever disposes it, and at the latest
 * with this process; what a killed test leaves is ended by the runner, which kills the whole process group.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { until } from '../until.ts';

const LOG_SHOWN_CHARACTERS = 4_000;
const END_WITHIN_MS = 30_000;

export class ForeignProcess implements AsyncDisposable {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #logFile: string;
  readonly #kill = () => this.#child.kill('SIGKILL');
  #startError: Error | undefined;

  /** `env`: beside what this process has. */
  constructor(program: string, args: readonly string[], logFile: string, env: NodeJS.ProcessEnv = {}) {
    this.name = basename(program);
    this.#logFile = logFile;
    const log = openSync(logFile, 'a');
    this.#child = spawn(program, args, { stdio: ['ignore', log, log], env: { ...process.env, ...env } });
    this.#child.once('error', (error) => {
      this.#startError = error;
    });
    closeSync(log);
    process.once('exit', this.#kill);
    this.#child.once('exit', () => process.off('exit', this.#kill));
  }

  get isRunning(): boolean {
    return this.#startError === undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get pid(): number {
    assert.ok(this.#child.pid !== undefined && this.isRunning, `${this.name} does not run`);
    return this.#child.pid;
  }

  /** The end of what it said. */
  get log(): string {
    return readFileSync(this.#logFile, 'utf8').slice(-LOG_SHOWN_CHARACTERS);
  }

  /** Waits until it answers; fails at once when it has ended. */
  async ready(answers: () => Promise<boolean>, withinMs: number): Promise<void> {
    await until(
      async () => {
        const ending = this.#startError?.message ?? this.#child.exitCode ?? this.#child.signalCode;
        assert.ok(this.isRunning, `${this.name} ended (${ending}):\n${this.log}`);
        return await answers();
      },
      `${this.name} is ready`,
      withinMs,
      () => this.log,
    );
  }

  /** Resolves when nothing of it runs. SIGTERM lets it end in order; nothing here must survive, so SIGKILL is the default. */
  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.isRunning) return;
    const ended = once(this.#child, 'exit', { signal: AbortSignal.timeout(END_WITHIN_MS) });
    this.#child.kill(signal);
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}
