/**
 * One server of a member as a real child process: `collective coordinator` or `collective node` under flags, its log in a
 * file. It can be killed, stopped, frozen and started again on the same ports and folder; whoever made it disposes it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SystemClock } from '@collective/base/system-clock';
import { until } from './cli-world.ts';

const MAIN = fileURLToPath(import.meta.resolve('@collective/cli/main'));
/** A deadline against hanging, not a promise: tests share the machine with others. */
const READY_WITHIN_MS = 60_000;
/** The same: what is written last is synced first, on whatever disk. */
const STOP_WITHIN = '60s';
const LOG_SHOWN_CHARACTERS = 6_000;
const clock = new SystemClock();

export interface PartOptions {
  readonly name: string;
  /** The verb and its flags, without `--health-listen`. */
  readonly args: readonly string[];
  readonly healthPort: number;
  readonly logFile: string;
  /** Settings by environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Another user than that of this process, which has to be root for it. */
  readonly uid?: number;
}

export interface Ended {
  readonly exit: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly tookMs: number;
}

export interface MemoryFigures {
  readonly residentBytes: number;
  readonly peakBytes: number;
}

export class PartProcess implements AsyncDisposable {
  readonly name: string;
  readonly #options: PartOptions;
  #child: ChildProcess | undefined;

  constructor(options: PartOptions) {
    this.name = options.name;
    this.#options = options;
    writeFileSync(options.logFile, '');
  }

  /** The same part, run by another user. */
  asUser(uid: number): PartProcess {
    return new PartProcess({ ...this.#options, uid });
  }

  /** Resolves when it answers that it is ready. */
  async start(): Promise<void> {
    this.launch();
    await this.ready();
  }

  /** Resolves at once; `ready` and `ended` tell what became of it. */
  launch(): void {
    assert.ok(!this.isRunning, `${this.name} runs already`);
    const { args, healthPort, logFile, env, uid } = this.#options;
    const log = openSync(logFile, 'a');
    // Its standard input ends with this process, however that dies: no test leaves a server behind.
    const health = ['--health-listen', `127.0.0.1:${healthPort}`, '--stop-with-stdin', '--stop-within', STOP_WITHIN];
    this.#child = spawn(process.execPath, [MAIN, ...args, ...health], {
      stdio: ['pipe', log, log],
      env: { ...process.env, ...env },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    closeSync(log);
  }

  async ready(withinMs = READY_WITHIN_MS): Promise<void> {
    let seen = 'nothing listens';
    await until(
      async () => {
        assert.ok(
          this.isRunning,
          `${this.name} ended (${this.#child?.exitCode ?? this.#child?.signalCode}):\n${this.log}`,
        );
        try {
          const answer = await fetch(`http://127.0.0.1:${this.#options.healthPort}/readyz`, {
            signal: AbortSignal.timeout(1_000),
          });
          seen = `${answer.status} ${await answer.text()}`;
          return answer.ok;
        } catch (thrown) {
          seen = String(thrown);
          return false;
        }
      },
      `${this.name} is ready`,
      withinMs,
      () => `${seen}\n${this.log}`,
    );
  }

  get healthPort(): number {
    return this.#options.healthPort;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    assert.ok(pid !== undefined && this.isRunning, `${this.name} does not run`);
    return pid;
  }

  /** SIGKILL: nothing of it runs when this resolves. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  /** SIGTERM, or another wish to end. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    const child = this.#child;
    assert.ok(child !== undefined && this.isRunning, `${this.name} does not run`);
    const startedMs = clock.bootMs();
    const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    child.kill(signal);
    const [exit, by] = await ended;
    return { exit, signal: by, tookMs: clock.bootMs() - startedMs };
  }

  /** Waits until it ends by itself. */
  async ended(withinMs: number): Promise<{ exit: number | null; log: string }> {
    await until(
      () => !this.isRunning,
      `${this.name} ends`,
      withinMs,
      () => this.log,
    );
    return { exit: this.#child?.exitCode ?? null, log: this.log };
  }

  /** Alive, with open connections, and silent. */
  freeze(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  memory(): MemoryFigures {
    return memoryOf(this.pid);
  }

  /** From now on the peak is counted anew. */
  resetPeak(): void {
    resetPeakOf(this.pid);
  }

  /** The end of what it said, over all its starts. */
  get log(): string {
    return readFileSync(this.#options.logFile, 'utf8').slice(-LOG_SHOWN_CHARACTERS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isRunning) await this.kill();
  }
}

export function memoryOf(pid: number | 'self'): MemoryFigures {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const figure = (key: string): number => {
    const kib = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
    assert.ok(kib !== undefined, `/proc/${pid}/status has ${key}`);
    return Number(kib) * 1024;
  };
  return { residentBytes: figure('VmRSS'), peakBytes: figure('VmHWM') };
}

export function resetPeakOf(pid: number | 'self'): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}
