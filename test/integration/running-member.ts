/**
 * A member of real processes for tests: temporary folder, free ports, certificates, one coordinator and some nodes, each
 * of which can be killed and started again. Disposing it ends them all. When a test fails, `printLogs` shows what they said.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { type ConnectOptions, connect, connectAdmin, type Member, type MemberStatus } from '@collective/client';
import { initialiseMember } from '@collective/coordinator/bootstrap';
import { until } from './cli-world.ts';
import { freePorts } from './free-ports.ts';
import { PartProcess } from './part-process.ts';

/** Against hanging, not a promise: tests share the machine with others. */
const CONNECTED_WITHIN_MS = 60_000;
const STATUS_WITHIN_MS = 30_000;
const clock = new SystemClock();
const random = new SystemRandom();

export interface NodeSpec {
  readonly name: string;
  /** Default 20GiB. */
  readonly capacity?: string;
  /** Further flags. */
  readonly flags?: readonly string[];
}

export interface MemberSpec {
  readonly member?: string;
  readonly collective?: string;
  /** Default: two, node-1 and node-2. */
  readonly nodes?: readonly NodeSpec[];
  /** Their processes are started; default true. */
  readonly launched?: boolean;
}

export class RunningMember implements AsyncDisposable {
  readonly name: string;
  readonly trustDomain: string;
  readonly folder: string;
  readonly coordinator: PartProcess;
  readonly coordinatorPort: number;
  readonly nodes: readonly PartProcess[];
  readonly nodePorts: ReadonlyMap<string, number>;
  readonly #stack: AsyncDisposableStack;

  static async start(spec: MemberSpec = {}): Promise<RunningMember> {
    const { member = 'alice', collective = 'home', launched = true } = spec;
    const nodes = spec.nodes ?? [{ name: 'node-1' }, { name: 'node-2' }];
    await using stack = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), `collective-${member}-`));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    await mkdir(join(folder, 'logs'));
    await initialiseMember({
      dataFolder: join(folder, 'coordinator'),
      member,
      collective,
      nodes: nodes.map(({ name }) => ({ name, trustFolder: join(folder, name, 'tls') })),
      user: { name: 'ann', trustFolder: join(folder, 'ann') },
      clock,
      random,
    });
    const ports = await freePorts(2 + 2 * nodes.length);
    const running = new RunningMember(member, collective, folder, nodes, ports, stack.move());
    if (!launched) return running;
    try {
      await Promise.all([running.coordinator, ...running.nodes].map((part) => part.start()));
      return running;
    } catch (error) {
      await running[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    member: string,
    collective: string,
    folder: string,
    nodes: readonly NodeSpec[],
    ports: readonly number[],
    stack: AsyncDisposableStack,
  ) {
    const port = (index: number): number => ports[index] ?? 0;
    this.name = member;
    this.trustDomain = `${member}.${collective}`;
    this.folder = folder;
    this.#stack = stack;
    this.coordinatorPort = port(0);
    this.coordinator = stack.use(
      new PartProcess({
        name: 'coordinator',
        args: [
          ...['coordinator', '--member', member, '--collective', collective],
          ...['--data', join(folder, 'coordinator'), '--listen', `127.0.0.1:${port(0)}`],
        ],
        healthPort: port(1),
        logFile: join(folder, 'logs', 'coordinator'),
      }),
    );
    this.nodePorts = new Map(nodes.map(({ name }, i) => [name, port(2 + 2 * i)]));
    this.nodes = nodes.map(({ name, capacity = '20GiB', flags = [] }, i) =>
      stack.use(
        new PartProcess({
          name,
          args: [
            ...['node', '--coordinator', `127.0.0.1:${port(0)}`, '--data', join(folder, name), '--capacity', capacity],
            ...['--listen', `127.0.0.1:${port(2 + 2 * i)}`, ...flags],
          ],
          healthPort: port(3 + 2 * i),
          logFile: join(folder, 'logs', name),
        }),
      ),
    );
  }

  get parts(): readonly PartProcess[] {
    return [this.coordinator, ...this.nodes];
  }

  node(name: string): PartProcess {
    const found = this.nodes.find((node) => node.name === name);
    if (found === undefined) throw new RangeError(`There is no node ${name}`);
    return found;
  }

  /** The first user: administrator, trusted. Everything of her session is closed with the member. */
  async connect(change: Partial<ConnectOptions> = {}): Promise<Member> {
    const session = await connect(this.connectOptions(change), { signal: AbortSignal.timeout(CONNECTED_WITHIN_MS) });
    this.#stack.use(session);
    return session;
  }

  connectOptions(change: Partial<ConnectOptions> = {}): ConnectOptions {
    return {
      coordinator: `127.0.0.1:${this.coordinatorPort}`,
      trustDomain: this.trustDomain,
      credentials: join(this.folder, 'ann'),
      ...change,
    };
  }

  async status(): Promise<MemberStatus> {
    using connected = await connectAdmin(this.connectOptions());
    return await connected.admin.status({ signal: AbortSignal.timeout(STATUS_WITHIN_MS) });
  }

  /** Waits for a level of the member's status. */
  async untilStatus(level: (status: MemberStatus) => boolean, what: string, withinMs: number): Promise<MemberStatus> {
    let last: MemberStatus | undefined;
    let failure: unknown;
    await until(
      async () => {
        try {
          last = await this.status();
        } catch (thrown) {
          failure = thrown;
          return false;
        }
        return level(last);
      },
      what,
      withinMs,
      () => (last === undefined ? String(failure) : describeStatus(last)),
    );
    return last as MemberStatus;
  }

  /** The node serves this start of the coordinator, and refuses tokens of those before: it counts as ready a moment before it has noted that. */
  async untilFollows(name: string, withinMs: number): Promise<void> {
    const { epoch } = await this.untilStatus(
      ({ nodes }) => nodes.some((node) => node.name === name && node.state === 'ready'),
      `${name} follows this coordinator`,
      withinMs,
    );
    const node = this.node(name);
    const noted = new RegExp(`"epoch":{"generation":${epoch.generation},"start":${epoch.start}}.*registered with`);
    await until(
      () => noted.test(node.log),
      `${name} has noted epoch ${epoch.start}`,
      withinMs,
      () => node.log,
    );
  }

  /** For `afterEach`: what the parts said, for the reader of a failed test. */
  printLogs(test: object): void {
    if (!('passed' in test) || test.passed === true) return;
    for (const part of this.parts) console.error(`--- ${this.name} ${part.name}\n${part.log}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Sessions would wait for a coordinator that was killed or frozen.
    for (const part of this.parts) if (part.isRunning) part.thaw();
    await this.#stack.disposeAsync();
  }
}

export function describeStatus({ nodes, replication, sessions, epoch }: MemberStatus): string {
  return JSON.stringify(
    {
      nodes: nodes.map(({ name, state, chunks, freeBytes }) => ({ name, state, chunks, freeBytes })),
      replication,
      sessions,
      epoch,
    },
    undefined,
    1,
  );
}
