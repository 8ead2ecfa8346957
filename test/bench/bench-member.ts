/** A member of real processes for benchmarks, started by the command that people use, in a folder that goes with it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { type ConnectOptions, connect, type Member } from '@collective/client';
import { GrpcSessionConnector } from '@collective/client/grpc-session-connector';
import { Session } from '@collective/client/session/session';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { TrustFiles } from '@collective/protocol/tls/trust-files';

const run = promisify(execFile);
const COLLECTIVE = resolve(import.meta.dirname, '../../cli/bin/collective');
const PORTS_WANTED = 64;

export class BenchMember implements AsyncDisposable {
  readonly folder: string;
  readonly connection: ConnectOptions;
  readonly #portBase: number;

  static async start(options: { nodes?: number; capacity?: string } = {}): Promise<BenchMember> {
    const folder = await mkdtemp(join(tmpdir(), 'collective-bench-'));
    const member = new BenchMember(folder, await freePortBase());
    await member.up(options);
    return member;
  }

  private constructor(folder: string, portBase: number) {
    this.folder = folder;
    this.#portBase = portBase;
    this.connection = {
      coordinator: `127.0.0.1:${portBase}`,
      trustDomain: 'bench.home',
      credentials: join(folder, 'data', 'user'),
    };
  }

  async up({ nodes = 2, capacity = '60GiB' }: { nodes?: number; capacity?: string } = {}): Promise<void> {
    const args = ['up', '--detach', '--member', 'bench', '--data', this.#data, '--port-base', String(this.#portBase)];
    await this.#collective([...args, '--nodes', String(nodes), '--capacity', capacity]);
  }

  async down(): Promise<void> {
    await this.#collective(['down', '--data', this.#data]);
  }

  connect(): Promise<Member> {
    return connect(this.connection);
  }

  /** One bare session, as a mount would hold it. */
  async session(): Promise<Session & AsyncDisposable> {
    const clock = new SystemClock();
    const trust = await TrustFiles.load(this.connection.credentials, { clock });
    const expected = { trustDomain: parseTrustDomain('bench.home'), role: 'coordinator' } as const;
    const connector = new GrpcSessionConnector({ address: this.connection.coordinator, expected, trust, clock });
    return await Session.attach({
      clock,
      random: new SystemRandom(),
      connector,
      program: 'bench',
      listener: 'internal',
    });
  }

  /** Memory of the coordinator's process that is resident now, in bytes. */
  async coordinatorMemoryBytes(): Promise<number> {
    return (await this.#coordinator()).residentBytes;
  }

  /** Processor time of the coordinator since its start: unlike the clock it does not know who else is at work. */
  async coordinatorCpuSeconds(): Promise<number> {
    return (await this.#coordinator()).cpuSeconds;
  }

  async #coordinator(): Promise<ProcessStatus> {
    const { stdout } = await run('pgrep', ['-f', `coordinator .*${this.#data}`]).catch(() =>
      run('pgrep', ['-f', this.#data]),
    );
    const sizes = await Promise.all(
      stdout
        .trim()
        .split('\n')
        .map(async (pid) => ({ pid, ...(await statusOf(pid)) })),
    );
    return sizes.find(({ command }) => / coordinator\b/.test(command)) ?? NO_PROCESS;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
    // A part that has just ended may still write what Node compiled.
    await rm(this.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  }

  get #data(): string {
    return join(this.folder, 'data');
  }

  /** The command as a person types it, on this member. */
  spawnCommand(args: readonly string[]): ChildProcess {
    return spawn(COLLECTIVE, [...args], { env: this.#environment, stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async #collective(args: readonly string[]): Promise<void> {
    await run(COLLECTIVE, [...args], { env: this.#environment, maxBuffer: 16 * 1024 * 1024 });
  }

  get #environment(): NodeJS.ProcessEnv {
    return { ...process.env, HOME: this.folder, XDG_CONFIG_HOME: join(this.folder, 'config') };
  }
}

interface ProcessStatus {
  readonly command: string;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
}

const NO_PROCESS: ProcessStatus = { command: '', residentBytes: 0, cpuSeconds: 0 };
/** Linux: USER_HZ. */
const TICKS_PER_SECOND = 100;

async function statusOf(pid: string): Promise<ProcessStatus> {
  try {
    const [command, status, stat] = await Promise.all([
      readFile(`/proc/${pid}/cmdline`, 'utf8'),
      readFile(`/proc/${pid}/status`, 'utf8'),
      readFile(`/proc/${pid}/stat`, 'utf8'),
    ]);
    // After the name, which may hold blanks: user and system time are fields 14 and 15 of the whole.
    const [user = 0, system = 0] = (stat.split(') ')[1] ?? '').split(' ').slice(11, 13).map(Number);
    return {
      command: command.replaceAll('\0', ' '),
      residentBytes: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024,
      cpuSeconds: (user + system) / TICKS_PER_SECOND,
    };
  } catch (thrown) {
    // A process that ended between the listing and the look is not the one that is meant.
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT' || (thrown as NodeJS.ErrnoException).code === 'ESRCH')
      return NO_PROCESS;
    throw thrown;
  }
}

/** A base from which the ports of a member are free. */
async function freePortBase(): Promise<number> {
  for (let base = 18_000; base < 30_000; base += PORTS_WANTED) {
    const free = await Promise.all([0, 1, 11, 12, 31, 32].map((offset) => isFree(base + offset)));
    if (free.every(Boolean)) return base;
  }
  throw new Error('No free ports for a member');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const probe = createServer();
    probe.once('error', () => done(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => done(true)));
  });
}
