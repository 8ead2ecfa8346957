/**
 * A person with a home of their own on this machine: runs `collective` as real processes, starts members on free ports,
 * and leaves nothing running behind.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SystemClock } from '@collective/base/system-clock';
import { run } from '@collective/cli/run';
import { testShell } from '@collective/cli/shell-for-tests';
import { until } from '../until.ts';

export { until };

const MAIN = fileURLToPath(import.meta.resolve('@collective/cli/main'));
const COMPILED = join(import.meta.dirname, '../../node_modules/.cache/collective-compiled');
/** Ports of one member: coordinator, nodes, health. */
const PORTS = [0, 1, 11, 12, 13, 31, 32, 33];
const COMMAND_WITHIN_MS = 60_000;
const clock = new SystemClock();

export interface Ran {
  readonly exit: number | null;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly stdin?: string | Buffer;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Ways to run a command and to say what is expected of it. */
abstract class Commands {
  abstract run(args: readonly string[], options?: RunOptions): Promise<Ran>;

  /** Runs and expects success; the result is what it printed. */
  async ok(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const { exit, out, err } = await this.run(args, options);
    assert.equal(exit, 0, `collective ${args.join(' ')} ended with ${exit}:\n${err}${out}`);
    return Buffer.from(out, 'latin1').toString();
  }

  /** Runs and expects this exit code and these words on stderr. */
  async fails(exit: number, says: RegExp, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const ran = await this.run(args, options);
    assert.equal(ran.exit, exit, `collective ${args.join(' ')}: ${ran.err}`);
    assert.match(ran.err, says);
    return ran;
  }
}

/** The same commands in this process: a tenth of the time, for tests that do not ask about processes. */
class CommandsHere extends Commands {
  readonly #world: CliWorld;

  constructor(world: CliWorld) {
    super();
    this.#world = world;
  }

  async run(args: readonly string[], { stdin, env = {}, cwd = this.#world.work }: RunOptions = {}): Promise<Ran> {
    const shell = testShell({ env: { ...this.#world.env, ...env }, stdin, cwd });
    const exit = await run(args, shell);
    return { exit, out: Buffer.from(shell.out()).toString('latin1'), err: shell.err() };
  }
}

export class CliWorld extends Commands implements AsyncDisposable {
  readonly home: string;
  readonly env: Record<string, string>;
  readonly here: Commands = new CommandsHere(this);
  readonly #children = new Set<ChildProcess>();
  readonly #folders: string[] = [];

  static async create(): Promise<CliWorld> {
    const home = await mkdtemp(join(tmpdir(), 'collective-cli-'));
    await mkdir(join(home, 'work'));
    return new CliWorld(home);
  }

  private constructor(home: string) {
    super();
    this.home = home;
    this.env = {
      HOME: home,
      XDG_CONFIG_HOME: join(home, 'config'),
      XDG_DATA_HOME: join(home, 'data'),
      PATH: process.env.PATH ?? '',
      TZ: 'UTC',
      // Homes are new, what Node made of the sources need not be.
      NODE_COMPILE_CACHE: COMPILED,
      // Tests share the machine with others: what is offered is tested, not how fast.
      COLLECTIVE_COMPLETION_WITHIN: '20s',
    };
  }

  get work(): string {
    return join(this.home, 'work');
  }

  async run(args: readonly string[], { stdin, env = {}, cwd = this.work }: RunOptions = {}): Promise<Ran> {
    const child = spawn(process.execPath, [MAIN, ...args], { cwd, env: { ...this.env, ...env }, stdio: 'pipe' });
    this.#children.add(child);
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (piece: Buffer) => out.push(piece));
    child.stderr.on('data', (piece: Buffer) => err.push(piece));
    // A command that does not read its input may end before it has been written.
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    const timer = clock.setTimer(COMMAND_WITHIN_MS, () => child.kill('SIGKILL'));
    const [exit] = (await once(child, 'close')) as [number | null];
    timer.cancel();
    this.#children.delete(child);
    return { exit, out: Buffer.concat(out).toString('latin1'), err: Buffer.concat(err).toString() };
  }

  /** A member in the foreground, as a person would start it in another terminal. */
  async up(args: readonly string[] = [], env: Record<string, string> = {}): Promise<UpProcess> {
    const child = spawn(process.execPath, [MAIN, 'up', ...args], {
      cwd: this.work,
      env: { ...this.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    return await UpProcess.ready(child);
  }

  async folder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'collective-data-'));
    this.#folders.push(folder);
    return folder;
  }

  dataOf(member: string): string {
    return join(this.home, 'data', 'collective', member);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const living = [...this.#children].filter((child) => child.exitCode === null && child.signalCode === null);
    for (const child of living) child.kill('SIGTERM');
    await Promise.all(
      living.map(async (child) => {
        const timer = clock.setTimer(8_000, () => child.kill('SIGKILL'));
        await once(child, 'exit');
        timer.cancel();
      }),
    );
    for (const folder of [this.home, ...this.#folders]) await rm(folder, { recursive: true, force: true });
  }
}

/** All of the welcome: it may arrive line by line. */
const WELCOMED = /Try:\n(?:.*\n)*.*collective status.*\n/;

export class UpProcess {
  readonly child: ChildProcess;
  #err = '';

  static async ready(child: ChildProcess): Promise<UpProcess> {
    const up = new UpProcess(child);
    await until(
      () => WELCOMED.test(up.#err) || up.hasEnded,
      'the member is ready',
      60_000,
      () => up.#err,
    );
    assert.ok(WELCOMED.test(up.#err), `collective up ended with ${child.exitCode}:\n${up.#err}`);
    return up;
  }

  private constructor(child: ChildProcess) {
    this.child = child;
    child.stderr?.on('data', (piece: Buffer) => {
      this.#err += piece.toString();
    });
    child.stdout?.on('data', (piece: Buffer) => {
      this.#err += piece.toString();
    });
  }

  get said(): string {
    return this.#err;
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Resolves to the exit code and how long the stop took. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<{ exit: number | null; tookMs: number }> {
    const startedMs = clock.bootMs();
    const ended = once(this.child, 'exit');
    this.child.kill(signal);
    const [exit] = (await ended) as [number | null];
    return { exit, tookMs: clock.bootMs() - startedMs };
  }
}

/**
 * Waits for the level of a command that was started, and sends it the signal then. The command stands still while it is looked
 * at: however long that takes, it does not end meanwhile.
 */
export async function signalAt(
  child: ChildProcess,
  signal: NodeJS.Signals,
  level: () => Promise<boolean>,
  what: string,
): Promise<void> {
  await until(
    async () => {
      if (child.exitCode !== null || child.signalCode !== null) return true;
      child.kill('SIGSTOP');
      try {
        const reached = await level();
        if (reached) child.kill(signal);
        return reached;
      } finally {
        child.kill('SIGCONT');
      }
    },
    what,
    COMMAND_WITHIN_MS,
  );
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (thrown) {
    assert.equal((thrown as NodeJS.ErrnoException).code, 'ESRCH');
    return false;
  }
}

export interface UpPartState {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  readonly restarts: number;
}

export async function partsOf(dataFolder: string): Promise<readonly UpPartState[]> {
  const file = join(dataFolder, 'up.json');
  if (!existsSync(file)) return [];
  return (JSON.parse(await readFile(file, 'utf8')) as { parts: UpPartState[] }).parts;
}

/**
 * A base from which all ports of a member of three nodes are free now, below the range from which the kernel takes ports for
 * outgoing connections.
 */
export async function freePortBase(): Promise<number> {
  for (let tries = 0; tries < 50; tries++) {
    const base = 10_000 + Math.floor((process.pid * 97 + tries * 613 + clock.bootMs()) % 20_000);
    const free = await Promise.all(PORTS.map((offset) => isFree(base + offset)));
    if (free.every(Boolean)) return base;
  }
  throw new Error('Find free ports for a member: none in 50 tries');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
