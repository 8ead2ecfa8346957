/**
 * One part of the member as a child process: started, watched, started again by the policy, stopped within a deadline.
 *
 * The child has its own process group, so that Ctrl-C on the terminal reaches the supervisor alone and the order of
 * stopping is ours. Its standard input is a pipe from us: when we die, however we die, the pipe ends and the child stops.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { type Clock, sleep, type Timer } from '@collective/base/clock';
import { CollectiveError, isErrorCode } from '@collective/base/errors';
import type { PartPorts } from './layout.ts';
import { type PartEnd, RestartPolicy } from './restart-policy.ts';
import type { RotatingLog } from './rotating-log.ts';

/** Shorter than the five seconds that all parts together have. */
const STOP_WITHIN_MS = 4_000;

export interface PartCommand {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly ports: PartPorts;
}

export interface PartEvents {
  started(pid: number): void;
  /** It ended by itself and will be started again. */
  restarting(end: PartEnd, afterMs: number): void;
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

export class Part {
  readonly command: PartCommand;
  readonly #clock: Clock;
  readonly #log: RotatingLog;
  readonly #events: PartEvents;
  readonly #policy = new RestartPolicy();
  readonly #stopping = new AbortController();
  #child: Child | undefined;
  #restarts = 0;
  #wasReady = false;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(command: PartCommand, clock: Clock, log: RotatingLog, events: PartEvents) {
    this.command = command;
    this.#clock = clock;
    this.#log = log;
    this.#events = events;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get restarts(): number {
    return this.#restarts;
  }

  markReady(): void {
    this.#wasReady = true;
  }

  /** Keeps it running until `stop`; rejects when it has to be given up. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const startedMs = this.#clock.bootMs();
      const exit = await this.#runOnce();
      if (signal.aborted) return;
      const end: PartEnd = { exit, ranMs: this.#clock.bootMs() - startedMs, wasReady: this.#wasReady };
      const decision = this.#policy.decide(end);
      if (decision.action === 'give-up') throw this.#reason(decision.why);
      this.#events.restarting(end, decision.afterMs);
      this.#restarts++;
      await sleep(this.#clock, decision.afterMs, signal).catch((thrown: unknown) => {
        if (!signal.aborted) throw thrown;
      });
    }
  }

  /** Asks it to stop, and ends it by force after a while. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child === undefined) return;
    child.kill('SIGTERM');
    const force: Timer = this.#clock.setTimer(STOP_WITHIN_MS, () => child.kill('SIGKILL'));
    try {
      await this.#ended;
    } finally {
      force.cancel();
    }
  }

  async #runOnce(): Promise<number | undefined> {
    const { program, args, env, cwd } = this.command;
    const child = spawn(program, args, { cwd, env: { ...env }, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    // A pipe that breaks because the child is gone tells nothing new.
    child.stdin.on('error', () => undefined);
    const ended = new Promise<number | undefined>((resolve, reject) => {
      child.once('error', (cause) =>
        reject(new CollectiveError('internal', `Start ${program} for ${this.command.name}`, { cause })),
      );
      child.once('close', (code) => resolve(code ?? undefined));
    });
    this.#ended = ended.catch(() => undefined);
    if (child.pid !== undefined) this.#events.started(child.pid);
    const drained = Promise.all([this.#log.drain(child.stdout), this.#log.drain(child.stderr)]);
    try {
      const exit = await ended;
      await drained;
      return exit;
    } finally {
      this.#child = undefined;
    }
  }

  /** The child's own error if it said one (its last line of JSON with `error`), else how it ended. */
  #reason(why: string): CollectiveError {
    const { name } = this.command;
    for (const line of [...this.#log.lastLines()].reverse()) {
      const said = errorOf(line);
      if (said !== undefined)
        return new CollectiveError(said.code, `Run ${name}: ${said.message}`, { cause: said.cause });
    }
    return new CollectiveError(
      'internal',
      `Run ${name}: ${why}; its log ends: ${this.#log.lastLines().slice(-3).join(' | ')}`,
    );
  }
}

function errorOf(line: string): { code: CollectiveError['code']; message: string; cause?: Error } | undefined {
  if (!line.startsWith('{"error":')) return undefined;
  const { error } = JSON.parse(line) as { error: { code: string; message: string; causes?: string[] } };
  if (!isErrorCode(error.code)) return undefined;
  const [first] = error.causes ?? [];
  return { code: error.code, message: error.message, cause: first === undefined ? undefined : new Error(first) };
}
